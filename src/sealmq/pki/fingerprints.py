"""How certificates and keys are named by hashes: what the registry, the log, pins and deny lists compare.

It knows nothing of what a certificate says or whether it holds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes


def certificate_sha256(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form, lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def spki_sha256(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, lower-case hex: the value that a pin holds (RFC 7469, section 2.4)."""
    return public_key_sha256(certificate.public_key())


def public_key_sha256(public_key: CertificatePublicKeyTypes) -> str:
    """The same for a key that has no certificate yet."""
    encoded = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def key_id(public_key: CertificatePublicKeyTypes) -> str:
    """The subject key identifier of a key as this house computes it (RFC 5280, 4.2.1.2, method 1), lower-case hex."""
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()


def issuer_key_id(certificate: x509.Certificate) -> str:
    """The authority key identifier of a certificate, lower-case hex; empty when it has none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return (found or b"").hex()
