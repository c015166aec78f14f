"""The keys that session tickets are sealed with (RFC 8446, section 4.6.1): three of them, turned every twelve hours.

It refuses to know what is in a ticket; the data plane seals and opens, and refuses one that no longer counts.

They are kept over a restart, so that a fleet comes back by resumption and not by as many full handshakes at once.
Whoever has a key can read what was sent under TLS 1.2 tickets that it sealed, so none lives longer than three turns.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sealmq.errors import Environment
from sealmq.secretfiles import read_private, write_private

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sealmq.datafolder import DataFolder

KEPT = 3
TURN = timedelta(hours=12)
_LIFETIME = KEPT * TURN
_NAME_BYTES, _KEY_BYTES = 16, 32


@dataclass(frozen=True, slots=True)
class TicketKey:
    """One key: `name` (32 hex digits) is sent in clear with each ticket; `key` has 64; `made_at` is Unix time."""

    name: str
    key: str = field(repr=False)
    made_at: int


class TicketKeys:
    """The keys in the file `tickets.json` (0600) of a data folder, newest first; made by `open`."""

    def __init__(self, path: Path, keys: list[TicketKey]) -> None:
        """For `open` only."""
        self._path = path
        self._keys = keys

    @classmethod
    def open(cls, folder: DataFolder, *, now: datetime) -> TicketKeys:
        """The keys of that folder that still count. Raises `Environment` when a new one cannot be written.

        A file that is damaged or open to others is replaced: all it costs is one full handshake per client.
        """
        path = folder.path / "tickets.json"
        found = cls(path, _load(path))
        found.turn(now=now)
        return found

    def for_engine(self) -> list[dict[str, str]]:
        """`name` and `key` of each, newest first, as a `NodeConfig` has them."""
        return [{"name": key.name, "key": key.key} for key in self._keys]

    def turn(self, *, now: datetime) -> bool:
        """Make a new key when its time has come, and forget those past theirs; whether anything changed."""
        moment = int(now.timestamp())
        # a key from the future was made under a wrong clock, and nobody knows how old it is
        counts = [key for key in self._keys if 0 <= moment - key.made_at < _LIFETIME.total_seconds()]
        if counts and moment - counts[0].made_at < TURN.total_seconds():
            changed = counts != self._keys
        else:
            made = TicketKey(secrets.token_hex(_NAME_BYTES), secrets.token_hex(_KEY_BYTES), moment)
            counts, changed = [made, *counts][:KEPT], True
        if changed:
            write_private(self._path, json.dumps([asdict(key) for key in counts]).encode())
            self._keys = counts
        return changed


def _load(path: Path) -> list[TicketKey]:
    try:
        document = json.loads(read_private(path))
        keys = [TicketKey(str(one["name"]), str(one["key"]), int(one["made_at"])) for one in document]
        sound = all(
            (len(bytes.fromhex(key.name)), len(bytes.fromhex(key.key))) == (_NAME_BYTES, _KEY_BYTES) for key in keys
        )
    except (Environment, ValueError, KeyError, TypeError):
        return []
    return sorted(keys, key=lambda key: -key.made_at) if sound else []
