"""Certificate requests (PKCS #10, RFC 2986): made, read, and accepted for what they prove.

It knows nothing of who asks or of what they may have. A CA takes two things from a request: the public key, and the
proof that the sender has the private one. The names in it are a wish that the caller looks at or does not.
"""

from __future__ import annotations

import base64
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

from sealmq.errors import NotSo
from sealmq.pki import keys
from sealmq.pki.der import SEQUENCE
from sealmq.pki.malformed import MALFORMED, reason
from sealmq.pki.requestder import without_null_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

LARGEST = 64 * 1024
"""Bytes; a request with an RSA key of 8192 bits and twenty names has 4 KiB."""

_UNDERSTOOD = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
}
_WEAK_HASHES = {"md5", "sha1"}
_PEM = re.compile(
    rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]*)-----END (?:NEW )?CERTIFICATE REQUEST-----"
)
"""The body has no hyphen, so that a text of many beginnings and no end is looked through once."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that holds: `public_key` is proven and strong. `subject` and `names` are what it asks for, no more."""

    public_key: CertificatePublicKeyTypes
    subject: x509.Name
    names: tuple[x509.GeneralName, ...]


def build(key: keys.SigningKey, *, subject: x509.Name, names: Sequence[x509.GeneralName]) -> bytes:
    """A request for `key`, PEM; no `names` leaves that extension out."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=not list(subject))
    return builder.sign(key, keys.digest_for(key)).public_bytes(serialization.Encoding.PEM)


def load(data: bytes) -> x509.CertificateSigningRequest:
    """The request in PEM or DER form, parsed and no more.

    Requests with NULL parameters in an ECDSA signature algorithm, as tpm2-openssl 1.1 makes them against RFC 5758
    section 3.2, are taken: that field is not under the signature. Raises `NotSo` with code `request-invalid`.
    """
    if len(data) > LARGEST:
        raise _refused(f"is larger than {LARGEST // 1024} KiB", "check the file", "request-invalid")
    try:
        der = _der(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_der_x509_csr(without_null_parameters(der))
            request.subject  # noqa: B018 - parsed on first use; here is where a malformed one is to be found
            list(request.extensions)
    except MALFORMED as error:
        raise _refused(
            f"cannot be read: {reason(error)}",
            "make it anew with: sealmq cert csr, or openssl req -new",
            "request-invalid",
        ) from error
    return request


def as_pem(data: bytes) -> str:
    """A request, PEM or DER, as PEM text for those who take nothing else. Raises `NotSo` as `load` does."""
    return load(data).public_bytes(serialization.Encoding.PEM).decode("ascii")


def has_null_parameters(data: bytes) -> bool:
    """Whether `load` had to repair the request `data`."""
    der = _der(data)
    return without_null_parameters(der) != der


def accept(data: bytes) -> Accepted:
    """What a CA may rely on in the request `data`, PEM or DER.

    Raises `NotSo` with code `request-invalid` (not a request), `request-signature` (it proves nothing),
    `request-key` (a key that must not be certified), `request-extension` (a critical extension that is not
    understood) or `request-wants-ca`.
    """
    request = load(data)
    key = _public_key(request)
    if weakness := keys.weakness(key):
        raise _refused(
            f"is for a key that is not certified: {weakness}",
            "make a P-256 key: sealmq cert key, or openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            "request-key",
        )
    _check_signature(request)
    names: tuple[x509.GeneralName, ...] = ()
    for extension in request.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise _refused(
                f"has the critical extension {extension.oid.dotted_string}, which is not understood",
                "make the request without it; the CA decides what a certificate says",
                "request-extension",
            )
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise _refused(
                "asks for a certificate of a CA",
                "make the request without basicConstraints CA:TRUE; only servers and devices are certified",
                "request-wants-ca",
            )
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = tuple(extension.value)
    return Accepted(key, request.subject, names)


def _public_key(request: x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    try:
        return request.public_key()
    except MALFORMED as error:
        raise _refused(
            f"is for a key that cannot be read: {reason(error)}",
            "make a P-256 key with: sealmq cert key",
            "request-key",
        ) from error


def _check_signature(request: x509.CertificateSigningRequest) -> None:
    try:
        digest = request.signature_hash_algorithm
    except UnsupportedAlgorithm:
        digest = None  # what cannot be checked below is not valid there
    if digest is not None and digest.name in _WEAK_HASHES:
        raise _refused(
            f"is signed with {digest.name.upper()}, which can be forged",
            "make it anew with SHA-256",
            "request-signature",
        )
    try:
        is_valid = request.is_signature_valid
    except MALFORMED:
        is_valid = False
    if not is_valid:
        raise _refused(
            "is not signed by the key it is for: nothing proves that its sender has the private key",
            "make it anew, with the private key that belongs to it",
            "request-signature",
        )


def _der(data: bytes) -> bytes:
    block = _PEM.search(data)
    if block is not None:
        return base64.b64decode(b"".join(block[1].split()), validate=True)
    if b"-----BEGIN" in data:
        raise ValueError("the PEM text holds no CERTIFICATE REQUEST")
    if not data.strip():
        raise ValueError("it is empty")
    if data[0] != SEQUENCE:
        raise ValueError("it is neither PEM nor DER")
    return data


def _refused(what: str, mend: str, code: str) -> NotSo:
    return NotSo(f"certificate request {what}", mend=mend, code=code)
