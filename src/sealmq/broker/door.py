"""How connections come in at the HTTPS door: bounded in number, in time and in size, with the client's certificate.

It refuses to know what is asked; what comes out is HTTP requests for an application.

| bound | value | why |
|---|---|---|
| connections at once | `CONNECTIONS` | each is an open file that the data plane could use |
| of them from one address | `PER_ADDRESS` | one address cannot shut out the others |
| TLS handshake | `HANDSHAKE_SECONDS` | a client that sends its hello byte by byte holds one of the above no longer |
| a whole request, head and body | `REQUEST_SECONDS` | the same for one that sends its request so |
| head of a request | `HEAD_BYTES` | the body is bounded where it is read |
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sealmq.enginefaults import bind_fault

if TYPE_CHECKING:
    from sealmq.config.address import Address

CONNECTIONS = 512
PER_ADDRESS = 256
HANDSHAKE_SECONDS = 10.0
REQUEST_SECONDS = 10.0
HEAD_BYTES = 16 * 1024
_CLOSE_SECONDS = 2.0


class DoorSocket(socket.socket):
    """A listening socket that accepts no more than the bounds allow; what comes beyond them is closed unanswered."""

    @classmethod
    def bind_to(cls, address: Address) -> DoorSocket:
        """Listen on an address. Raises `Environment` or `ConfigError` as for the listeners of the data plane."""
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, place = found[0]
            listener = cls(family, kind, protocol)
        except OSError as error:
            raise bind_fault(str(address), error) from None
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(1024)
        except OSError as error:
            listener.close()
            raise bind_fault(str(address), error) from None
        return listener

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        """For `bind_to` only."""
        super().__init__(family, kind, protocol)
        self._open = _Open()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises `ConnectionAbortedError` for one too many: the event loop goes on to the next."""
        connection, peer = super().accept()
        host = str(peer[0])
        if not self._open.enter(host):
            connection.close()
            raise ConnectionAbortedError
        return _Counted(connection, host, self._open), peer


class DoorServer(uvicorn.Server):
    """uvicorn with a deadline for handshakes, and without its clock that ticks ten times a second; `end` ends it."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Nothing is served yet."""
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Serve no longer; to be called from another thread. Idempotent."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended already
                self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self._ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on sockets that listen already."""
        loop = self._loop = asyncio.get_running_loop()

        def connection() -> DoorProtocol:
            return DoorProtocol(self.config, self.server_state, {})

        self.servers = [
            await loop.create_server(
                connection,
                sock=listener,
                ssl=self.config.ssl,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_CLOSE_SECONDS,
            )
            for listener in sockets or ()
        ]
        self.started = True


class DoorProtocol(H11Protocol):
    """One connection: HTTP/1.1 with a deadline per request.

    `request.state.client_certificate` is the verified certificate of the client in DER form, None when it showed none.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self.app_state = {**self.app_state, "client_certificate": certificate}
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._request_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; the last ones stop the clock."""
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode()), *self.config.encoded_headers]
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._request_is_here()

    def on_response_complete(self) -> None:
        """An answer has been sent, the next request may come."""
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        self._request_is_here()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _request_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Open:
    """How many connections there are, in all and by address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address: Counter[str] = Counter()

    def enter(self, host: str) -> bool:
        with self._lock:
            if self._by_address.total() >= CONNECTIONS or self._by_address[host] >= PER_ADDRESS:
                return False
            self._by_address[host] += 1
            return True

    def leave(self, host: str) -> None:
        with self._lock:
            self._by_address[host] -= 1
            self._by_address += Counter()  # forgets those at zero


class _Counted(socket.socket):
    """A connection that says when it is closed."""

    def __init__(self, connection: socket.socket, host: str, counted: _Open) -> None:
        super().__init__(connection.family, connection.type, connection.proto, fileno=connection.detach())
        self._leave: list[Any] = [lambda: counted.leave(host)]

    def close(self) -> None:
        with contextlib.suppress(IndexError):
            self._leave.pop()()
        super().close()
