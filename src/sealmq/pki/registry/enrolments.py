"""The tables of the registry about devices that are on their way in: tokens given out and approvals asked for.

It knows nothing of what a token looks like or of who may use it; it compares hashes and keeps dates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki.registry.file import RegistryFile, maybe_moment, moment, seconds
from sealmq.pki.registry.records import Approval, ApprovalState, TokenRecord

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime


class Tokens:
    """One-time tokens by their hash; part of a `Registry`."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def add(self, record: TokenRecord) -> None:
        """Remember a token of a device that is in the registry; earlier unused ones of that device are void."""
        with self._file.transaction():
            self.void(record.device_id)
            self._file.change(
                "INSERT INTO tokens (hash, device_id, profile, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                (
                    record.hash,
                    record.device_id,
                    record.profile,
                    seconds(record.created_at),
                    seconds(record.expires_at),
                ),
            )

    def find(self, token_hash: str) -> TokenRecord | None:
        """The token with that hash, used and expired ones too; None when there never was one, or it is void."""
        rows = self._file.rows("SELECT * FROM tokens WHERE hash = ?", (token_hash,))
        return _token(rows[0]) if rows else None

    def use(self, token_hash: str, *, now: datetime) -> bool:
        """Mark a token as used; False when somebody was faster."""
        statement = "UPDATE tokens SET used_at = ? WHERE hash = ? AND used_at IS NULL"
        return self._file.change(statement, (seconds(now), token_hash)) == 1

    def void(self, device_id: str) -> int:
        """Make the unused tokens of a device worthless; how many there were."""
        return self._file.change("DELETE FROM tokens WHERE device_id = ? AND used_at IS NULL", (device_id,))


class Approvals:
    """Devices that came with a factory certificate and what was said about them; part of a `Registry`."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def ask(self, asked: Approval, *, at_most: int) -> Approval | None:
        """Enter a request, or find the one there is of the same certificate; None when `at_most` are waiting already.

        A waiting request takes the new address; what was decided stays.
        """
        with self._file.transaction():
            known = self.find(asked.sha256)
            if known is None:
                waiting = self._file.rows("SELECT count(*) AS n FROM approvals WHERE state = 'waiting'")[0]["n"]
                if waiting >= at_most:
                    return None
                self._file.change(
                    "INSERT INTO approvals (sha256, device_id, subject, issuer, peer, state, requested_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        asked.sha256,
                        asked.device_id,
                        asked.subject,
                        asked.issuer,
                        asked.peer,
                        asked.state,
                        seconds(asked.requested_at),
                    ),
                )
                return asked
            if known.state == ApprovalState.WAITING:
                self._file.change("UPDATE approvals SET peer = ? WHERE sha256 = ?", (asked.peer, asked.sha256))
        return known

    def find(self, sha256: str) -> Approval | None:
        """The request of a device with that factory certificate."""
        rows = self._file.rows("SELECT * FROM approvals WHERE sha256 = ?", (sha256,))
        return _approval(rows[0]) if rows else None

    def of_device(self, device_id: str) -> Approval | None:
        """The request for that id."""
        rows = self._file.rows("SELECT * FROM approvals WHERE device_id = ?", (device_id,))
        return _approval(rows[0]) if rows else None

    def waiting(self) -> list[Approval]:
        """Those nobody has decided, the oldest first."""
        rows = self._file.rows("SELECT * FROM approvals WHERE state = 'waiting' ORDER BY requested_at, device_id")
        return [_approval(row) for row in rows]

    def forget(self, device_id: str) -> None:
        """Drop the request for that id: it has been served."""
        self._file.change("DELETE FROM approvals WHERE device_id = ?", (device_id,))

    def decide(self, device_id: str, state: ApprovalState, *, now: datetime) -> None:
        """Note what was said about a request."""
        statement = "UPDATE approvals SET state = ?, decided_at = ? WHERE device_id = ?"
        self._file.change(statement, (state, seconds(now), device_id))


def _token(row: sqlite3.Row) -> TokenRecord:
    return TokenRecord(
        hash=row["hash"],
        device_id=row["device_id"],
        profile=row["profile"],
        created_at=moment(row["created_at"]),
        expires_at=moment(row["expires_at"]),
        used_at=maybe_moment(row["used_at"]),
    )


def _approval(row: sqlite3.Row) -> Approval:
    return Approval(
        sha256=row["sha256"],
        device_id=row["device_id"],
        subject=row["subject"],
        issuer=row["issuer"],
        peer=row["peer"],
        state=row["state"],
        requested_at=moment(row["requested_at"]),
        decided_at=maybe_moment(row["decided_at"]),
    )
