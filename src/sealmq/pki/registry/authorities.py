"""The tables of the registry about CAs: each key with its state, and which device has confirmed which bundle.

It knows nothing of when a state may change; the rotation decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki.registry.file import RegistryFile, moment, seconds
from sealmq.pki.registry.records import AuthorityRecord, AuthorityState

if TYPE_CHECKING:
    from datetime import datetime


class Authorities:
    """CA keys by key id, and the confirmations of bundles; part of a `Registry`."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def record(self, record: AuthorityRecord) -> None:
        """Remember a CA key, or what changed about it."""
        self._file.change(
            "INSERT INTO authorities (key_id, kind, state, sha256, not_after, created_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key_id) DO UPDATE SET state = excluded.state, sha256 = excluded.sha256,"
            " not_after = excluded.not_after",
            (
                record.key_id,
                record.kind,
                record.state,
                record.sha256,
                seconds(record.not_after),
                seconds(record.created_at),
            ),
        )

    def put_state(self, key_id: str, state: AuthorityState) -> bool:
        """Change the state of a CA key; False when there is none of that id."""
        return self._file.change("UPDATE authorities SET state = ? WHERE key_id = ?", (state, key_id)) == 1

    def all(self) -> list[AuthorityRecord]:
        """Every CA key, the oldest first."""
        return [
            AuthorityRecord(
                key_id=row["key_id"],
                kind=row["kind"],
                state=row["state"],
                sha256=row["sha256"],
                not_after=moment(row["not_after"]),
                created_at=moment(row["created_at"]),
            )
            for row in self._file.rows("SELECT * FROM authorities ORDER BY created_at, key_id")
        ]

    def confirm(self, device_id: str, version: int, *, at: datetime) -> None:
        """Note that a device holds a version of the bundle; the first time counts."""
        statement = "INSERT OR IGNORE INTO bundle_confirmations (device_id, version, at) VALUES (?, ?, ?)"
        self._file.change(statement, (device_id, version, seconds(at)))

    def confirmed(self, version: int) -> dict[str, datetime]:
        """The devices that hold that version of the bundle or a later one, by id, and since when."""
        rows = self._file.rows(
            "SELECT device_id, min(at) AS since FROM bundle_confirmations WHERE version >= ? GROUP BY device_id"
            " ORDER BY device_id",
            (version,),
        )
        return {row["device_id"]: moment(row["since"]) for row in rows}
