"""The tables of the registry and the steps that bring an older file to them.

It knows nothing of what is stored in them or of who asks.

Times are whole seconds since the Unix epoch, UTC. `issuer` is the authority key identifier in hex: with the serial it
names a certificate for ever, and it stays the same when an issuing CA is reissued with its key.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_V1 = """
CREATE TABLE devices (
    id         TEXT PRIMARY KEY,
    profile    TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE certificates (
    serial     TEXT NOT NULL,
    device_id  TEXT NOT NULL REFERENCES devices (id),
    issuer     TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    sha256     TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    status     TEXT NOT NULL,
    PRIMARY KEY (issuer, serial)
) STRICT;
CREATE INDEX certificates_of_device ON certificates (device_id, not_after);
"""

_V2 = """
ALTER TABLE devices ADD COLUMN status_at INTEGER;
ALTER TABLE devices ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN first_seen_at INTEGER;
ALTER TABLE certificates ADD COLUMN last_seen_at INTEGER;
ALTER TABLE certificates ADD COLUMN revoked_at INTEGER;
CREATE TABLE device_groups (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    PRIMARY KEY (device_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
    hash       TEXT PRIMARY KEY,
    device_id  TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    profile    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX tokens_of_device ON tokens (device_id);
CREATE TABLE approvals (
    sha256       TEXT PRIMARY KEY,
    device_id    TEXT NOT NULL UNIQUE,
    subject      TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    peer         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'denied')),
    requested_at INTEGER NOT NULL,
    decided_at   INTEGER
) STRICT;
CREATE TABLE bundle_confirmations (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    version   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (device_id, version)
) STRICT, WITHOUT ROWID;
"""

_V3 = """
CREATE INDEX certificates_by_end ON certificates (not_after);
"""

MIGRATIONS = (_V1, _V2, _V3)
"""In order: the step at index N brings a file of schema N to schema N + 1; 0 is an empty file. Never edited."""

SCHEMA_VERSION = len(MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """The schema of an open file."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file at `path` to `SCHEMA_VERSION`; called inside a transaction that writes, which is not ended here.

    What a file of an older schema held is kept beside it as `registry.vN.sqlite`, mode 0600, before the first change.
    Raises `sqlite3.Error` and `OSError`; then the caller rolls back and the file is as it was.
    """
    found = version(connection)
    if 0 < found < SCHEMA_VERSION:
        _keep_copy(path, path.with_name(f"registry.v{found}.sqlite"))
    for step in MIGRATIONS[found:]:
        for statement in step.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _keep_copy(path: Path, copy: Path) -> None:
    """A copy by a reader of its own: it sees what was committed, while the caller holds the right to write."""
    partial = copy.with_name(f".{copy.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(partial)) as kept:
            kept.execute("PRAGMA synchronous = FULL")
            source.backup(kept)
        partial.rename(copy)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
