"""Publishes that wait until there is a connection with room for them: bounded, and on disk when that is asked for.

It refuses to send. On disk (SQLite, mode 0600) are publishes of QoS 1 and 2, from before their first sending until the
server has acknowledged them; what a killed process left is there again for the next one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sealmq.errors import Environment, NotSo

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS publishes (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
    retain INTEGER NOT NULL, properties TEXT
) STRICT
"""


class Publish(NamedTuple):
    """One publish; `row` is where it stands on disk, 0 for nowhere, `result` hears the reason code."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: str | None
    result: asyncio.Future[int] | None
    row: int = 0


class Backlog:
    """First in, first out; at most `most` publishes wait."""

    def __init__(self, most: int, path: Path | None = None) -> None:
        """Open the file when there is one. Raises `Environment` when it cannot be used."""
        self._most = most
        self._waiting: deque[Publish] = deque()
        self._path = path
        self._disk: sqlite3.Connection | None = None
        self.open()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return len(self._waiting) >= self._most

    def open(self) -> None:
        """Open the file, when there is one and it is closed; what stands in it waits. Raises `Environment`."""
        if self._path is not None and self._disk is None:
            self._open(self._path)

    def kept(self, publish: Publish) -> Publish:
        """The publish, with its place on disk where it gets one."""
        if self._disk is None or publish.qos == 0:
            return publish
        row = self._run(
            "INSERT INTO publishes (topic, payload, qos, retain, properties) VALUES (?, ?, ?, ?, ?)",
            (publish.topic, publish.payload, publish.qos, int(publish.retain), publish.properties),
        ).lastrowid
        return publish._replace(row=row or 0)

    def forget(self, publish: Publish) -> None:
        """It is acknowledged, or refused for good."""
        if publish.row:
            self._run("DELETE FROM publishes WHERE id = ?", (publish.row,))

    def append(self, publish: Publish) -> None:
        """Let it wait. Raises `NotSo` with code `queue-full`."""
        if self.is_full:
            self.forget(publish)
            raise NotSo(
                f"queue of {self._most} publishes is full",
                mend="wait for the connection, or make the queue larger: Client(queue_size=…)",
                code="queue-full",
            )
        self._waiting.append(publish)

    def first(self) -> Publish:
        """The next one to send; it stays until `pop`."""
        return self._waiting[0]

    def pop(self) -> Publish:
        """Take the first one away: it is sent."""
        return self._waiting.popleft()

    def close(self) -> None:
        """Close the file; what waits in memory alone is lost."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _open(self, path: Path) -> None:
        from sealmq.secretfiles import write_private

        try:
            if not path.exists():
                write_private(path, b"")  # so that SQLite finds a file of mode 0600, and makes its log like it
            self._disk = sqlite3.connect(path, isolation_level=None, timeout=0)
            self._disk.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._disk.execute("PRAGMA journal_mode = WAL")
            self._disk.execute("PRAGMA synchronous = FULL")
            self._disk.execute(_SCHEMA)
            rows = self._disk.execute("SELECT topic, payload, qos, retain, properties, id FROM publishes ORDER BY id")
            for topic, payload, qos, retain, properties, row in rows:
                self._waiting.append(Publish(topic, payload, qos, bool(retain), properties, None, row))
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from None

    def _run(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        assert self._disk is not None  # noqa: S101
        try:
            return self._disk.execute(statement, values)
        except sqlite3.Error as error:
            raise _unusable(None, error) from None


def _unusable(path: Path | None, error: Exception) -> Environment:
    where = f" {path}" if path is not None else ""
    return Environment(
        f"queue file{where} cannot be used: {str(error).lower()}",
        mend="one program at a time may use it; check the place, its owner and the room on the disk",
        code="queue-unusable",
    )
