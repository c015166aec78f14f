"""The bridge between two roots: the new root's name and key, certified by the old root (RFC 5280, section 3.2).

It knows nothing of files or of when a bridge is shown; a device that trusts the old root alone verifies the new chain
over it, and one that trusts the new root does not look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

if TYPE_CHECKING:
    from sealmq.pki.signing import Issuer

_BELOW = 1  # certificates between the bridge and a leaf: the issuing CA


def can_bridge(old: x509.Certificate) -> bool:
    """Whether a chain over a bridge fits under that root.

    Two CAs stand below it then, the new root and an issuing CA. OpenSSL, GnuTLS and mbedTLS hold a trust anchor to its
    path length too, so roots of a first sealmq, which allow one, cannot be bridged.
    """
    try:
        allowed = old.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return False
    return allowed is None or allowed > _BELOW


def sign_bridge(new: x509.Certificate, *, by: Issuer) -> x509.Certificate:
    """`new` as it is, but issued by the old root; it lasts as long as both do."""
    old = by.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(old.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(new.not_valid_before_utc, old.not_valid_before_utc))
        .not_valid_after(min(new.not_valid_after_utc, old.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=_BELOW), critical=True)
    )
    for extension in new.extensions:
        if isinstance(extension.value, x509.KeyUsage | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        old.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    return builder.add_extension(identifier, critical=False).sign(by.key, hashes.SHA256())
