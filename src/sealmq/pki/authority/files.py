"""The files of the CA's keys and certificates: loading them, whole or not at all, and writing new ones.

It knows nothing of what a key is for; the record says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sealmq.errors import DataFolderError, Environment
from sealmq.pki import signing
from sealmq.pki.authority.record import Kind, State
from sealmq.pki.malformed import MALFORMED, whole
from sealmq.secretfiles import read_private, write_private, write_public

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sealmq.pki.authority.record import Entry, Record
    from sealmq.pki.signing import Issuer

RESTORE = "restore the folder `ca` from a backup; without it no device of this fleet can get a new certificate"


@dataclass(frozen=True, slots=True)
class Member:
    """One CA with its key; `bridge` is a root's second certificate, by the root before it. Prints without keys."""

    entry: Entry
    issuer: Issuer
    bridge: x509.Certificate | None = None

    @property
    def certificate(self) -> x509.Certificate:
        """Its own certificate."""
        return self.issuer.certificate

    @property
    def not_after(self) -> datetime:
        """The end of its validity, UTC."""
        return self.certificate.not_valid_after_utc

    @property
    def name(self) -> str:
        """Its common name, such as `fleet-3f2a91 Devices 2`."""
        return self.certificate.subject.rfc4514_string().removeprefix("CN=")

    @property
    def key_id(self) -> str:
        """Its subject key identifier, lower-case hex: the authority key identifier of what it issues."""
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return identifier.digest.hex()


def load(ca_dir: Path, record: Record) -> tuple[Member, ...]:
    """Every CA that still has its key, in the order of the record; the chain of each is checked.

    Raises `DataFolderError` with code `ca-damaged` when a file is gone, unreadable as a certificate or key, or does not
    fit the others; `Environment` when the system forbids or a key is open to others.
    """
    found: dict[tuple[Kind, int], Member] = {}
    for entry in sorted(record.entries, key=lambda one: one.kind is not Kind.ROOT):
        if entry.state is State.RETIRED:
            continue
        root = None if entry.kind is Kind.ROOT else found[Kind.ROOT, entry.root].certificate
        issuer = _issuer(ca_dir, entry.stem, signed_by=root)
        bridge = _certificate(ca_dir / _bridge_name(entry)) if entry.bridged else None
        found[entry.kind, entry.number] = Member(entry, issuer, bridge)
    return tuple(found[entry.kind, entry.number] for entry in record.entries if (entry.kind, entry.number) in found)


def write(ca_dir: Path, member: Member) -> None:
    """The files of a new CA, in the place of what a step that was cut short left there."""
    write_private(ca_dir / f"{member.entry.stem}.key", signing.key_pem(member.issuer.key))
    write_public(ca_dir / f"{member.entry.stem}.pem", signing.certificate_pem(member.certificate))
    if member.bridge is not None:
        write_public(ca_dir / _bridge_name(member.entry), signing.certificate_pem(member.bridge))


def destroy_keys(ca_dir: Path, record: Record) -> None:
    """Remove the keys of what is retired; the certificates stay as a record. Nothing happens when that was done."""
    for entry in record.entries:
        if entry.state is State.RETIRED:
            (ca_dir / f"{entry.stem}.key").unlink(missing_ok=True)


def _bridge_name(entry: Entry) -> str:
    return f"{entry.stem}.bridge.pem"


def _certificate(path: Path) -> x509.Certificate:
    try:
        return whole(x509.load_pem_x509_certificate(path.read_bytes()))
    except FileNotFoundError as error:
        raise DataFolderError(f"CA file {path} is gone", mend=RESTORE, code="ca-damaged") from error
    except MALFORMED as error:
        raise DataFolderError(f"CA file {path} is damaged", mend=RESTORE, code="ca-damaged") from error
    except OSError as error:
        raise Environment(
            f"CA file {path} cannot be read: {(error.strerror or str(error)).lower()}",
            mend="run as the owner of the data folder",
            code="permission-denied",
        ) from error


def _issuer(folder: Path, name: str, *, signed_by: x509.Certificate | None) -> Issuer:
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate = _certificate(certificate_path)
    try:
        key = serialization.load_pem_private_key(read_private(key_path), password=None)
        certificate.verify_directly_issued_by(signed_by or certificate)
    except Environment as error:
        if error.code != "file-missing":
            raise
        raise DataFolderError(f"CA file {key_path} is gone", mend=RESTORE, code="ca-damaged") from error
    except (InvalidSignature, *MALFORMED) as error:
        raise DataFolderError(
            f"CA files {name}.pem and {name}.key in {folder} are damaged or not signed by the root beside them",
            mend=RESTORE,
            code="ca-damaged",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise DataFolderError(
            f"CA key {key_path} does not belong to {certificate_path}", mend=RESTORE, code="ca-damaged"
        )
    return signing.Issuer(certificate, key)
