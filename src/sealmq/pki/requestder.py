"""The one repair of a certificate request before it is parsed: NULL parameters where none may stand.

It knows just enough of DER (X.690) to take a request apart into its three parts and put them together again.
"""

from __future__ import annotations

_SEQUENCE, _OID, _NULL = 0x30, 0x06, b"\x05\x00"
_ECDSA_WITH_SHA = bytes.fromhex("2a8648ce3d0403")  # 1.2.840.10045.4.3, the last arc (1 to 4) names the hash


def without_null_parameters(der: bytes) -> bytes:
    """`der` with the NULL behind an ECDSA signature algorithm left out; anything else is given back as it is.

    RFC 5758, section 3.2: the parameters MUST be absent. The AlgorithmIdentifier of a request stands outside of what
    is signed (RFC 2986, section 4.2), so that the proof of possession stays what it was.
    """
    whole = _element(der, 0)
    if whole is None or whole != (_SEQUENCE, whole[1], len(der)):
        return der
    info = _element(der, whole[1])
    algorithm = _element(der, info[2]) if info else None
    if info is None or algorithm is None or algorithm[0] != _SEQUENCE:
        return der
    oid = _element(der, algorithm[1])
    if oid is None or oid[0] != _OID or der[oid[2] : algorithm[2]] != _NULL:
        return der
    if not der[oid[1] : oid[2]].startswith(_ECDSA_WITH_SHA):
        return der
    mended = _wrap(der[algorithm[1] : oid[2]])
    return _wrap(der[whole[1] : info[2]] + mended + der[algorithm[2] :])


def _element(der: bytes, start: int) -> tuple[int, int, int] | None:
    """The tag at `start`, where its content begins and where it ends; None when it does not fit into `der`."""
    if start + 2 > len(der):
        return None
    length, content = der[start + 1], start + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or content + count > len(der):
            return None
        length = int.from_bytes(der[content : content + count], "big")
        content += count
    return (der[start], content, content + length) if content + length <= len(der) else None


def _wrap(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([_SEQUENCE, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([_SEQUENCE, 0x80 | len(length)]) + length + content
