"""The registry as its users hold it: devices and their certificates, with tokens, approvals and bundles at hand.

It knows nothing of why a status changes; whoever decides says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki.registry.bundles import Bundles
from sealmq.pki.registry.enrolments import Approvals, Tokens
from sealmq.pki.registry.file import RegistryFile, maybe_moment, moment, seconds
from sealmq.pki.registry.records import CertificateRecord, CertificateStatus, Device, DeviceStatus, Ending

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from sealmq.datafolder import DataFolder

_FORGOTTEN_AT_ONCE = 1000  # rows of one transaction


class Registry:
    """An open registry; may be shared by threads. Close it, or use it as a context manager.

    Durability and errors are those of `RegistryFile`. `tokens`, `approvals` and `bundles` are tables of the same
    file: what is done to them inside `transaction` is part of it.
    """

    def __init__(self, path: Path) -> None:
        """The registry in the file at `path`; `open` knows where it lies."""
        self._file = RegistryFile(path)
        self._shut_out: dict[str, Ending] = {}
        self.tokens = Tokens(self._file)
        self.approvals = Approvals(self._file)
        self.bundles = Bundles(self._file)

    @classmethod
    def open(cls, folder: DataFolder) -> Registry:
        """The registry of a data folder, made when there is none. Raises what `RegistryFile` does."""
        return cls(folder.registry_path)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All changes in the block, or none of them; an exception rolls back. Blocks may nest, the outermost counts."""
        return self._file.transaction()

    def add_device(
        self,
        device_id: str,
        *,
        profile: str,
        now: datetime,
        status: DeviceStatus = DeviceStatus.ACTIVE,
        groups: Iterable[str] = (),
    ) -> Device:
        """Enter a device. Raises `NotSo` with code `device-exists`, or `device-retired` for an id that had its life."""
        with self.transaction():
            for row in self._file.rows("SELECT status FROM devices WHERE id = ?", (device_id,)):
                raise _taken(device_id, row["status"])
            self._file.change(
                "INSERT INTO devices (id, profile, status, created_at, status_at) VALUES (?, ?, ?, ?, ?)",
                (device_id, profile, status, seconds(now), seconds(now)),
            )
            for name in dict.fromkeys(groups):
                self._file.change("INSERT INTO device_groups (device_id, name) VALUES (?, ?)", (device_id, name))
        return self.device(device_id)

    def revive_device(self, device_id: str, *, profile: str, now: datetime, groups: Iterable[str] = ()) -> Device:
        """Give a retired id out again, as a pending device; its old certificates stay revoked.

        Raises `NotSo` with code `device-exists` when the id is not retired, `device-unknown` when it is not known.
        """
        with self.transaction():
            device = self.device(device_id)
            if device.status != DeviceStatus.RETIRED:
                raise _taken(device_id, device.status)
            self._file.change("UPDATE devices SET profile = ? WHERE id = ?", (profile, device_id))
            self.put_status(device_id, DeviceStatus.PENDING, now=now)
            self._file.change("DELETE FROM device_groups WHERE device_id = ?", (device_id,))
            for name in dict.fromkeys(groups):
                self._file.change("INSERT INTO device_groups (device_id, name) VALUES (?, ?)", (device_id, name))
        return self.device(device_id)

    def put_status(self, device_id: str, status: DeviceStatus, *, now: datetime, reason: str = "") -> None:
        """Change where a device is in its life. Raises `NotSo` with code `device-unknown`."""
        statement = "UPDATE devices SET status = ?, status_at = ?, reason = ? WHERE id = ?"
        if not self._file.change(statement, (status, seconds(now), reason, device_id)):
            raise _unknown(device_id)

    def shut_out(self, device_id: str, ending: Ending) -> None:
        """Let a device count as revoked from here on for everybody who asks this object, whether or not the file can be
        written; `settled` ends it.
        """
        self._shut_out[device_id] = ending

    def settled(self, device_id: str) -> None:
        """The file has the end of that device now, or it was not to be."""
        self._shut_out.pop(device_id, None)

    def unwritten(self) -> dict[str, Ending]:
        """The devices that are shut out and that the file has otherwise, by id: it lasts until this object is gone."""
        return dict(self._shut_out)

    def record_certificate(self, record: CertificateRecord) -> None:
        """Remember a certificate of a device that is in the registry."""
        self._file.change(
            "INSERT INTO certificates (serial, device_id, issuer, not_before, not_after, sha256, created_at, status)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.serial,
                record.device_id,
                record.issuer,
                seconds(record.not_before),
                seconds(record.not_after),
                record.sha256,
                seconds(record.created_at),
                record.status,
            ),
        )

    def revoke_certificates(self, device_id: str, *, now: datetime) -> list[CertificateRecord]:
        """Revoke every certificate of a device that is not revoked yet; those that were, as they were before."""
        with self.transaction():
            found = [one for one in self.device(device_id).certificates if one.status != CertificateStatus.REVOKED]
            self._file.change(
                "UPDATE certificates SET status = 'revoked', revoked_at = ?"
                " WHERE device_id = ? AND status != 'revoked'",
                (seconds(now), device_id),
            )
        return found

    def certificates_seen(self, seen: Mapping[str, datetime]) -> list[CertificateRecord]:
        """Remember handshakes, certificate by SHA-256 to time; the certificates that were superseded by them.

        A certificate that is seen for the first time supersedes the active ones that its device got before it.
        """
        superseded: list[CertificateRecord] = []
        with self.transaction():
            for sha256, at in seen.items():
                record = self.certificate(sha256)
                if record is None:
                    continue
                self._file.change(
                    "UPDATE certificates SET first_seen_at = ifnull(first_seen_at, ?1), last_seen_at = ?1"
                    " WHERE sha256 = ?2",
                    (seconds(at), sha256),
                )
                if record.first_seen_at is None:
                    superseded += self._supersede(record)
        return superseded

    def certificate(self, sha256: str) -> CertificateRecord | None:
        """The certificate with that SHA-256 of its DER form, None when this registry does not know it."""
        rows = self._file.rows("SELECT * FROM certificates WHERE sha256 = ?", (sha256,))
        return _record(rows[0]) if rows else None

    def forget_certificates(self, *, expired_before: datetime, issuers: Collection[str]) -> int:
        """Drop the certificates that expired before that time; how many there were.

        The one that lasts longest stays for each device. Revoked ones of `issuers`, the key ids of the CAs that are
        trusted, stay too: were the clock wrong, they would be let in again.
        """
        marks = ", ".join("?" * len(issuers))
        longer = (
            "SELECT 1 FROM certificates AS other WHERE other.device_id = one.device_id"
            " AND (other.not_after, other.created_at, other.rowid) > (one.not_after, one.created_at, one.rowid)"
        )
        found = (
            f"SELECT rowid FROM certificates AS one WHERE not_after < ? AND EXISTS ({longer})"  # noqa: S608
            f" AND NOT (status = 'revoked' AND issuer IN ({marks})) LIMIT ?"
        )
        statement = f"DELETE FROM certificates WHERE rowid IN ({found})"  # noqa: S608
        forgotten = 0
        while True:  # in pieces: enrolment goes on in between
            count = self._file.change(statement, (seconds(expired_before), *issuers, _FORGOTTEN_AT_ONCE))
            forgotten += count
            if count < _FORGOTTEN_AT_ONCE:
                return forgotten

    def revoked_certificates(self) -> list[CertificateRecord]:
        """Every revoked certificate, in the order of revocation."""
        rows = self._file.rows("SELECT * FROM certificates WHERE status = 'revoked' ORDER BY revoked_at, serial")
        return [_record(row) for row in rows]

    def devices(self) -> list[Device]:
        """Every device with its certificates, by id."""
        with self._file.reading():
            rows = self._file.rows("SELECT * FROM devices ORDER BY id")
            certificates: dict[str, list[CertificateRecord]] = {}
            for row in self._file.rows("SELECT * FROM certificates ORDER BY not_after DESC, created_at DESC"):
                certificates.setdefault(row["device_id"], []).append(_record(row))
            groups = self.groups()
        return [self._device(row, certificates.get(row["id"], ()), groups.get(row["id"], ())) for row in rows]

    def device(self, device_id: str) -> Device:
        """The device of that id. Raises `NotSo` with code `device-unknown`."""
        with self._file.reading():
            rows = self._file.rows("SELECT * FROM devices WHERE id = ?", (device_id,))
            if not rows:
                raise _unknown(device_id)
            found = self._file.rows(
                "SELECT * FROM certificates WHERE device_id = ? ORDER BY not_after DESC, created_at DESC", (device_id,)
            )
            names = self._file.rows("SELECT name FROM device_groups WHERE device_id = ? ORDER BY name", (device_id,))
        return self._device(rows[0], [_record(row) for row in found], [row["name"] for row in names])

    def has_device(self, device_id: str) -> bool:
        """Whether the id was ever entered, whatever became of it."""
        return bool(self._file.rows("SELECT 1 FROM devices WHERE id = ?", (device_id,)))

    def groups(self) -> dict[str, list[str]]:
        """Device id to the groups it is in, in order; devices in none are left out."""
        found: dict[str, list[str]] = {}
        for row in self._file.rows("SELECT device_id, name FROM device_groups ORDER BY device_id, name"):
            found.setdefault(row["device_id"], []).append(row["name"])
        return found

    def ids(self, *statuses: DeviceStatus) -> list[str]:
        """The ids of the devices that have one of `statuses`, in order."""
        marks = ", ".join("?" * len(statuses))
        rows = self._file.rows(f"SELECT id FROM devices WHERE status IN ({marks}) ORDER BY id", statuses)  # noqa: S608
        found, shut_out = {row["id"] for row in rows}, self._shut_out.keys()
        return sorted(found | shut_out if DeviceStatus.REVOKED in statuses else found - shut_out)

    def reasons(self) -> dict[str, str]:
        """Device id to the reason of its status, for the devices that have one."""
        return {
            row["id"]: row["reason"] for row in self._file.rows("SELECT id, reason FROM devices WHERE reason != ''")
        }

    def _device(self, row: sqlite3.Row, certificates: Sequence[CertificateRecord], groups: Sequence[str]) -> Device:
        device = Device(
            row["id"],
            row["profile"],
            row["status"],
            moment(row["created_at"]),
            tuple(certificates),
            tuple(groups),
            maybe_moment(row["status_at"]),
            row["reason"],
        )
        ending = self._shut_out.get(device.id)
        if ending is None:
            return device
        return replace(device, status=DeviceStatus.REVOKED, status_at=ending.at, reason=ending.reason)

    def _supersede(self, later: CertificateRecord) -> list[CertificateRecord]:
        # by the order of recording: two certificates of one second have no other
        before = "device_id = ?1 AND status = 'active' AND rowid < (SELECT rowid FROM certificates WHERE sha256 = ?2)"
        values = (later.device_id, later.sha256)
        found = self._file.rows(f"SELECT * FROM certificates WHERE {before}", values)  # noqa: S608
        self._file.change(f"UPDATE certificates SET status = 'superseded' WHERE {before}", values)  # noqa: S608
        return [_record(row) for row in found]


def _taken(device_id: str, status: str) -> NotSo:
    if status == DeviceStatus.RETIRED:
        return NotSo(
            f"device id {device_id} was retired and is not given out again",
            mend="choose another id; --reuse-retired gives it out all the same",
            code="device-retired",
        )
    return NotSo(
        f"device {device_id} exists already",
        mend=f"choose another id, or see it with `sealmq device show {device_id}`",
        code="device-exists",
    )


def _unknown(device_id: str) -> NotSo:
    return NotSo(
        f"device {device_id} does not exist",
        mend=f"see `sealmq device list`, or make it with `sealmq device add {device_id}`",
        code="device-unknown",
    )


def _record(row: sqlite3.Row) -> CertificateRecord:
    return CertificateRecord(
        serial=row["serial"],
        device_id=row["device_id"],
        issuer=row["issuer"],
        not_before=moment(row["not_before"]),
        not_after=moment(row["not_after"]),
        sha256=row["sha256"],
        created_at=moment(row["created_at"]),
        status=row["status"],
        first_seen_at=maybe_moment(row["first_seen_at"]),
        last_seen_at=maybe_moment(row["last_seen_at"]),
        revoked_at=maybe_moment(row["revoked_at"]),
    )
