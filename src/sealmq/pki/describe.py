"""One parsed object turned into its description: names, dates, usages and hashes as words.

It knows nothing of files but their names, and of several objects at once nothing at all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519

from sealmq.errors import NotSo
from sealmq.pki import keys, oddities, requests
from sealmq.pki.descriptions import (
    CertificateDescription,
    CrlDescription,
    CrlEntry,
    KeyDescription,
    RequestDescription,
)
from sealmq.pki.oddities import Oddity
from sealmq.secretfiles import is_exposed

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sealmq.pki.certfiles import Piece

MOST_ENTRIES = 1000
"""Entries of a revocation list that are described one by one; the rest is counted."""


def describe_certificate(
    path: Path, position: int, certificate: x509.Certificate, now: datetime
) -> CertificateDescription:
    """A certificate at `now`. Raises ValueError when an extension cannot be parsed."""
    found = {type(extension.value): extension.value for extension in certificate.extensions}
    basic: Any = found.get(x509.BasicConstraints)
    names: Any = found.get(x509.SubjectAlternativeName, ())
    own: Any = found.get(x509.SubjectKeyIdentifier)
    authority: Any = found.get(x509.AuthorityKeyIdentifier)
    return CertificateDescription(
        path,
        position,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=describe_key(certificate.public_key()),
        signature=_signature(certificate),
        names=tuple(describe_name(name) for name in names),
        is_ca=bool(basic and basic.ca),
        path_length=basic.path_length if basic else None,
        key_usage=_key_usages(found.get(x509.KeyUsage)),
        extended_key_usage=_purposes(found.get(x509.ExtendedKeyUsage)),
        subject_key_identifier=own.digest.hex() if own else "",
        authority_key_identifier=(authority.key_identifier or b"").hex() if authority else "",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        spki_sha256=_spki(certificate.public_key()),
        oddities=tuple(oddities.of_certificate(certificate, now=now)),
    )


def describe_request(path: Path, position: int, data: bytes) -> RequestDescription:
    """A certificate request, PEM or DER. Raises ValueError when it cannot be parsed."""
    try:
        request = requests.load(data)
    except NotSo as error:
        raise ValueError(error.message) from error
    found = {type(extension.value): extension.value for extension in request.extensions}
    names: Any = found.get(x509.SubjectAlternativeName, ())
    basic: Any = found.get(x509.BasicConstraints)
    return RequestDescription(
        path,
        position,
        subject=request.subject.rfc4514_string(),
        names=tuple(describe_name(name) for name in names),
        wants_ca=bool(basic and basic.ca),
        key_usage=_key_usages(found.get(x509.KeyUsage)),
        extended_key_usage=_purposes(found.get(x509.ExtendedKeyUsage)),
        key=describe_key(request.public_key()),
        signature=_signature(request),
        spki_sha256=_spki(request.public_key()),
        oddities=tuple(oddities.of_request(request, data)),
    )


def describe_crl(path: Path, position: int, crl: x509.CertificateRevocationList, now: datetime) -> CrlDescription:
    """A revocation list at `now`, with its first entries."""
    found = {type(extension.value): extension.value for extension in crl.extensions}
    number: Any = found.get(x509.CRLNumber)
    authority: Any = found.get(x509.AuthorityKeyIdentifier)
    return CrlDescription(
        path,
        position,
        issuer=crl.issuer.rfc4514_string(),
        last_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        number=number.crl_number if number else None,
        revoked=len(crl),
        entries=tuple(_entry(crl[index]) for index in range(min(len(crl), MOST_ENTRIES))),
        authority_key_identifier=(authority.key_identifier or b"").hex() if authority else "",
        signature=_signature(crl),
        oddities=tuple(oddities.of_crl(crl, now=now)),
    )


def describe_private_key(path: Path, position: int, piece: Piece, passphrase: bytes | None) -> KeyDescription:
    """A private key by its public half. Raises ValueError when it cannot be parsed or the passphrase is wrong."""
    exposed: tuple[Oddity, ...] = ()
    if is_exposed(path):
        exposed = (
            Oddity(
                "key-exposed",
                "others on this machine can read or write the file",
                "whoever has the key is the device, or the server",
                f"chmod 600 {path}; if others may have read it, make a new key",
            ),
        )
    is_encrypted = False
    try:
        public: Any = keys.parse(piece.data, None).public_key()
    except TypeError:  # under a passphrase
        is_encrypted = True
        if passphrase is None:
            return KeyDescription(path, position, "", "", is_private=True, is_encrypted=True, oddities=exposed)
        public = keys.parse(piece.data, passphrase).public_key()
    return KeyDescription(
        path,
        position,
        describe_key(public),
        _spki(public),
        is_private=True,
        is_encrypted=is_encrypted,
        oddities=(*exposed, *oddities.of_public_key(public)),
    )


def describe_public_key(path: Path, position: int, piece: Piece) -> KeyDescription:
    """A public key. Raises ValueError when it cannot be parsed."""
    load = serialization.load_der_public_key if piece.is_der else serialization.load_pem_public_key
    public = load(piece.data)
    found = tuple(oddities.of_public_key(public))
    return KeyDescription(
        path, position, describe_key(public), _spki(public), is_private=False, is_encrypted=False, oddities=found
    )


def describe_key(key: object) -> str:
    """The type and size of a public key in the field's words: `P-256`, `RSA 2048`, `Ed25519`."""
    curves = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        return curves.get(key.curve.name, key.curve.name)
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return f"{type(key).__name__.strip('_').removesuffix('PublicKey')} {key.key_size}"
    plain = {
        ed25519.Ed25519PublicKey: "Ed25519",
        ed448.Ed448PublicKey: "Ed448",
        x25519.X25519PublicKey: "X25519",
        x448.X448PublicKey: "X448",
    }
    return next((name for kind, name in plain.items() if isinstance(key, kind)), type(key).__name__)


def describe_name(name: x509.GeneralName) -> str:
    """A general name with its kind in front, as openssl writes it: `DNS:broker.example`, `IP:192.0.2.7`, `URI:…`."""
    kinds: dict[type[x509.GeneralName], str] = {
        x509.DNSName: "DNS",
        x509.IPAddress: "IP",
        x509.UniformResourceIdentifier: "URI",
        x509.RFC822Name: "email",
    }
    if isinstance(name, x509.DirectoryName):
        return f"dir:{name.value.rfc4514_string()}"
    return f"{kinds.get(type(name), type(name).__name__)}:{name.value}"


_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "any",
}

_KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}


def _purposes(usage: Any) -> tuple[str, ...]:  # noqa: ANN401 - pyca's mapping of extensions is untyped
    return tuple(_purpose(oid.dotted_string) for oid in usage or ())


def _purpose(oid: str) -> str:
    return _PURPOSES.get(oid, oid)


def _key_usages(usage: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(word for attribute, word in _KEY_USAGES.items() if usage and getattr(usage, attribute))


def _entry(entry: x509.RevokedCertificate) -> CrlEntry:
    try:
        reason = str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        reason = ""
    return CrlEntry(f"{entry.serial_number:x}", entry.revocation_date_utc, reason)


def _signature(signed: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> str:
    names = {"1.2.840.10045.4.3.2": "ECDSA SHA-256", "1.2.840.113549.1.1.11": "RSA SHA-256"}
    oid = signed.signature_algorithm_oid
    return names.get(oid.dotted_string) or str(getattr(oid, "_name", oid.dotted_string))


def _spki(key: Any) -> str:  # noqa: ANN401 - any of pyca's public keys
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()
