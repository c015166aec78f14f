"""What is odd about a certificate, a key or a CRL: one function per kind, each finding with its why and its mend.

It knows nothing of files or of output; it is shown a parsed object and a point in time.

The limits for what counts as odd: RFC 5280 for form, RFC 9325 for strength, and what client stacks on devices are known
to stumble over (mbedTLS 2.28, pyca's verifier), since a certificate that openssl likes may still be useless in the
field.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from sealmq.pki.malformed import MALFORMED
from sealmq.pki.requests import has_null_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

LONGEST_LEAF = timedelta(days=398)
"""Beyond this a leaf counts as too long: the most that public CAs were allowed until 2026."""

SMALLEST_RSA = 2048  # bits (RFC 9325, section 4.5)
SMALLEST_CURVE = 256  # bits

_WEAK_HASHES = {"md5", "sha1"}

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Oddity:
    """A finding: a stable `slug`, `what` is odd, `why` it matters, how to `mend` it."""

    slug: str
    what: str
    why: str
    mend: str


def of_certificate(certificate: x509.Certificate, *, now: datetime) -> list[Oddity]:
    """What is odd about one certificate by itself, at the time `now` (with a time zone).

    Raises ValueError when an extension cannot be parsed.
    """
    extensions = certificate.extensions
    constraints = _find(extensions, x509.BasicConstraints)
    is_ca = bool(constraints and constraints.value.ca)
    return [
        *_validity(certificate, is_ca=is_ca, now=now),
        *_signature(certificate),
        *of_public_key(certificate.public_key()),
        *(_as_issuer(certificate) if is_ca else _as_leaf(certificate)),
        *_names(certificate, is_ca=is_ca),
    ]


def of_public_key(key: object) -> Iterator[Oddity]:
    """What is odd about a public key, whatever it stands in."""
    mend = "make a new key: P-256 is small, quick and known everywhere"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA:
        yield Oddity(
            "rsa-too-small", f"RSA key of {key.key_size} bits", "TLS libraries refuse keys below 2048 bits", mend
        )
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < SMALLEST_CURVE:
        yield Oddity("curve-too-small", f"curve {key.curve.name}", "curves below 256 bits are refused or broken", mend)
    elif isinstance(key, dsa.DSAPublicKey):
        yield Oddity("key-type", "DSA key", "no TLS library accepts DSA certificates any more", mend)


def of_request(request: x509.CertificateSigningRequest, data: bytes) -> Iterator[Oddity]:
    """What is odd about a certificate request (PKCS #10), parsed from `data`."""
    yield from of_public_key(request.public_key())
    if has_null_parameters(data):
        yield Oddity(
            "request-null-parameters",
            "its ECDSA signature algorithm has NULL parameters, as tpm2-openssl 1.1 writes them",
            "strict parsers refuse the request (RFC 5758, section 3.2); sealmq takes it, the signature is not touched",
            "nothing to be done here; elsewhere use a newer tpm2-openssl",
        )
    constraints = _find(request.extensions, x509.BasicConstraints)
    if constraints and constraints.value.ca:
        yield Oddity(
            "request-wants-ca",
            "it asks for a certificate of a CA",
            "a CA that grants it lets the sender issue certificates for anybody",
            "make the request without basicConstraints CA:TRUE",
        )
    if not _proves_its_key(request):
        yield Oddity(
            "request-signature",
            "the signature of the request is wrong",
            "nothing proves that the sender has the private key (RFC 2986)",
            "make the request again with the key it is for",
        )


def of_crl(crl: x509.CertificateRevocationList, *, now: datetime) -> Iterator[Oddity]:
    """What is odd about a revocation list."""
    if crl.next_update_utc is not None and crl.next_update_utc < now:
        yield Oddity(
            "crl-stale",
            f"its successor was due on {crl.next_update_utc:%Y-%m-%d}",
            "who checks this list refuses every certificate, or misses what was revoked since",
            "fetch the present list from the CA",
        )
    if crl.signature_hash_algorithm and crl.signature_hash_algorithm.name in _WEAK_HASHES:
        yield _weak_hash(crl.signature_hash_algorithm.name)


def of_order(chain: list[x509.Certificate]) -> Iterator[Oddity]:
    """What is odd about the order of several certificates in one file.

    When the first is a leaf, each must have been issued by the next.
    """
    constraints = _find(chain[0].extensions, x509.BasicConstraints) if chain else None
    if len(chain) < 2 or (constraints and constraints.value.ca):
        return
    for position, (child, parent) in enumerate(pairwise(chain), start=1):
        if child.issuer == parent.subject and not _signed(child, parent):
            yield Oddity(
                "chain-signature",
                f"certificate {position + 1} of the file has the issuer's name, but its key did not sign "
                f"certificate {position}",
                "every peer that verifies the chain refuses it",
                "take the CA certificate of the key that issued it; a CA made anew under its name has another key",
            )
            return
        if child.issuer != parent.subject:
            yield Oddity(
                "chain-order",
                f"certificate {position + 1} of the file did not issue certificate {position}",
                "a peer that needs the chain cannot build it from this file (RFC 8446, section 4.4.2)",
                "order the file: leaf, its issuing CA, and so on; leave out what is not part of the chain",
            )
            return


def _signed(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except InvalidSignature:
        return False
    except MALFORMED:
        return True  # whether it did cannot be told here, and another oddity says why
    return True


def _proves_its_key(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except MALFORMED:
        return False


def _validity(certificate: x509.Certificate, *, is_ca: bool, now: datetime) -> Iterator[Oddity]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < begin:
        yield Oddity(
            "validity-inverted",
            "it ends before it begins",
            "there is no time at which it is valid",
            "issue it again; check the clock of the CA",
        )
    elif end < now:
        yield Oddity(
            "expired",
            f"it expired {_ago((now - end).days)}",
            "every peer that verifies it refuses the connection",
            "renew it; if the date is wrong, look at the clock",
        )
    elif begin > now:
        yield Oddity(
            "not-yet-valid",
            f"it is not valid before {begin:%Y-%m-%d %H:%M} UTC",
            "peers refuse it until then",
            "check the clocks of this machine and of the CA",
        )
    if not is_ca and end - begin > LONGEST_LEAF:
        yield Oddity(
            "validity-too-long",
            f"it is valid for {(end - begin).days} days",
            "a stolen key stays useful for as long; nothing exercises renewal until it is too late",
            f"issue it for at most {LONGEST_LEAF.days} days and renew it automatically",
        )


def _signature(certificate: x509.Certificate) -> Iterator[Oddity]:
    # nobody relies on the signature of a self-signed certificate
    algorithm = certificate.signature_hash_algorithm
    if algorithm and algorithm.name in _WEAK_HASHES and certificate.issuer != certificate.subject:
        yield _weak_hash(algorithm.name)
    if certificate.version is not x509.Version.v3:
        yield Oddity(
            "version-1",
            "it is of X.509 version 1, without extensions",
            "it cannot say whether it is a CA, for what it is meant, or for which names; TLS libraries refuse it",
            "issue it with extensions, for instance openssl x509 -req -extfile",
        )


def _as_issuer(certificate: x509.Certificate) -> Iterator[Oddity]:
    names = _find(certificate.extensions, x509.SubjectAlternativeName)
    if names:
        yield Oddity(
            "ca-as-leaf",
            "it is a CA certificate, yet it carries names as a leaf does",
            "whoever holds the key of this server or device can issue certificates for any other; "
            "strict libraries refuse it as a leaf",
            "use a CA that stays offline, and a leaf with CA:FALSE issued by it",
        )
    if isinstance(certificate.public_key(), ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        yield Oddity(
            "edwards-ca",
            "it is a CA with an Edwards curve key",
            "mbedTLS 2.28 cannot parse it and pyca's verifier refuses what it issued",
            "use P-256 for a CA",
        )
    usage = _find(certificate.extensions, x509.KeyUsage)
    if usage and not usage.value.key_cert_sign:
        yield Oddity(
            "ca-cannot-sign",
            "it is a CA whose key usage does not allow signing certificates",
            "what it issued is refused (RFC 5280, section 4.2.1.3)",
            "issue it with keyUsage keyCertSign",
        )
    limits = _find(certificate.extensions, x509.NameConstraints)
    if limits and limits.critical:
        yield Oddity(
            "critical-name-constraints",
            "its name constraints are critical",
            "mbedTLS, which many devices use, cannot parse such a CA at all",
            "make the extension non-critical; openssl and GnuTLS enforce it all the same",
        )
    if limits and _has_uri(limits.value):
        yield Oddity(
            "uri-name-constraints",
            "it has name constraints on URIs",
            "pyca and webpki refuse the whole chain, GnuTLS ignores them",
            "leave URI constraints out",
        )


def _as_leaf(certificate: x509.Certificate) -> Iterator[Oddity]:
    names = _find(certificate.extensions, x509.SubjectAlternativeName)
    if not names and certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield Oddity(
            "cn-without-san",
            "its name is in the common name alone",
            "current TLS libraries look at subject alternative names only (RFC 9525)",
            "issue it with subjectAltName: DNS or IP for a server, URI for a device",
        )
    if not names and not list(certificate.subject):
        yield Oddity("no-name", "it carries no name at all", "it identifies nobody", "issue it with subjectAltName")
    if certificate.version is x509.Version.v3 and not _find(certificate.extensions, x509.ExtendedKeyUsage):
        yield Oddity(
            "no-extended-key-usage",
            "it does not say whether it is for clients or for servers",
            "some peers refuse it, others let a device pass for a server",
            "issue it with extendedKeyUsage clientAuth or serverAuth",
        )


def _names(certificate: x509.Certificate, *, is_ca: bool) -> Iterator[Oddity]:
    names = _find(certificate.extensions, x509.SubjectAlternativeName)
    if names and not is_ca:
        for name in names.value.get_values_for_type(x509.DNSName):
            if _is_address(name):
                yield Oddity(
                    "address-as-dns",
                    f"the address {name} stands there as a DNS name",
                    "clients that connect to the address do not find it (RFC 9525, section 6.3)",
                    "issue it with IP instead of DNS in subjectAltName",
                )
    if certificate.serial_number <= 0:
        yield Oddity(
            "serial-not-positive",
            "its serial number is not positive",
            "strict parsers refuse it (RFC 5280, section 4.1.2.2)",
            "issue it with a random positive serial number",
        )


def _weak_hash(name: str) -> Oddity:
    return Oddity(
        "weak-signature",
        f"it is signed with {name.upper().replace('SHA1', 'SHA-1')}",
        "such signatures can be forged; TLS libraries refuse them",
        "issue it again with SHA-256",
    )


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _ago(days: int) -> str:
    if days == 0:
        return "less than a day ago"
    return "1 day ago" if days == 1 else f"{days} days ago"


def _has_uri(constraints: x509.NameConstraints) -> bool:
    trees = [*(constraints.permitted_subtrees or []), *(constraints.excluded_subtrees or [])]
    return any(isinstance(tree, x509.UniformResourceIdentifier) for tree in trees)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
