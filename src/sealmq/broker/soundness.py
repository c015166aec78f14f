"""Whether a generation of certificates can be put in force: keys fit, chains are whole, nothing is expired or older.

It refuses to read files and to decide what happens to a generation that is not sound. Whom a chain leads to is for
those who verify it; whether it can lead anywhere is looked at here.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import AuthorityInformationAccessOID

from sealmq.errors import ConfigError
from sealmq.pki.malformed import MALFORMED, whole

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.broker.certificates import Identity, Material


def check(material: Material, *, now: datetime, before: Material | None = None) -> None:
    """Raise `ConfigError` for the first thing that is wrong, with the setting, the file and the mend.

    Codes: `certificate-invalid`, `key-invalid`, `key-mismatch`, `certificate-chain`, `certificate-expired`,
    `certificate-older` (than the one of `before` that it takes the place of), `client-ca-invalid`, `crl-invalid`.
    """
    earlier = {} if before is None else {one.setting: one for one in before.identities()}
    for identity in material.identities():
        check_identity(identity, now=now, before=earlier.get(identity.setting))
    anchors = _check_client_ca(material, now)
    _check_crls(material, anchors, before)


def check_identity(identity: Identity, *, now: datetime, before: Identity | None = None) -> None:
    """The part of `check` that concerns one certificate of the broker."""
    chain = _chain(identity)
    _check_key(identity, chain[0])
    _check_order(identity, chain)
    _check_dates(identity, chain, now)
    if before is not None and before.chain_pem != identity.chain_pem:
        _check_against(identity, chain, _chain(before))
    _check_complete(identity, chain)


@lru_cache(maxsize=2)
def crl_ends(pem: bytes) -> list[tuple[str, datetime]]:
    """Issuer and nextUpdate of each revocation list that has one. Raises what `crls` does.

    Remembered for the lists in force: with a hundred thousand entries they are not read every few seconds.
    """
    return [(one.issuer.rfc4514_string(), one.next_update_utc) for one in crls(pem) if one.next_update_utc is not None]


def crls(pem: bytes) -> list[x509.CertificateRevocationList]:
    """Revocation lists, one after the other. Raises `ConfigError` with code `crl-invalid`."""
    end = b"-----END X509 CRL-----"
    blocks = [part + end for part in pem.split(end)[:-1]]
    try:
        return [x509.load_pem_x509_crl(block.strip()) for block in blocks]
    except MALFORMED:
        raise ConfigError(
            "tls.crl holds a revocation list that cannot be read",
            mend="see what it is: sealmq cert show FILE",
            code="crl-invalid",
        ) from None


def names(certificate: x509.Certificate) -> list[str]:
    """The DNS names of a certificate, lower case."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


def leaf(identity: Identity) -> x509.Certificate:
    """The certificate that the broker shows. Raises `ConfigError` with code `certificate-invalid`."""
    return _chain(identity)[0]


def _chain(identity: Identity) -> list[x509.Certificate]:
    try:
        return [whole(one) for one in x509.load_pem_x509_certificates(identity.chain_pem)]
    except MALFORMED:
        raise ConfigError(
            f"{_place(identity)} holds no certificate, or a damaged one",
            mend="give the chain in PEM form, the broker's own certificate first",
            code="certificate-invalid",
        ) from None


def _check_key(identity: Identity, certificate: x509.Certificate) -> None:
    place = f"{identity.setting}: key file {identity.key_file}"
    try:
        key = serialization.load_pem_private_key(identity.key_pem, password=None)
    except TypeError:
        raise ConfigError(
            f"{place} is encrypted, and nobody is there to give the passphrase",
            mend="decrypt it: openssl pkey -in FILE -out FILE.plain",
            code="key-invalid",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{place} holds no private key that can be read", mend="give the key in PEM form", code="key-invalid"
        ) from None
    if key.public_key() != certificate.public_key():
        raise ConfigError(
            f"{place} does not belong to the certificate in {identity.certificate_file}",
            mend="write both files of one renewal; the certificate of the broker itself comes first in its file",
            code="key-mismatch",
        )


def _check_order(identity: Identity, chain: list[x509.Certificate]) -> None:
    for number, (child, parent) in enumerate(pairwise(chain), start=1):
        try:
            child.verify_directly_issued_by(parent)
        except (InvalidSignature, *MALFORMED):
            raise ConfigError(
                f"{_place(identity)}: certificate {number} is not signed by certificate {number + 1} after it",
                mend="put the chain in order: the broker's certificate, then whoever issued it, and so on upwards",
                code="certificate-chain",
            ) from None


def _check_dates(identity: Identity, chain: list[x509.Certificate], now: datetime) -> None:
    for number, certificate in enumerate(chain, start=1):
        if certificate.not_valid_after_utc <= now:
            raise ConfigError(
                f"{_place(identity)}: certificate {number} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}",
                mend="renew it, or check the clock of this machine",
                code="certificate-expired",
            )


def _check_against(identity: Identity, chain: list[x509.Certificate], before: list[x509.Certificate]) -> None:
    if chain[0].not_valid_before_utc < before[0].not_valid_before_utc:
        raise ConfigError(
            f"{_place(identity)} is older ({chain[0].not_valid_before_utc:%Y-%m-%d %H:%M}) than the certificate in"
            f" force ({before[0].not_valid_before_utc:%Y-%m-%d %H:%M})",
            mend="write the newer one back; to go back on purpose, reload with SIGHUP",
            code="certificate-older",
        )
    if len(chain) == 1 < len(before) and chain[0].issuer == before[0].issuer:
        raise _incomplete(identity, "the one in force came with its issuing CA")


def _check_complete(identity: Identity, chain: list[x509.Certificate]) -> None:
    """A leaf alone that says where its issuer can be fetched is of a CA below a root (RFC 5280, 4.2.2.1)."""
    if len(chain) > 1 or chain[0].issuer == chain[0].subject:
        return
    try:
        access = chain[0].extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return
    if any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access):
        raise _incomplete(identity, "clients would have to fetch its issuing CA, and few do")


def _incomplete(identity: Identity, why: str) -> ConfigError:
    return ConfigError(
        f"{_place(identity)} holds the broker's certificate alone: {why}",
        mend="give the full chain, such as certbot's fullchain.pem",
        code="certificate-chain",
    )


def _check_client_ca(material: Material, now: datetime) -> list[x509.Certificate]:
    try:
        anchors = [whole(one) for one in x509.load_pem_x509_certificates(material.client_ca_pem)]
    except MALFORMED:
        raise ConfigError(
            "tls.client_ca holds no certificate, or a damaged one",
            mend="give the CA certificates that device certificates are verified with, in PEM form",
            code="client-ca-invalid",
        ) from None
    if all(anchor.not_valid_after_utc <= now for anchor in anchors):
        raise ConfigError(
            "tls.client_ca holds nothing but expired certificates",
            mend="get the present CA file, or check the clock of this machine",
            code="client-ca-invalid",
        )
    return anchors


def _check_crls(material: Material, anchors: list[x509.Certificate], before: Material | None) -> None:
    earlier = {} if before is None else {one.issuer: one for one in crls(before.client_crls_pem)}
    found = crls(material.client_crls_pem)
    if material.client_crls_pem and not found:
        raise ConfigError("tls.crl holds no revocation list", mend="give CRLs in PEM form", code="crl-invalid")
    for crl in found:
        name = crl.issuer.rfc4514_string()
        if not any(anchor.subject == crl.issuer and _signed(crl, anchor) for anchor in anchors):
            raise ConfigError(
                f"tls.crl: revocation list of {name} is not signed by a CA in tls.client_ca",
                mend="put the CA that signs it into tls.client_ca, or remove the list",
                code="crl-invalid",
            )
        if not list(crl.extensions):
            raise ConfigError(
                f"tls.crl: revocation list of {name} has no extensions, and the data plane reads none like that",
                mend="have the CA write lists with a number and a key identifier (RFC 5280, section 5.2)",
                code="crl-invalid",
            )
        same = earlier.get(crl.issuer)
        if same is not None and crl.last_update_utc < same.last_update_utc:
            raise ConfigError(
                f"tls.crl: revocation list of {name} is older ({crl.last_update_utc:%Y-%m-%d %H:%M}) than the one in"
                f" force ({same.last_update_utc:%Y-%m-%d %H:%M})",
                mend="write the newer one back; to go back on purpose, reload with SIGHUP",
                code="certificate-older",
            )


def _signed(crl: x509.CertificateRevocationList, anchor: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(anchor.public_key())  # type: ignore[arg-type]
    except MALFORMED:  # a key that cannot sign, or an algorithm of nobody's
        return False


def _place(identity: Identity) -> str:
    return f"{identity.setting} = {identity.certificate_file}"
