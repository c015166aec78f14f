"""Files that hold secrets, and those written beside them: the one place that creates them, whole or not at all.

It knows nothing of what is inside: bytes go in, a file of the right mode that survives a power cut comes out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sealmq.errors import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_DIR_MODE = 0o700
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

_FULL = {errno.ENOSPC, errno.EDQUOT}


def ensure_private_dir(path: Path) -> None:
    """Make `path` a directory of mode 0700 that belongs to this user; parents are made too, with the usual mode.

    An existing directory that others can only read is tightened to 0700. Raises `Environment` when it is not a
    directory, when another user owns it, or when others can write to it (then what is inside can no longer be trusted).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=PRIVATE_DIR_MODE)
            sync_dir(path.parent)
        status = path.stat()
    except OSError as error:
        raise_environment(error, path, doing="make")
    if not stat.S_ISDIR(status.st_mode):
        raise Environment(
            f"{path} is in the way: a folder is wanted and a file is there",
            mend="move the file away or choose another folder",
            code="not-a-folder",
        )
    if status.st_uid != os.geteuid():
        raise Environment(
            f"folder {path} belongs to user {status.st_uid}, not to the user running sealmq ({os.geteuid()})",
            mend=f"run as the owner, or chown {path}",
            code="folder-owner",
        )
    if status.st_mode & 0o022:
        raise Environment(
            f"folder {path} can be written by others ({stat.S_IMODE(status.st_mode):04o}), its secrets are not safe",
            mend=f"look at what is in it, then chmod 700 {path}",
            code="folder-writable",
        )
    if status.st_mode & 0o077:
        try:
            path.chmod(PRIVATE_DIR_MODE)
        except OSError as error:
            raise_environment(error, path, doing="change the mode of")


def write_private(path: Path, data: bytes) -> None:
    """Write a secret: mode 0600, old content or new content at every moment, on disk when this returns.

    Raises `Environment` (code `disk-full`, `permission-denied`, …); then the old file is as it was and nothing
    partial is left.
    """
    _write(Path(path), data, PRIVATE_MODE)


def write_public(path: Path, data: bytes) -> None:
    """Write a file that may be read by anyone: mode 0644, otherwise like `write_private`."""
    _write(Path(path), data, PUBLIC_MODE)


@contextlib.contextmanager
def new_private_dir(path: Path) -> Iterator[Path]:
    """Make the directory `path` with all its files at once: fill the one that is yielded, it gets its name at the end.

    A crash, an error or a full disk half way leaves no `path`; what a crash leaves beside it ends in `.partial`. Raises
    `Environment`, with code `folder-exists` when `path` is there already and not empty.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=PRIVATE_DIR_MODE)
        yield partial
        sync_dir(partial)
        partial.rename(path)
        sync_dir(path.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise Environment(
                    f"folder {path} exists already and is not empty",
                    mend="move it away or choose another place",
                    code="folder-exists",
                ) from error
            raise_environment(error, path, doing="make")
        raise


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half written in `folder`: a key may be in it. For its owner alone."""
    for partial in folder.glob(".*.partial"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def read_private(path: Path) -> bytes:
    """The content of a secret that sealmq wrote itself; a file that others can read or write is refused.

    Raises `Environment` with code `secret-exposed` (mend: chmod 600), `file-missing` or what the system said.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Environment(
                    f"private file {path} is open to others (mode {mode:04o})",
                    mend=f"chmod 600 {path}; if others may have read it, replace what it holds",
                    code="secret-exposed",
                )
            return file.read()
    except OSError as error:
        raise_environment(error, path, doing="read")


def is_exposed(path: Path) -> bool:
    """Whether others can read or write `path`: for key files a user brings, where a warning is enough."""
    return bool(stat.S_IMODE(Path(path).stat().st_mode) & 0o077)


def raise_environment(error: OSError, path: Path, *, doing: str) -> NoReturn:
    """Turn what the system said about `path` into an `Environment` that names the file and the mend."""
    if error.errno in _FULL:
        raise Environment(
            f"disk is full: cannot {doing} {path}",
            mend="free some space there and run the command again",
            code="disk-full",
        ) from error
    if error.errno in {errno.EACCES, errno.EPERM}:
        raise Environment(
            f"permission denied: cannot {doing} {path}",
            mend="run as the owner of that file, or choose another place",
            code="permission-denied",
        ) from error
    if error.errno == errno.EROFS:
        raise Environment(
            f"file system is read-only: cannot {doing} {path}",
            mend="choose a place that can be written",
            code="read-only",
        ) from error
    if error.errno == errno.ENOENT:
        raise Environment(
            f"{path} does not exist: cannot {doing} it", mend="check the path", code="file-missing"
        ) from error
    if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}:
        raise Environment(
            f"{path} is in the way of a folder or file of another kind: cannot {doing} it",
            mend="move it away or choose another place",
            code="not-a-folder" if error.errno != errno.EISDIR else "not-a-file",
        ) from error
    reason = (error.strerror or str(error)).lower()
    raise Environment(f"{path}: cannot {doing}: {reason}", code="file-error") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(path)
        sync_dir(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise_environment(error, path, doing="write")
        raise


def sync_dir(path: Path) -> None:
    """Make names given in a directory survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
