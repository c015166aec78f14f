"""The one repair of an EC private key before it is parsed: a scalar that has not the length of its curve.

It knows nothing of passphrases: a key under one has to be decrypted by whoever wrote it.
"""

from __future__ import annotations

from sealmq.pki.der import OCTETS, OID, SEQUENCE, Element, children, element, wrap

_SIZES = {bytes.fromhex("2a8648ce3d030107"): 32, bytes.fromhex("2b81040022"): 48}  # octets, of P-256 and P-384
_PARAMETERS = 0xA0


def with_exact_scalar(der: bytes) -> bytes:
    """`der`, an ECPrivateKey or the PKCS #8 around one, with a scalar of its curve's length; else as it is.

    RFC 5915, section 3, fixes the length. GnuTLS 3.7 writes the scalar like an INTEGER, with a zero in front of every
    second one and the leading zeros of others cut off, and pyca refuses both.
    """
    whole = element(der, 0)
    parts = children(der, whole) if whole is not None and whole.tag == SEQUENCE and whole.end == len(der) else []
    if len(parts) >= 3 and parts[1].tag == SEQUENCE and parts[2].tag == OCTETS:  # PKCS #8 (RFC 5958)
        inner = der[parts[2].begin : parts[2].end]
        mended = wrap(OCTETS, _exact(inner, _curve(der, children(der, parts[1]))))
        rest = b"".join(der[one.start : one.end] for one in parts[3:])
        return wrap(SEQUENCE, der[parts[0].start : parts[1].end] + mended + rest)
    return _exact(der, None)


def _exact(der: bytes, curve: bytes | None) -> bytes:
    """An ECPrivateKey (RFC 5915) of `curve`, or of the one it names itself."""
    whole = element(der, 0)
    parts = children(der, whole) if whole is not None and whole.tag == SEQUENCE and whole.end == len(der) else []
    if len(parts) < 2 or parts[1].tag != OCTETS:
        return der
    named = next((children(der, one) for one in parts[2:] if one.tag == _PARAMETERS), [])
    size = _SIZES.get(curve or _curve(der, named) or b"")
    scalar = der[parts[1].begin : parts[1].end].lstrip(b"\0")
    if size is None or len(scalar) > size:
        return der
    rest = b"".join(der[one.start : one.end] for one in parts[2:])
    return wrap(SEQUENCE, der[parts[0].start : parts[0].end] + wrap(OCTETS, scalar.rjust(size, b"\0")) + rest)


def _curve(der: bytes, fields: list[Element]) -> bytes | None:
    """The last object identifier among them: that of the curve."""
    return next((der[one.begin : one.end] for one in reversed(fields) if one.tag == OID), None)
