"""Making certificates: a row of `profiles`, names and an issuer go in, a signed certificate comes out.

It knows nothing of files, of the registry, or of who may have what; it signs what it is told.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealmq.errors import ConfigError
from sealmq.pki.keys import digest_for, pkcs8_pem
from sealmq.pki.profiles import CaProfile, LeafProfile, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from sealmq.pki.keys import SigningKey
    from sealmq.pki.names import Host

PrivateKey = ec.EllipticCurvePrivateKey
"""What the house makes for itself; a CA that a user brings may have any `keys.SigningKey`."""

_USAGE_OIDS = {Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign: its certificate and its key. Prints without the key."""

    certificate: x509.Certificate
    key: SigningKey = field(repr=False)


@dataclass(frozen=True)
class Bundle:
    """A leaf with all that its owner needs to use it.

    `cert_chain_pem` is the leaf, then its issuing CA; `key_pem` is unencrypted PKCS #8. Prints without the key.
    """

    cert_chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return x509.load_pem_x509_certificate(self.cert_chain_pem)

    @property
    def not_after(self) -> datetime:
        """The end of the leaf's validity, UTC."""
        return self.certificate.not_valid_after_utc


def new_key() -> PrivateKey:
    """A fresh P-256 key from the system's random source."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: SigningKey) -> bytes:
    """`key` as unencrypted PKCS #8 PEM: for `write_private` and nothing else."""
    return pkcs8_pem(key)


def certificate_pem(*chain: x509.Certificate) -> bytes:
    """The certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def sign_ca(profile: CaProfile, *, fleet: str, number: int, now: datetime, issuer: Issuer | None = None) -> Issuer:
    """A new CA with a new key, signed by `issuer`, or by itself when there is none. `now` carries a time zone.

    Raises `ConfigError` with code `clock-wrong` when `issuer` is not valid yet.
    """
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{fleet} {profile.label} {number}")])
    builder = (
        _builder(subject, key.public_key(), profile, now=now, issuer=issuer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=profile.path_length), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
    )
    if profile.signs_no_hosts:
        nothing = [
            x509.DNSName(""),
            x509.IPAddress(IPv4Network("0.0.0.0/0")),
            x509.IPAddress(IPv6Network("::/0")),
        ]
        builder = builder.add_extension(
            x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=nothing), critical=False
        )
    signer = issuer.key if issuer else key
    return Issuer(builder.sign(signer, digest_for(signer)), key)


def sign_leaf(
    profile: LeafProfile,
    *,
    issuer: Issuer,
    public_key: CertificatePublicKeyTypes,
    common_name: str | None,
    names: list[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    """An end-entity certificate for `public_key`; it never outlives its issuer.

    `common_name` None leaves the subject empty, and the subject alternative name becomes critical (RFC 5280,
    4.2.1.6). No `names` leaves that extension out. Raises `ConfigError` with code `issuer-expired` when the issuing
    CA is no longer valid, `clock-wrong` when it is not yet.
    """
    if now >= issuer.certificate.not_valid_after_utc:
        raise ConfigError(
            f"issuing CA {issuer.certificate.subject.rfc4514_string()} expired on "
            f"{issuer.certificate.not_valid_after_utc:%Y-%m-%d}",
            mend="check the clock of this machine; a CA that is really past its time has to be replaced",
            code="issuer-expired",
        )
    builder = _leaf_builder(profile, public_key, common_name, names, now=now, issuer=issuer)
    return builder.sign(issuer.key, digest_for(issuer.key))


def self_sign_leaf(
    profile: LeafProfile, *, key: PrivateKey, common_name: str | None, names: list[x509.GeneralName], now: datetime
) -> x509.Certificate:
    """Like `sign_leaf`, but signed by itself: for tests and faulty servers, nothing that verifies accepts it."""
    builder = _leaf_builder(profile, key.public_key(), common_name, names, now=now, issuer=None)
    return builder.sign(key, digest_for(key))


def general_names(hosts: Sequence[Host]) -> list[x509.GeneralName]:
    """Hosts as subject alternative names: addresses as iPAddress, the rest as dNSName."""
    return [
        x509.IPAddress(host) if isinstance(host, IPv4Address | IPv6Address) else x509.DNSName(host) for host in hosts
    ]


def check_clock(issuer: Issuer, now: datetime) -> None:
    """Raise `ConfigError` with code `clock-wrong` when the clock of this machine is before that CA was made."""
    begin = issuer.certificate.not_valid_before_utc
    if now < begin:
        raise ConfigError(
            f"clock of this machine says {now:%Y-%m-%d %H:%M} UTC, but the CA was made at {begin:%Y-%m-%d %H:%M} UTC",
            mend="set the clock, then do it again",
            code="clock-wrong",
        )


def utc_now() -> datetime:
    """The time now, UTC, in whole seconds as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)


def _builder(
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    profile: CaProfile | LeafProfile,
    *,
    now: datetime,
    issuer: Issuer | None,
) -> x509.CertificateBuilder:
    not_before, not_after = now - profile.backdate, now + profile.lifetime
    if issuer is not None:  # a chain is only valid while all of it is
        check_clock(issuer, now)
        not_before = max(not_before, issuer.certificate.not_valid_before_utc)
        not_after = min(not_after, issuer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(issuer, public_key), critical=False)
    )
    if profile.usage is not Usage.NONE:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGE_OIDS[profile.usage]]), critical=False)
    return builder


def _leaf_builder(
    profile: LeafProfile,
    public_key: CertificatePublicKeyTypes,
    common_name: str | None,
    names: list[x509.GeneralName],
    *,
    now: datetime,
    issuer: Issuer | None,
) -> x509.CertificateBuilder:
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = (
        _builder(x509.Name(attributes), public_key, profile, now=now, issuer=issuer)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=common_name is None)
    return builder


def _authority_key_identifier(issuer: Issuer | None, own: CertificatePublicKeyTypes) -> x509.AuthorityKeyIdentifier:
    """What the issuer calls its key, which a foreign CA may have computed in another way (RFC 5280, 4.2.1.2).

    The key identifier alone: with issuer and serial in it, an issuing CA could not be reissued with the same key.
    """
    called = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key() if issuer else own)
    if issuer is not None:
        with contextlib.suppress(x509.ExtensionNotFound):
            called = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(called)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
