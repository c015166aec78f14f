"""Certificate messages and the certificates in them, read into facts for people.

It refuses to know whom to trust: what a certificate says is written down, whoever signed it.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from typing import TYPE_CHECKING

from sealmq.trace.fields import Cursor, Field, hexed, printable
from sealmq.trace.tls import extensions

if TYPE_CHECKING:
    from cryptography import x509

MOST_CERTIFICATES = 20
"""Certificates of one chain that are parsed; chains of more exist only to be a burden."""


def parse_chain(body: bytes, *, tls13: bool) -> tuple[tuple[bytes, ...], tuple[Field, ...]]:
    """The DER certificates of a Certificate message (RFC 8446, section 4.4.2; RFC 5246, section 7.4.2), leaf first.

    Raises `Malformed`.
    """
    cursor = Cursor(body, "Certificate")
    shown: list[Field] = []
    if tls13:
        shown.append(Field("certificate_request_context", hexed(cursor.vector(1, "certificate_request_context"))))
    inner = Cursor(cursor.vector(3, "certificate_list"), "Certificate")
    cursor.end()
    chain: list[bytes] = []
    entries: list[Field] = []
    while inner.left:
        der = inner.vector(3, "certificate")
        chain.append(der)
        attached = extensions.read(inner) if tls13 else ()
        if len(chain) <= MOST_CERTIFICATES:
            children = describe(der)
            if attached:
                children = (*children, extensions.fields(attached, "Certificate"))
            entries.append(Field(f"certificate {len(chain) - 1}", f"{len(der)} bytes", children))
    shown.append(Field("certificate_list", f"{len(chain)}", tuple(entries)))
    return tuple(chain), tuple(shown)


def load(der: bytes) -> x509.Certificate | None:
    """The certificate, None when it cannot be parsed."""
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd serial numbers and the like are no concern of a trace
            certificate = x509.load_der_x509_certificate(der)
            # parsed on first use
            _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.serial_number
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except Exception:  # noqa: BLE001 - the parser of a foreign library met a hostile certificate
        return None
    return certificate


def describe(der: bytes) -> tuple[Field, ...]:
    """Subject, issuer, validity, names, key, use and fingerprint of a certificate."""
    certificate = load(der)
    if certificate is None:
        return (Field("malformed", "it cannot be parsed as X.509"), Field("der", hexed(der)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the library will take no more one day
        return _described(certificate, der)


def _described(certificate: x509.Certificate, der: bytes) -> tuple[Field, ...]:
    from sealmq.pki.describe import describe_key

    try:
        key = describe_key(certificate.public_key())
    except Exception:  # noqa: BLE001 - unsupported and malformed keys raise several kinds
        key = "unknown kind of key"
    return (
        Field("subject", subject(certificate)),
        Field("issuer", issuer(certificate)),
        Field("serial", serial(certificate)),
        Field("not_before", f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"),
        Field("not_after", f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"),
        Field("names", ", ".join(alternative_names(certificate)) or "(none)"),
        Field("key", key),
        Field("signature", _signature(certificate)),
        Field("basic_constraints", _basic_constraints(certificate)),
        Field("extended_key_usage", ", ".join(usages(certificate)) or "(any)"),
        Field("sha256", hashlib.sha256(der).hexdigest()),
    )


def subject(certificate: x509.Certificate) -> str:
    """Its subject as RFC 4514 text, `(empty)` when there is none."""
    return printable(certificate.subject.rfc4514_string().encode()) or "(empty)"


def issuer(certificate: x509.Certificate) -> str:
    """Its issuer as RFC 4514 text."""
    return printable(certificate.issuer.rfc4514_string().encode()) or "(empty)"


def serial(certificate: x509.Certificate) -> str:
    """Its serial number in hexadecimal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that RFC 5280 forbids
        return f"{certificate.serial_number:x}"


def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its subject alternative names, each with its kind in front: `DNS:localhost`."""
    from cryptography import x509

    from sealmq.pki.describe import describe_name

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(printable(describe_name(name).encode()) for name in found)


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its extended key usages by name, empty when it has no such extension."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    known = {"1.3.6.1.5.5.7.3.1": "serverAuth", "1.3.6.1.5.5.7.3.2": "clientAuth", "2.5.29.37.0": "anyExtendedKeyUsage"}
    return tuple(str(known.get(oid.dotted_string, oid.dotted_string)) for oid in found)


def key_ids(certificate: x509.Certificate) -> tuple[str, str]:
    """Its subject key identifier and its authority key identifier in hexadecimal, empty where there is none."""
    from cryptography import x509

    own = authority = ""
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        authority = named.hex() if named is not None else ""
    return own, authority


def _signature(certificate: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string
    return algorithm.name if algorithm is not None else certificate.signature_algorithm_oid.dotted_string


def _basic_constraints(certificate: x509.Certificate) -> str:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return "(none)"
    depth = "" if found.path_length is None else f", path length {found.path_length}"
    return f"CA:{'TRUE' if found.ca else 'FALSE'}{depth}"
