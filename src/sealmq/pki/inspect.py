"""Reading files of certificates, chains, requests, keys and revocation lists into typed descriptions.

It knows nothing of trust: it says what is in a file and what is odd about it, not whether a peer would accept it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dh, dsa, ec, ed448, ed25519, rsa, x448, x25519

from sealmq.errors import NotSo, UsageError
from sealmq.pki import oddities
from sealmq.pki.descriptions import (
    CertificateDescription,
    CrlDescription,
    Described,
    KeyDescription,
    RequestDescription,
    Unreadable,
)
from sealmq.pki.oddities import Oddity
from sealmq.secretfiles import is_exposed, raise_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes; a revocation list of 100,000 entries has 4 MB, everything else is smaller."""


def inspect_files(paths: Iterable[Path], *, now: datetime | None = None) -> list[Described]:
    """What is in the files, PEM or DER, in order, each with what is odd about it at `now`.

    Oddities that need several objects (a key that fits no certificate, a chain out of order) are at the object to mend.
    Raises `Environment` when a file cannot be read, `UsageError` when it is too large, `NotSo` with code
    `nothing-recognised` when a file holds none of all these.
    """
    now = now or datetime.now(UTC)
    found: list[Described] = []
    chains: dict[Path, list[x509.Certificate]] = {}
    for path in map(Path, paths):
        objects = _split(path, _read(path))
        for position, (label, data) in enumerate(objects, start=1):
            found.append(_describe(path, position, label, data, now, chains.setdefault(path, [])))
    return [_with_others(item, found, chains) for item in found]


def describe_key(key: object) -> str:
    """The type and size of a public key in the field's words: `P-256`, `RSA 2048`, `Ed25519`."""
    curves = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        return curves.get(key.curve.name, key.curve.name)
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey | dh.DHPublicKey):
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


_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s.*?-----END \1-----", re.DOTALL)
_IGNORED = {"EC PARAMETERS", "DH PARAMETERS"}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise_environment(error, path, doing="read")
    if len(data) > LARGEST_FILE:
        raise UsageError(f"file {path} is larger than {LARGEST_FILE // 1024 // 1024} MiB", mend="check the path")
    return data


def _split(path: Path, data: bytes) -> list[tuple[str, bytes]]:
    blocks = [(match[1].decode(), match[0]) for match in _PEM.finditer(data)]
    blocks = [(label, block) for label, block in blocks if label not in _IGNORED]
    if blocks:
        return blocks
    for label, load in _DER_LOADERS.items():
        try:
            load(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return [(label, data)]
    raise NotSo(
        f"file {path} holds no certificate, request, key or revocation list",
        mend="give a PEM or DER file; a PKCS #12 file is opened with: openssl pkcs12 -in FILE -nodes",
        code="nothing-recognised",
    )


def _load_any_certificate(data: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(data) if data.startswith(b"-----") else x509.load_der_x509_certificate(data)


_DER_LOADERS: dict[str, Any] = {
    "DER CERTIFICATE": x509.load_der_x509_certificate,
    "DER CERTIFICATE REQUEST": x509.load_der_x509_csr,
    "DER X509 CRL": x509.load_der_x509_crl,
    "DER PRIVATE KEY": lambda data: serialization.load_der_private_key(data, password=None),
    "DER PUBLIC KEY": serialization.load_der_public_key,
}


def _describe(
    path: Path, position: int, label: str, data: bytes, now: datetime, chain: list[x509.Certificate]
) -> Described:
    der = label.startswith("DER ")
    kind = label.removeprefix("DER ")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyca warns of what is reported as an oddity here
            if kind in {"CERTIFICATE", "X509 CERTIFICATE"}:
                certificate = _load_any_certificate(data.replace(b" X509 CERT", b" CERT") if not der else data)
                described = _certificate(path, position, certificate, now)
                chain.append(certificate)
                return described
            if kind in {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}:
                request = x509.load_der_x509_csr(data) if der else x509.load_pem_x509_csr(data)
                return _request(path, position, request)
            if kind == "X509 CRL":
                crl = x509.load_der_x509_crl(data) if der else x509.load_pem_x509_crl(data)
                return _crl(path, position, crl, now)
            if kind.endswith("PRIVATE KEY"):
                return _private_key(path, position, data, der=der)
            if kind.endswith("PUBLIC KEY"):
                public = serialization.load_der_public_key(data) if der else serialization.load_pem_public_key(data)
                return KeyDescription(
                    path, position, describe_key(public), _spki(public), is_private=False, is_encrypted=False
                )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return Unreadable(path, position, label, str(error) or type(error).__name__)
    return Unreadable(path, position, label, "not a kind of object that is read here")


def _certificate(path: Path, position: int, certificate: x509.Certificate, now: datetime) -> CertificateDescription:
    found = {type(extension.value): extension.value for extension in certificate.extensions}
    basic: Any = found.get(x509.BasicConstraints)
    names: Any = found.get(x509.SubjectAlternativeName, ())
    usages: Any = found.get(x509.ExtendedKeyUsage, ())
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
        extended_key_usage=tuple(_usage_name(oid.dotted_string) for oid in usages),
        subject_key_identifier=own.digest.hex() if own else "",
        authority_key_identifier=(authority.key_identifier or b"").hex() if authority else "",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        spki_sha256=_spki(certificate.public_key()),
        oddities=tuple(oddities.of_certificate(certificate, now=now)),
    )


def _request(path: Path, position: int, request: x509.CertificateSigningRequest) -> RequestDescription:
    try:
        wanted = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(describe_name(name) for name in wanted)
    except x509.ExtensionNotFound:
        names = ()
    return RequestDescription(
        path,
        position,
        subject=request.subject.rfc4514_string(),
        names=names,
        key=describe_key(request.public_key()),
        signature=_signature(request),
        spki_sha256=_spki(request.public_key()),
        oddities=tuple(oddities.of_request(request)),
    )


def _crl(path: Path, position: int, crl: x509.CertificateRevocationList, now: datetime) -> CrlDescription:
    return CrlDescription(
        path,
        position,
        issuer=crl.issuer.rfc4514_string(),
        last_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        revoked=len(crl),
        signature=_signature(crl),
        oddities=tuple(oddities.of_crl(crl, now=now)),
    )


def _private_key(path: Path, position: int, data: bytes, *, der: bool) -> KeyDescription:
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
    try:
        load = serialization.load_der_private_key if der else serialization.load_pem_private_key
        public: Any = load(data, password=None).public_key()
    except TypeError:  # under a passphrase
        return KeyDescription(path, position, "", "", is_private=True, is_encrypted=True, oddities=exposed)
    return KeyDescription(
        path,
        position,
        describe_key(public),
        _spki(public),
        is_private=True,
        is_encrypted=False,
        oddities=(*exposed, *oddities.of_public_key(public)),
    )


def _with_others(item: Described, found: list[Described], chains: dict[Path, list[x509.Certificate]]) -> Described:
    if isinstance(item, CertificateDescription) and item.position == 1:
        return replace(item, oddities=(*item.oddities, *oddities.of_order(chains[item.file])))
    certificates = {other.spki_sha256 for other in found if isinstance(other, CertificateDescription)}
    if isinstance(item, KeyDescription) and certificates and item.spki_sha256 not in {"", *certificates}:
        stray = Oddity(
            "key-mismatch",
            "the key belongs to none of the certificates",
            "a handshake with this pair fails",
            "use the key that the certificate was requested with, or request a new certificate",
        )
        return replace(item, oddities=(*item.oddities, stray))
    return item


_USAGES = {
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


def _usage_name(oid: str) -> str:
    return _USAGES.get(oid, oid)


def _key_usages(usage: Any) -> tuple[str, ...]:  # noqa: ANN401 - pyca's mapping of extensions is untyped
    return tuple(word for attribute, word in _KEY_USAGES.items() if usage and getattr(usage, attribute))


def _signature(signed: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> str:
    names = {"1.2.840.10045.4.3.2": "ECDSA SHA-256", "1.2.840.113549.1.1.11": "RSA SHA-256"}
    oid = signed.signature_algorithm_oid
    return names.get(oid.dotted_string) or str(getattr(oid, "_name", oid.dotted_string))


def _spki(key: Any) -> str:  # noqa: ANN401 - any of pyca's public keys
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()
