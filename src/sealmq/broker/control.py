"""The control socket: how a command reaches the broker that owns the data folder, and how the broker answers.

It refuses to know what the verbs do. The wire is one JSON object per line over `control.sock` (mode 0600, same user):
`{"verb": "status", "args": {}}` is answered with `{"ok": {...}}` or
`{"error": {"kind": "NotSo", "message": "…", "mend": "…", "code": "…"}}`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from sealmq import errors
from sealmq.errors import Environment, NotSo, PeerFault, SealmqError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sealmq.datafolder import DataFolder

    Verb = Callable[[dict[str, Any]], dict[str, Any]]
    WaitingVerb = Callable[[dict[str, Any], Callable[[], bool]], dict[str, Any]]

_REQUEST_BYTES = 1 << 20
_ANSWER_BYTES = 1 << 28
_ANSWER_SECONDS = 60.0
_REQUEST_SECONDS = 10.0
_MODE = 0o600
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED, errno.EINTR}
_SHORTAGE_SECONDS = 0.1  # pause after the system had no descriptor to spare


def call(
    folder: DataFolder, verb: str, args: Mapping[str, object] | None = None, *, patience: float = _ANSWER_SECONDS
) -> dict[str, Any]:
    """Ask the broker that runs on `folder` and return its answer. Paths in `args` must be absolute: it runs elsewhere.

    `patience` is how many seconds the answer may take; a verb that waits for something is told how long by `args`.
    Raises `NotSo` (code `broker-not-running`) when none runs, and what the verb raised: same class, words and code.
    """
    request = json.dumps({"verb": verb, "args": dict(args or {})}, default=str).encode() + b"\n"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(patience)
        try:
            with _reachable(folder.control_path) as name:
                connection.connect(name)
            connection.sendall(request)
            answer = _read_line(connection, _ANSWER_BYTES)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotSo(
                f"no broker runs on {folder.path}", mend="start one: sealmq up", code="broker-not-running"
            ) from None
        except TimeoutError:
            raise PeerFault(
                f"broker on {folder.path} did not answer {verb} within {patience:.0f} s",
                mend="look at its log on stderr",
                code="broker-silent",
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Environment(
                f"control socket {folder.control_path} cannot be reached: {reason}",
                mend="run as the user that runs the broker",
                code="control-unreachable",
            ) from None
    return _unpack(answer, verb, folder)


class ControlServer:
    """Answers on `control.sock`; `start` and `stop` once each. A verb gets its arguments and returns plain data."""

    def __init__(
        self, folder: DataFolder, verbs: Mapping[str, Verb], waiting: Mapping[str, WaitingVerb] | None = None
    ) -> None:
        """`verbs` maps a name to a function; calls come from several threads, one connection each.

        A verb of `waiting` may take its time: it also gets a function that says when nobody waits for it any more.
        """
        self._path = folder.control_path
        self._verbs = dict(verbs)
        self._waiting = dict(waiting or {})
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.on_fault: Callable[[str, BaseException], None] = lambda _verb, _fault: None

    def start(self) -> None:
        """Listen. The lock of the folder is held, so a socket left by a broker that died is removed."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            with _reachable(self._path) as name:
                listener.bind(name)
                self._path.chmod(_MODE)  # before listen: until then nobody can connect
            listener.listen(16)
        except OSError as error:
            listener.close()
            reason = (error.strerror or str(error)).lower()
            raise Environment(
                f"control socket {self._path} cannot be made: {reason}",
                mend="choose a data folder on a local file system",
                code="control-unavailable",
            ) from None
        self._socket = listener
        self._stopping.clear()
        self._thread = threading.Thread(target=self._accept, args=(listener,), name="sealmq-control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket. Idempotent."""
        if self._socket is None or self._thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    return  # `stop` has shut the socket down
                self._stopping.wait(_SHORTAGE_SECONDS)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="sealmq-control-call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.settimeout(_REQUEST_SECONDS)
            if not _same_user(connection):
                return
            answer = self._answer(
                _read_line(connection, _REQUEST_BYTES), lambda: self._stopping.is_set() or _has_left(connection)
            )
            connection.sendall(json.dumps(answer, default=str).encode() + b"\n")

    def _answer(self, line: bytes, is_over: Callable[[], bool]) -> dict[str, Any]:
        verb = ""
        try:
            request = json.loads(line)
            verb, args = request["verb"], request.get("args", {})
            if verb in self._waiting:
                return {"ok": self._waiting[verb](args, is_over)}
            if verb not in self._verbs:
                return _error(
                    NotSo(f"the running broker does not know {verb!r}", mend="restart it: it is of another version")
                )
            return {"ok": self._verbs[verb](args)}
        except SealmqError as error:
            return _error(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.on_fault(verb, error)
            return _error(PeerFault(f"request {verb or 'without a verb'} is not understood: {type(error).__name__}"))
        except Exception as error:  # noqa: BLE001  a fault of ours must answer the caller and leave the broker running
            self.on_fault(verb, error)
            return _error(SealmqError(f"{verb} failed in the broker: {type(error).__name__}", code="internal"))


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for the socket that fits `sun_path` (108 bytes), however deep the data folder lies."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _same_user(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


def _has_left(connection: socket.socket) -> bool:
    """Whether the caller has closed its end; it sends one line and then only listens."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""


def _read_line(connection: socket.socket, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        part = connection.recv(1 << 16)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _unpack(answer: bytes, verb: str, folder: DataFolder) -> dict[str, Any]:
    try:
        document = json.loads(answer)
        if "ok" in document:
            result: dict[str, Any] = document["ok"]
            return result
        error = document["error"]
        kind = _kinds().get(error["kind"], SealmqError)
        raise kind(error["message"], mend=error["mend"], code=error["code"])
    except (ValueError, KeyError, TypeError):
        raise PeerFault(
            f"broker on {folder.path} gave no whole answer to {verb}",
            mend="it was stopping, or it is of another version",
            code="broker-answer",
        ) from None


def _error(error: SealmqError) -> dict[str, Any]:
    return {"error": {"kind": type(error).__name__, "message": error.message, "mend": error.mend, "code": error.code}}


def _kinds() -> dict[str, type[SealmqError]]:
    found = (getattr(errors, name) for name in dir(errors))
    return {kind.__name__: kind for kind in found if isinstance(kind, type) and issubclass(kind, SealmqError)}
