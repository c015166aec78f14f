"""Chains of certificates of any shape, good or with faults, for tests. Knows nothing of who judges them.

Keys are made once per run and dealt out again: what is tested are certificates, and RSA keys take their time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "broker.example"
SERVER, CLIENT, ANY = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"), b"\x05\x00")
_numbers = itertools.count(1)


@cache
def key(kind: str, number: int = 0):
    """The key of that kind and number, the same all through a run."""
    del number
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))


@dataclass(frozen=True)
class Plan:
    """One certificate to be made; the defaults make a good issuing CA."""

    common_name: str | None = "ca"
    key: str = "p256"
    number: int = 0
    ca: bool | None = True  # None leaves basicConstraints out
    path_length: int | None = None
    begin: timedelta = timedelta(days=-10)
    end: timedelta = timedelta(days=10)
    usages: tuple[str, ...] | None = ("key_cert_sign", "crl_sign")
    purposes: tuple[x509.ObjectIdentifier, ...] = ()
    names: tuple[x509.GeneralName, ...] = ()
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    authority: bytes | None = None  # an authority key identifier that is not the issuer's

    def but(self, **changes) -> Plan:
        return replace(self, **changes)


LEAF = Plan(
    "leaf",
    ca=False,
    usages=("digital_signature",),
    purposes=(SERVER,),
    names=(x509.DNSName(HOST),),
)


@dataclass
class Made:
    """The certificates of a chain, leaf first, with their keys; `crls` as asked for."""

    certificates: list[x509.Certificate]
    keys: list
    crls: list[x509.CertificateRevocationList] = field(default_factory=list)

    @property
    def leaf(self):
        return self.certificates[0]

    @property
    def root(self):
        return self.certificates[-1]


def make(*plans: Plan) -> Made:
    """A chain from plans, leaf first; the last signs itself."""
    names = [_name(plan) for plan in plans]
    keys = [key(plan.key, plan.number) for plan in plans]
    made = []
    for at, plan in enumerate(plans):
        above = min(at + 1, len(plans) - 1)
        made.append(sign(plan, names[at], keys[at], names[above], keys[above]))
    return Made(made, keys)


def sign(plan: Plan, subject, own, issuer, signer) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + plan.begin)
        .not_valid_after(NOW + plan.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    if plan.authority is not None:
        identifier = x509.AuthorityKeyIdentifier(plan.authority, None, None)
    builder = builder.add_extension(identifier, critical=False)
    if plan.ca is not None:
        length = plan.path_length if plan.ca else None
        builder = builder.add_extension(x509.BasicConstraints(ca=plan.ca, path_length=length), critical=True)
    if plan.usages is not None:
        builder = builder.add_extension(key_usage(*plan.usages), critical=True)
    if plan.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(plan.purposes), critical=False)
    if plan.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(plan.names), critical=plan.common_name is None)
    for value, critical in plan.more:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def key_usage(*allowed: str) -> x509.KeyUsage:
    """A key usage extension with what is named, and nothing else."""
    kinds = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    flags = {kind: kind in allowed for kind in kinds}
    return x509.KeyUsage(**flags, encipher_only=False, decipher_only=False)


def crl(
    issuer: x509.Certificate, signer, *serials: int, due=timedelta(days=1), more=()
) -> x509.CertificateRevocationList:
    """A list of `issuer` signed with `signer`, begun yesterday."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(NOW - timedelta(days=2))
        .next_update(NOW + due)
        .add_extension(x509.CRLNumber(next(_numbers)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for value, critical in more:
        builder = builder.add_extension(value, critical=critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - timedelta(days=1)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def damaged(certificate: x509.Certificate) -> x509.Certificate:
    """The same certificate with one bit of its signature changed."""
    data = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    data[-5] ^= 1
    return x509.load_der_x509_certificate(bytes(data))


def pem(*objects) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in objects)


def _name(plan: Plan) -> x509.Name:
    attributes = [] if plan.common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, plan.common_name)]
    return x509.Name(attributes)
