"""Showing the control of a name: a small HTTP listener for http-01, a command for dns-01 (RFC 8555, section 8).

It knows nothing of orders; it shows what it is told for as long as it is told.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Protocol

from sealmq.errors import ConfigError, Environment
from sealmq.pki.acme.jws import encoded

if TYPE_CHECKING:
    from sealmq.config.address import Address

PATH = "/.well-known/acme-challenge/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_AT_ONCE = 16  # requests; a server looks from a handful of places
_REQUEST_SECONDS = 10.0
_HOOK_SECONDS = 600.0


class Challenge(Protocol):
    """A way to show control; a context manager that is open while an order is."""

    kind: str
    """As the server calls it: `http-01`, `dns-01`."""

    def __enter__(self) -> object:
        """Get ready. Raises `Environment` or `ConfigError`."""
        ...

    def __exit__(self, *_: object) -> None:
        """Show nothing any more."""
        ...

    def show(self, name: str, token: str, key_authorization: str) -> None:
        """Show it for `name` until the end of the block. Raises `Environment`."""
        ...


class HttpListener:
    """http-01 (section 8.3): answers `GET /.well-known/acme-challenge/TOKEN` on an address, and 404 to the rest."""

    kind = "http-01"

    def __init__(self, address: Address) -> None:
        """Nothing listens before the block begins."""
        self._address = address
        self._shown: dict[str, bytes] = {}
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> HttpListener:
        try:
            self._server = _Server(self._address, self._shown)
        except OSError as error:
            raise Environment(
                f"address {self._address} cannot be listened on for http-01: {(error.strerror or str(error)).lower()}",
                mend="free it, allow the process to bind it (CAP_NET_BIND_SERVICE), or forward port 80 to another"
                " tls.acme.http_address",
                code="acme-listen",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="sealmq-acme-http", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._shown.clear()

    @property
    def port(self) -> int:
        """The port that is listened on, inside the block."""
        return self._server.server_address[1] if self._server is not None else self._address.port

    def show(self, name: str, token: str, key_authorization: str) -> None:  # noqa: ARG002 - every name is answered here
        """Answer requests for `token`."""
        if not _TOKEN.fullmatch(token):
            raise Environment(f"ACME server gave the token {token[:40]!r}, which fits no URL", code="acme-answer")
        self._shown[PATH + token] = key_authorization.encode("ascii")


class DnsHook:
    """dns-01 (section 8.4): calls `COMMAND add NAME VALUE`, and `remove` at the end; it returns once that is served."""

    kind = "dns-01"

    def __init__(self, command: str) -> None:
        """`command` is split as a shell would; no shell runs it. Raises `ConfigError` when that cannot be done."""
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"tls.acme.dns_hook cannot be split into words: {str(error).lower()}",
                mend="close the quotes",
                code="config-bad-value",
            ) from None
        self._shown: list[tuple[str, str]] = []

    def __enter__(self) -> DnsHook:
        return self

    def __exit__(self, *_: object) -> None:
        while self._shown:
            self._call("remove", *self._shown.pop())

    def show(self, name: str, token: str, key_authorization: str) -> None:  # noqa: ARG002 - the value holds the token
        """Have the TXT record made. Raises `Environment` with code `acme-hook` when the command fails."""
        value = encoded(hashlib.sha256(key_authorization.encode("ascii")).digest())
        record = (f"_acme-challenge.{name.removeprefix('*.')}", value)
        self._shown.append(record)
        self._call("add", *record)

    def _call(self, *words: str) -> None:
        command = [*self._command, *words]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_HOOK_SECONDS,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = getattr(error, "strerror", "") or f"it took more than {_HOOK_SECONDS:.0f} s"
            raise self._failed(words, str(reason).lower()) from None
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [""])[-1]
            raise self._failed(words, f"status {done.returncode}" + (f": {said[:200]}" if said else ""))

    def _failed(self, words: tuple[str, ...], reason: str) -> Environment:
        return Environment(
            f"tls.acme.dns_hook {self._command[0]} {' '.join(words[:2])} failed: {reason}",
            mend="run it by hand with the same words; it must return 0 once the record is served",
            code="acme-hook",
        )


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: Address, shown: dict[str, bytes]) -> None:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self.shown = shown
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__((address.host, address.port), _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - the library's signature
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Who breaks off in the middle is of no interest."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server_version, sys_version = "sealmq", ""

    def do_GET(self) -> None:
        shown = self.server.shown.get(self.path) if isinstance(self.server, _Server) else None
        self.send_response(404 if shown is None else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(shown or b"")))
        self.end_headers()
        self.wfile.write(shown or b"")

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the library's name; the order tells
        pass
