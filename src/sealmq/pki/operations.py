"""What can be done with the identities of a data folder, one plain function each; a command and a broker call the same.

It knows nothing of sockets, of locks or of how results are shown: arguments and results are what JSON can carry.

Whoever calls an operation owns the folder (`DataFolder.lock`) and passes the authority and the registry it opened.
Times in results are ISO 8601, UTC, such as `2026-11-20T20:33:00Z`; paths are absolute; fingerprints lower-case hex.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sealmq.errors import NotSo
from sealmq.pki import signing
from sealmq.pki.names import check_device_id, device_uri
from sealmq.pki.profiles import DEVICE_PROFILES, device_profile
from sealmq.pki.registry import CertificateRecord, Device, Registry
from sealmq.secretfiles import ensure_private_dir, new_private_dir, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceFiles:
    """The three files of a device: its certificate chain, its private key, and the CA it trusts for the broker."""

    cert: Path
    key: Path
    ca: Path

    @classmethod
    def inside(cls, directory: Path) -> DeviceFiles:
        """The files of that directory, by the names `device add` gives them; nothing is read."""
        return cls(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")


def device_files(folder: DataFolder, device_id: str) -> DeviceFiles:
    """The files of a device whose certificate lies in the data folder, for acting as that device.

    Raises `UsageError` for an impossible id, `NotSo` with code `device-files-missing` when they are not there.
    """
    check_device_id(device_id)
    files = DeviceFiles.inside(folder.devices_dir / device_id)
    if not all(path.is_file() for path in (files.cert, files.key, files.ca)):
        raise NotSo(
            f"device {device_id} has no files in {folder.devices_dir}",
            mend=f"make it with `sealmq device add {device_id}`; for files elsewhere use --cafile, --cert and --key",
            code="device-files-missing",
        )
    return files


def device_add(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    out: str | Path | None = None,
    profile: str = "default",
    now: datetime | None = None,
) -> Result:
    """Make a device: key and certificate in `out`/`id` (0700; the key 0600), entered in the registry; all or nothing.

    `out` defaults to the folder's `devices`. The result has `id`, `profile`, `uri`, `files` {`cert`, `key`, `ca`} and
    `certificate` as in `device_show`. Raises `UsageError` for an impossible id or profile, `NotSo` with code
    `device-exists`, `Environment` when a file cannot be written or `out`/`id` is there already.
    """
    check_device_id(id)
    device_profile(profile)
    now = now or signing.utc_now()
    target = Path(out).absolute() / id if out is not None else folder.devices_dir / id
    if out is None:
        ensure_private_dir(folder.devices_dir)
    placed = False
    try:
        with registry.transaction():
            device = registry.add_device(id, profile=profile, now=now)
            bundle = authority.issue_device(id, profile, now=now)
            record = certificate_record(bundle.certificate, device_id=id, now=now)
            registry.record_certificate(record)
            # before the commit: files that no registry knows are refused next time, a device without its key is worse
            with new_private_dir(target) as making:
                files = DeviceFiles.inside(making)
                write_private(files.key, bundle.key_pem)
                write_public(files.cert, bundle.cert_chain_pem)
                write_public(files.ca, authority.server_ca_pem())
            placed = True
    except BaseException:
        if placed:  # the commit failed, on a full disk for one
            shutil.rmtree(target, ignore_errors=True)
        raise
    files = DeviceFiles.inside(target)
    return {
        "id": id,
        "profile": device.profile,
        "uri": device_uri(folder.fleet, id),
        "files": {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)},
        "certificate": _certificate(record, now),
    }


def device_list(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    now: datetime | None = None,
) -> Result:
    """Every device: `devices`, a list of `id`, `profile`, `status`, `created_at`, `not_after` and `seconds_left`.

    The last two are those of the certificate that lasts longest, null when there is none.
    """
    now = now or signing.utc_now()
    return {"devices": [_summary(device, now) for device in registry.devices()]}


def device_show(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    id: str,  # noqa: A002
    now: datetime | None = None,
) -> Result:
    """One device: what `device_list` says, `uri`, `lifetime_seconds` of its profile, and `certificates`.

    A certificate has `serial`, `issuer`, `sha256`, `not_before`, `not_after`, `seconds_left` (below 0 when expired),
    `status`. Raises `NotSo` with code `device-unknown`.
    """
    now = now or signing.utc_now()
    device = registry.device(id)
    profile = DEVICE_PROFILES.get(device.profile)
    return {
        **_summary(device, now),
        "uri": device_uri(folder.fleet, id),
        "lifetime_seconds": int(profile.lifetime.total_seconds()) if profile else None,
        "certificates": [_certificate(record, now) for record in device.certificates],
    }


def ca_show(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,  # noqa: ARG001
    *,
    now: datetime | None = None,
) -> Result:
    """The CA: `fleet` and `authorities`, the root first.

    Each has `role` (`root`, `devices`, `servers`), `subject`, `issuer`, `serial`, `not_before`, `not_after`,
    `seconds_left`, `sha256` of the certificate, `spki_sha256` of its public key, and `file`.
    """
    now = now or signing.utc_now()
    issuers = {"root": authority.root, "devices": authority.device_issuer, "servers": authority.server_issuer}
    return {
        "fleet": authority.fleet,
        "authorities": [
            {
                "role": role,
                "subject": issuer.certificate.subject.rfc4514_string(),
                "issuer": issuer.certificate.issuer.rfc4514_string(),
                "serial": f"{issuer.certificate.serial_number:x}",
                "not_before": _iso(issuer.certificate.not_valid_before_utc),
                "not_after": _iso(issuer.certificate.not_valid_after_utc),
                "seconds_left": int((issuer.certificate.not_valid_after_utc - now).total_seconds()),
                "sha256": issuer.certificate.fingerprint(hashes.SHA256()).hex(),
                "spki_sha256": spki_sha256(issuer.certificate),
                "file": str(folder.ca_dir / f"{role}.pem"),
            }
            for role, issuer in issuers.items()
        ],
    }


def ca_export(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,
    registry: Registry,  # noqa: ARG001
) -> Result:
    """What devices trust for the broker: `pem` (the root, text) and `sha256` of the certificate."""
    return {
        "pem": authority.server_ca_pem().decode("ascii"),
        "sha256": authority.root.certificate.fingerprint(hashes.SHA256()).hex(),
    }


OPERATIONS: dict[str, Callable[..., Result]] = {
    "device-add": device_add,
    "device-list": device_list,
    "device-show": device_show,
    "ca-show": ca_show,
    "ca-export": ca_export,
}
"""By verb, as it crosses `control.sock`: `OPERATIONS[verb](folder, authority, registry, **args)`."""


def certificate_record(certificate: x509.Certificate, *, device_id: str, now: datetime) -> CertificateRecord:
    """What the registry remembers of a certificate that this CA issued."""
    identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return CertificateRecord(
        serial=f"{certificate.serial_number:x}",
        device_id=device_id,
        issuer=(identifier or b"").hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        created_at=now,
    )


def spki_sha256(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, the value that a pin holds (RFC 7469, section 2.4)."""
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest()


def _summary(device: Device, now: datetime) -> Result:
    latest = device.certificates[0] if device.certificates else None
    return {
        "id": device.id,
        "profile": device.profile,
        "status": device.status,
        "created_at": _iso(device.created_at),
        "not_after": _iso(latest.not_after) if latest else None,
        "seconds_left": int((latest.not_after - now).total_seconds()) if latest else None,
    }


def _certificate(record: CertificateRecord, now: datetime) -> Result:
    return {
        "serial": record.serial,
        "issuer": record.issuer,
        "sha256": record.sha256,
        "not_before": _iso(record.not_before),
        "not_after": _iso(record.not_after),
        "seconds_left": int((record.not_after - now).total_seconds()),
        "status": record.status,
    }


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
