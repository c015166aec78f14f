"""How a command acts on the data folder: through the broker that owns it, or by itself while no broker runs.

It refuses to know what the operations do; `sealmq.pki.operations` has them, by verb.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sealmq.datafolder import DataFolder, Owner
from sealmq.errors import Environment, NotSo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PATIENCE = 5.0  # seconds for a broker that is just starting or stopping: it has the folder and does not answer yet
_PAUSE = 0.05  # seconds


def perform(data: Path, verb: str, args: dict[str, Any], *, create: bool = False) -> dict[str, Any]:
    """The result of an operation on the data folder at `data`; `create` makes folder and CA when there are none.

    `args` are what JSON can carry, paths absolute. Raises what the operation raises, `DataFolderError` when there is no
    folder, `Environment` with code `data-folder-locked` when its owner neither answers nor ends.
    """
    folder = DataFolder.create_or_open(data) if create else DataFolder.open(data)
    return through_broker_or(lambda: _alone(folder, verb, args, create), folder, verb, args)


def through_broker_or(
    alone: Callable[[], dict[str, Any]], folder: DataFolder, verb: str, args: dict[str, Any]
) -> dict[str, Any]:
    """What the broker on `folder` answers to `verb`, or what `alone` returns while none runs; raises as `perform`."""
    started = time.monotonic()
    while True:
        try:
            return _through_broker(folder, verb, args) if folder.locked_by() else alone()
        except (NotSo, Environment) as error:
            if error.code not in {"broker-not-running", "data-folder-locked"}:
                raise
            if time.monotonic() - started > _PATIENCE:
                raise Environment(
                    f"data folder {folder.path} is in use by process {folder.locked_by() or 'unknown'},"
                    " which does not answer",
                    mend="wait for it to start or stop; when it hangs, end it",
                    code="data-folder-locked",
                ) from error
        time.sleep(_PAUSE)


def broker_address(data: Path) -> tuple[str, int]:
    """Host and port under which a device on this machine reaches the broker: the running one's, else the default."""
    return _listener(data, "mqtts", 8883)


def https_address(data: Path) -> tuple[str, int]:
    """Host and port of the broker's HTTPS door, likewise."""
    return _listener(data, "https", 8443)


def psk_address(data: Path) -> tuple[str, int]:
    """Host and port of the broker's listener for pre-shared keys, likewise."""
    return _listener(data, "mqtts+psk", 8884)


def _listener(data: Path, scheme: str, default: int) -> tuple[str, int]:
    from urllib.parse import urlsplit

    folder = DataFolder.open(data)
    if folder.locked_by():
        from sealmq.broker import control
        from sealmq.errors import SealmqError

        try:
            listeners = control.call(folder, "status")["listeners"]
        except (SealmqError, KeyError):
            listeners = []
        for listener in listeners:
            url = urlsplit(str(listener))
            if url.scheme == scheme and url.hostname and url.port:
                here = url.hostname in {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 - read, not bound
                return ("localhost" if here else url.hostname), url.port
    return "localhost", default


def running(data: Path) -> DataFolder:
    """The data folder of a broker to be asked. Raises `NotSo` with code `broker-not-running` when there is none."""
    from sealmq.errors import DataFolderError

    try:
        return DataFolder.open(data)
    except DataFolderError as error:
        if error.code != "data-folder-missing":
            raise
        mend = "start one: sealmq up; or name its data folder with --data"
        raise NotSo(f"no broker runs on {data}", mend=mend, code="broker-not-running") from None


def _through_broker(folder: DataFolder, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    from sealmq.broker import control

    return control.call(folder, verb, args)


def _alone(folder: DataFolder, verb: str, args: dict[str, Any], create: bool) -> dict[str, Any]:
    from sealmq.pki.authority import Authority
    from sealmq.pki.operations import OPERATIONS
    from sealmq.pki.registry import Registry

    with folder.lock(owner=Owner.COMMAND):
        authority = Authority.open_or_create(folder) if create else Authority.open(folder)
        with Registry.open(folder) as registry:
            return OPERATIONS[verb](folder, authority, registry, **args)
