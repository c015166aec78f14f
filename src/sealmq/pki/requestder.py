"""The one repair of a certificate request before it is parsed: NULL parameters where none may stand.

It knows nothing of what a request asks for.
"""

from __future__ import annotations

from sealmq.pki.der import OID, SEQUENCE, children, element, wrap

_NULL = b"\x05\x00"
_ECDSA_WITH_SHA = bytes.fromhex("2a8648ce3d0403")  # 1.2.840.10045.4.3, the last arc (1 to 4) names the hash


def without_null_parameters(der: bytes) -> bytes:
    """`der` with the NULL behind an ECDSA signature algorithm left out; anything else is given back as it is.

    RFC 5758, section 3.2: the parameters MUST be absent. The AlgorithmIdentifier of a request stands outside of what
    is signed (RFC 2986, section 4.2), so that the proof of possession stays what it was.
    """
    whole = element(der, 0)
    parts = children(der, whole) if whole is not None and whole.tag == SEQUENCE and whole.end == len(der) else []
    if len(parts) != 3 or parts[1].tag != SEQUENCE:
        return der
    info, algorithm, signature = parts
    fields = children(der, algorithm)
    if len(fields) != 2 or fields[0].tag != OID or der[fields[1].start : fields[1].end] != _NULL:
        return der
    oid = fields[0]
    if not der[oid.begin : oid.end].startswith(_ECDSA_WITH_SHA):
        return der
    mended = wrap(SEQUENCE, der[oid.start : oid.end])
    return wrap(SEQUENCE, der[info.start : info.end] + mended + der[signature.start : signature.end])
