"""The client's end of one TLS connection as a trace drives it: records in, records out, and the secrets to read them.

It refuses to know sockets and clocks, and which library does it; `systemtls` and `compiledtls` are two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import TracebackType


class Waiting(Exception):  # noqa: N818 - no error: what was asked for takes another record
    """Feed another record and ask again."""


class Closed(Exception):  # noqa: N818 - an orderly end
    """The server has said close_notify."""


class Failed(Exception):  # noqa: N818 - said of the connection
    """It gave up. `verify_code` is OpenSSL's X509_V_ERR number, 0 when it was no matter of certificates; `said` is for
    display alone."""

    def __init__(self, verify_code: int, said: str) -> None:
        """What there is to say of it."""
        super().__init__(said)
        self.verify_code = verify_code
        self.said = said


class Endpoint(Protocol):
    """Call `handshake` until it does not raise `Waiting`, then the others as wished; each may raise `Waiting`, `Closed`
    and `Failed`, and may have left something in `take`."""

    def handshake(self) -> dict[str, Any]:
        """Go on with the handshake; once it is over: `version`, `cipher`, `protocol` and `resumed`."""
        ...

    def read(self) -> bytes:
        """Application data, some at least."""
        ...

    def write(self, data: bytes) -> None:
        """Encrypt application data, all of it."""
        ...

    def close(self) -> None:
        """Say close_notify, and hear the server's."""
        ...

    def feed(self, record: bytes) -> None:
        """What came from the server: a record, or what is none."""
        ...

    def take(self) -> bytes:
        """What is to be sent."""
        ...

    def secrets(self) -> list[bytes]:
        """New lines of key log."""
        ...

    @property
    def is_tls13(self) -> bool:
        """Whether the server may still say something after the handshake: tickets, a refusal."""
        ...

    @property
    def session(self) -> object | None:
        """What a later connection can resume, None as long as there is nothing."""
        ...


class Library(Protocol):
    """Makes endpoints of one configuration; a context manager, since secrets are kept while it lasts."""

    def __enter__(self) -> Library: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def endpoint(self, server_name: str, session: object | None) -> Endpoint:
        """The end of a connection to be; `session` is what another one of this library had."""
        ...
