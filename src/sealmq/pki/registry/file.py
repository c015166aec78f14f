"""The SQLite file under the registry: opened private, changed in transactions, its faults in the house's words.

It knows nothing of the tables but that `schema` makes them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, Environment
from sealmq.pki.registry import schema
from sealmq.secretfiles import raise_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PATIENCE_SECONDS = 5.0  # with another process that has the file
_LOG_INDEX_BYTES = 32 * 1024  # the least that SQLite allots to the index of its write-ahead log

Value = str | int | None


class RegistryFile:
    """An open file; may be shared by threads. `transaction` brackets changes, `rows` and `change` run one statement.

    Every change is one transaction and on disk (WAL, synchronous=FULL) when the call, or the enclosing `transaction`,
    ends. All of them raise `Environment` when the disk is full or the system forbids, `DataFolderError` when the file
    is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, made when there is none, and bring it to the schema of this version.

        Raises `DataFolderError` with code `registry-newer` or `registry-damaged`, `Environment` as the class says.
        """
        self._path = path
        self._lock = threading.RLock()
        try:  # SQLite would make it with the umask's mode; its -wal and -shm files follow this one
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise_environment(error, path, doing="open")
        with _translated(path):
            self._connection = sqlite3.connect(
                path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block, or none of them; an exception rolls back. Blocks may nest, the outermost counts."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            with _translated(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._connection.rollback()  # SQLite may have done it already, on a full disk for one
                    raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Several reads of one state: nobody else changes the file through this object until the block ends."""
        with self._lock:
            yield

    def rows(self, statement: str, values: Sequence[Value] = ()) -> list[sqlite3.Row]:
        """What a SELECT finds."""
        with self._lock, _translated(self._path):
            return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Sequence[Value] = ()) -> int:
        """Run one INSERT, UPDATE or DELETE; how many rows it changed."""
        with self.transaction():
            return self._connection.execute(statement, values).rowcount

    def _prepare(self) -> None:
        with self._lock, _translated(self._path):
            self._connection.row_factory = sqlite3.Row
            found = schema.version(self._connection)
            if found > schema.SCHEMA_VERSION:
                raise DataFolderError(
                    f"registry {self._path} was written by a newer sealmq (schema {found}, this one knows"
                    f" {schema.SCHEMA_VERSION})",
                    mend="run the newer sealmq, or name another folder with --data",
                    code="registry-newer",
                )
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        if found < schema.SCHEMA_VERSION:
            try:
                with self.transaction():
                    # looked at again inside: another process may have done it since
                    if schema.version(self._connection) < schema.SCHEMA_VERSION:
                        schema.migrate(self._connection, self._path)
            except OSError as error:
                raise_environment(error, self._path, doing="copy")

    def _write_ahead(self) -> None:
        """Switch to the write-ahead log; SQLite does not wait for another connection that is doing just that."""
        patience = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                    raise
                time.sleep(0.005)
            else:
                return


def seconds(moment: datetime) -> int:
    """A time as the file has it."""
    return int(moment.timestamp())


def moment(stored: int) -> datetime:
    """A time that the file has."""
    return datetime.fromtimestamp(stored, UTC)


def maybe_moment(stored: int | None) -> datetime | None:
    """A time that the file may have."""
    return None if stored is None else moment(stored)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _has_no_room(path)):
            raise Environment(
                f"disk is full: cannot write registry {path}",
                mend="free some space there and run the command again",
                code="disk-full",
            ) from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Environment(
                f"registry {path} is held by another process",
                mend="wait for it to end and run the command again",
                code="registry-busy",
            ) from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise DataFolderError(
                f"registry {path} is damaged: {error}", mend="restore it from a backup", code="registry-damaged"
            ) from error
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM}:
            raise Environment(
                f"registry {path} cannot be used: {error}",
                mend="check owner, mode and file system of the data folder",
                code="registry-unusable",
            ) from error
        raise


def _has_no_room(path: Path) -> bool:
    """Whether the disk is too full for the index of SQLite's log, which it reports as no more than an I/O error."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LOG_INDEX_BYTES
