"""What a trace connects to: an `mqtts://`, `wss://`, `mqtts+psk://`, `https://` or `tls://` URL, taken apart.

It refuses to know how to reach it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.trace.model import Seat

_PORTS = {
    "mqtts": 8883,
    "wss": 8084,
    "mqtts+psk": 8884,
    "https": 443,
    "tls": 8883,
    "tls+psk": 8884,
    "mqtt": 1883,
}
_MEND = "write mqtts://HOST[:8883], wss://HOST[:8084]/mqtt, mqtts+psk://HOST[:8884], or https://HOST for a web server"


@dataclass(frozen=True, slots=True)
class Target:
    """`scheme` is `mqtts`, `wss`, `mqtts+psk`, `https`, `tls` or `tls+psk`, at a broker `mqtt` too; `host` has no
    brackets; `path` is that of a WebSocket, empty without one."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def speaks_mqtt(self) -> bool:
        """Whether MQTT is spoken in the channel; otherwise the trace ends when the channel stands."""
        return self.scheme in ("mqtts", "wss", "mqtts+psk", "mqtt")

    @property
    def has_shared_key(self) -> bool:
        """Whether the two sides know each other by a pre-shared key instead of certificates."""
        return self.scheme.endswith("+psk")

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, which needs no name resolution."""
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True

    @classmethod
    def parse(cls, url: str, *, seat: Seat = "client") -> Target:
        """Take a URL apart, port and path having their customary defaults; a broker has seen connections without TLS.

        Raises `UsageError` with code `url-invalid`.
        """
        if "://" not in url:
            raise _bad(f"URL {url!r} has no scheme", f"write mqtts://{url}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad(f"URL {url!r} has a port or address that is none", _MEND) from None
        if parts.scheme in ("mqtt", "tcp", "ws", "http") and (seat, parts.scheme) != ("broker", "mqtt"):
            raise _bad(f"URL {url!r} has no TLS, there is no handshake to trace", _MEND)
        if parts.scheme not in _PORTS:
            raise _bad(f"URL {url!r} has scheme {parts.scheme!r}", _MEND)
        if parts.username is not None or parts.password is not None:
            raise _bad("URL holds a user name or password", "identify with a certificate: --as ID, or --cert and --key")
        if not parts.hostname:
            raise _bad(f"URL {url!r} has no host", _MEND)
        if not parts.hostname.isprintable() or len(parts.hostname) > 253 or " " in parts.hostname:
            raise _bad("URL has a host that can be no name", _MEND)
        if port == 0:
            raise _bad(f"URL {url!r} has port 0", "write the port the server listens on")
        if parts.query or parts.fragment or (parts.scheme.startswith("mqtts") and parts.path not in ("", "/")):
            raise _bad(f"URL {url!r} has more than scheme, host and port", "a topic is given with --topic")
        path = (parts.path or "/mqtt") if parts.scheme == "wss" else ""
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise _bad("URL has a path that cannot be asked for", "write other characters than A-Z, 0-9 and - as %XX")
        return cls(parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port, path)


def _bad(message: str, mend: str) -> UsageError:
    return UsageError(message, mend=mend, code="url-invalid")
