"""Checks what the two sides prove: signatures over the handshake, Finished over all of it, and a key shared beforehand.

It refuses to trust anybody: whether a certificate is to be believed is OpenSSL's word in a trace, not this module's.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealmq.trace.tls import certificates, names

if TYPE_CHECKING:
    from sealmq.trace.tls.messages import Signed


class Outcome(enum.Enum):
    """How a check ended; `UNCHECKED` when something for it is missing, never taken for right."""

    RIGHT = "right"
    WRONG = "wrong"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Proof:
    """A check that was made: of a `signature`, `finished`, `binder` or `shared-key`, and in words what it says."""

    kind: str
    outcome: Outcome
    words: str


def finished(expected: bytes | None, received: bytes) -> Proof:
    """Compare a Finished with the one computed here, None when the secret for it is not known."""
    if expected is None:
        return Proof("finished", Outcome.UNCHECKED, "verify_data not recomputed: its secret was not seen")
    if hmac.compare_digest(expected, received):
        return Proof("finished", Outcome.RIGHT, "verify_data recomputed here: equal")
    return Proof("finished", Outcome.WRONG, "verify_data recomputed here: it differs")


def binder(expected: bytes, received: bytes) -> Proof:
    """Compare the binder of an external pre-shared key with the one computed here (RFC 8446, section 4.2.11.2)."""
    if hmac.compare_digest(expected, received):
        return Proof("binder", Outcome.RIGHT, "binder recomputed here under the label `ext binder`: equal")
    return Proof("binder", Outcome.WRONG, "binder recomputed here under the label `ext binder`: it differs")


def shared_key(of_key: bytes, used: bytes) -> Proof:
    """Compare the master secret that follows from the pre-shared key alone with the one in use (RFC 4279, 2)."""
    if hmac.compare_digest(of_key, used):
        return Proof("shared-key", Outcome.RIGHT, "master secret recomputed here from the pre-shared key alone: equal")
    return Proof("shared-key", Outcome.WRONG, "master secret recomputed here from the pre-shared key alone: it differs")


def signature13(signed: Signed, leaf: bytes | None, *, server: bool, transcript: bytes, algorithm: str) -> Proof:
    """A CertificateVerify of TLS 1.3 (RFC 8446, section 4.4.3)."""
    side = b"server" if server else b"client"
    digest = hashlib.new(algorithm, transcript).digest()
    return _verified(signed, leaf, b" " * 64 + b"TLS 1.3, " + side + b" CertificateVerify\0" + digest)


def signature12(signed: Signed, leaf: bytes | None, over: bytes) -> Proof:
    """A signature of TLS 1.2 over `over`: randoms and parameters, or the messages so far (RFC 5246, 7.4.3, 7.4.8)."""
    return _verified(signed, leaf, over)


def _verified(signed: Signed, leaf: bytes | None, over: bytes) -> Proof:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    certificate = certificates.load(leaf) if leaf is not None else None
    if certificate is None:
        return _unchecked("there is no certificate to check it with")
    name = names.signature(signed.scheme) if signed.scheme else "the signature"
    try:
        key: Any = certificate.public_key()
        known = _verify(key, signed, over)
    except InvalidSignature:
        return Proof("signature", Outcome.WRONG, f"{name} does not fit the key in the certificate")
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return Proof("signature", Outcome.WRONG, f"{name} cannot be of the key in the certificate")
    if not known:
        return _unchecked(f"{name} is not known here")
    return Proof("signature", Outcome.RIGHT, f"{name} verified here with the key in the certificate")


def _verify(key: Any, signed: Signed, over: bytes) -> bool:  # noqa: ANN401 - one of six kinds of key
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    sizes: dict[int, hashes.HashAlgorithm] = {
        2: hashes.SHA1(),  # noqa: S303 - it was signed so; whether that is to be believed is not asked here
        4: hashes.SHA256(),
        5: hashes.SHA384(),
        6: hashes.SHA512(),
    }
    scheme = signed.scheme
    high, low = scheme >> 8, scheme & 0xFF
    if scheme in (0x0807, 0x0808):
        key.verify(signed.signature, over)
    elif 0x0804 <= scheme <= 0x0806 or 0x0809 <= scheme <= 0x080B:
        used = sizes[low if low <= 6 else low - 5]
        key.verify(signed.signature, over, padding.PSS(padding.MGF1(used), used.digest_size), used)
    elif high in sizes and low == 1:
        key.verify(signed.signature, over, padding.PKCS1v15(), sizes[high])
    elif high in sizes and low == 3:
        key.verify(signed.signature, over, ec.ECDSA(sizes[high]))
    elif scheme == 0 and hasattr(key, "curve"):  # up to TLS 1.1 an ECDSA signature is over SHA-1 (RFC 4492, 5.4)
        key.verify(signed.signature, over, ec.ECDSA(sizes[2]))
    else:
        return False
    return True


def _unchecked(why: str) -> Proof:
    return Proof("signature", Outcome.UNCHECKED, f"signature not checked: {why}")
