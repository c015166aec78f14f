"""The files that the verbs of `sealmq cert` write and the passphrases they are given.

It refuses to know what is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.errors import UsageError

PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="The passphrase of the key, in the first line of FILE."),
]


def passphrase_in(path: Path | None) -> bytes | None:
    """The passphrase in a file, None without one; a file that others can read is told of."""
    if path is None:
        return None
    from sealmq.pki.certfiles import is_open_to_others, read_passphrase

    if is_open_to_others(path):
        output.note(f"note: others on this machine can read {path}; chmod 600 {path}")
    return read_passphrase(path)


def target(path: Path, *, force: bool) -> Path:
    """Where to write, absolute. Raises `UsageError` with code `file-exists` when something is there and not `force`."""
    found = path.expanduser().absolute()
    if not force and (found.exists() or found.is_symlink()):
        raise UsageError(
            f"file {found} exists already", mend="choose another --out, or replace it with --force", code="file-exists"
        )
    return found
