"""What an operator does with the store: copy it, look it through, put a copy back; beside a broker or without one.

It refuses to know what is in the file: the data plane reads and writes it.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sealmq.datafolder import Owner
from sealmq.enginefaults import from_engine
from sealmq.errors import Environment, SealmqError
from sealmq.secretfiles import raise_environment, sync_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sealmq.datafolder import DataFolder


class Store(Protocol):
    """The store of a data folder: `sealmq.broker.handle.Broker` while a broker runs on it, else `StoreFile`."""

    def store_backup(self, to: Path) -> dict[str, Any]:
        """Copy it to a file that is not there yet."""
        ...

    def store_check(self) -> list[str]:
        """What is wrong with it, a sentence each."""
        ...

    def store_stats(self) -> dict[str, Any]:
        """What it holds; shape as `store` of `Node.stats` in `_engine.pyi`."""
        ...


class StoreFile:
    """The store of a folder on which no broker runs. Methods as those of `Store`.

    They raise `DataFolderError` (`store-damaged`, `store-newer`, `store-older`, `store-foreign`), `Environment`
    (`store-locked`, `store-full`, `store-read-only`, `store-unreadable`, `store-exists`) or `NotSo` (`store-missing`).
    """

    def __init__(self, path: Path) -> None:
        """`path` is the file; nothing is opened before it is asked for."""
        self._path = path

    def store_backup(self, to: Path) -> dict[str, Any]:
        """Copy the store; `bytes`, `sessions`, `messages`, `retained` of the copy."""
        from sealmq import _engine

        with _told():
            if not self._path.exists():  # the data plane would make one
                _engine.store_stats(self._path)
            return _object(_engine.store_backup(self._path, to))

    def store_check(self) -> list[str]:
        """What is wrong with the file; it is not written to."""
        from sealmq import _engine

        with _told():
            return _engine.store_check(self._path)

    def store_stats(self) -> dict[str, Any]:
        """What the file holds; it is not written to."""
        from sealmq import _engine

        with _told():
            return _object(_engine.store_stats(self._path))


def backup(store: Store, folder: DataFolder, *, to: str) -> dict[str, Any]:
    """Copy the store to the absolute path `to`, mode 0600: `path`, `bytes`, `sessions`, `messages`, `retained`.

    Nothing is overwritten: raises `Environment` with code `store-exists`.
    """
    del folder
    return {"path": to, **store.store_backup(Path(to))}


def check(store: Store, folder: DataFolder) -> dict[str, Any]:
    """Look through the whole store: `path` and `findings`, a sentence each; none when all is well."""
    try:
        findings = store.store_check()
    except SealmqError as error:
        if error.code != "store-damaged":
            raise
        findings = [error.message]  # too damaged to be looked through is what was asked for, too
    return {"path": str(folder.store_path), "findings": findings}


def stats(store: Store, folder: DataFolder) -> dict[str, Any]:
    """What the store holds and, while a broker runs, what it has cost; shape as `store` of `Node.stats`."""
    return {**store.store_stats(), "path": str(folder.store_path)}


OPERATIONS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "store-backup": backup,
    "store-check": check,
    "store-stats": stats,
}


def verbs(store: Store, folder: DataFolder) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    """The operations on a running broker's store, for its control socket."""

    def on_store(operation: Callable[..., dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda args: operation(store, folder, **args)

    return {name: on_store(operation) for name, operation in OPERATIONS.items()}


def alone(folder: DataFolder, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The same operation on the file, while no broker runs: the folder is locked meanwhile."""
    with folder.lock(owner=Owner.COMMAND):
        return OPERATIONS[verb](StoreFile(folder.store_path), folder, **args)


def restore(folder: DataFolder, source: Path, *, replace: bool, take_over: bool) -> dict[str, Any]:
    """Make the store of `folder` from the backup `source`, which is looked through first.

    `path`, `kept` (where the store before it lies now, None when there was none), and what the new one holds, as
    `backup`. Raises `Environment` with code `data-folder-locked` while a broker runs, `store-exists` when there is a
    store and not `replace`; `DataFolderError` when `source` is damaged, with code `store-other-fleet` when it is that
    of another fleet and not to be taken over; `NotSo` when it is not there. Then nothing has changed.
    """
    path = folder.store_path
    with folder.lock(owner=Owner.COMMAND):
        is_there = path.exists() or _beside(path, "-wal").exists()
        if is_there and not replace:
            raise Environment(
                f"store {path} exists: nothing is overwritten",
                mend="give --replace: what is there is kept under another name",
                code="store-exists",
            )
        draft = _beside(path, ".restored")
        try:
            _discard(draft)
            made = _restored(source, draft, folder.fleet, take_over=take_over)
            kept = _moved_away(path) if is_there else None
            draft.rename(path)
            sync_dir(path.parent)
        except OSError as error:
            raise_environment(error, path, doing="restore")
        finally:
            _discard(draft)
    return {"path": str(path), "kept": str(kept) if kept else None, **made}


def _moved_away(path: Path) -> Path:
    """Give the store at `path` another name, with its log; an empty file stays in its place.

    A broker refuses to start on an empty store, so a crash between the steps never looks like a new folder; and SQLite
    never finds the log of one file beside another.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    kept = _beside(path, f".before-restore-{stamp}")
    if path.exists():
        kept.hardlink_to(path)
        sync_dir(path.parent)
    blank = _beside(path, ".restored-blank")
    blank.unlink(missing_ok=True)
    blank.touch(mode=0o600)
    blank.rename(path)
    sync_dir(path.parent)
    log = _beside(path, "-wal")
    if log.exists():
        log.rename(_beside(kept, "-wal"))
    _beside(path, "-shm").unlink(missing_ok=True)  # an index of the log, which SQLite makes anew
    sync_dir(path.parent)
    return kept


def _restored(source: Path, draft: Path, fleet: str, *, take_over: bool) -> dict[str, Any]:
    from sealmq import _engine

    with _told():
        return _object(_engine.store_restore(source, draft, fleet, take_over=take_over))


def _discard(draft: Path) -> None:
    for suffix in ("", ".lock", ".part"):
        _beside(draft, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the data plane raises inside, as an error of this package."""
    from sealmq import _engine

    try:
        yield
    except _engine.EngineError as error:
        raise from_engine(*error.args) from None
