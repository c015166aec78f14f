"""What a trace connects to: an `mqtts://`, `wss://`, `https://` or `tls://` URL, checked and taken apart.

It refuses to know how to reach it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from sealmq.errors import UsageError

_PORTS = {"mqtts": 8883, "wss": 8084, "https": 443, "tls": 8883}
_MEND = "write mqtts://HOST[:8883], or https://HOST[:443] for a web server"


@dataclass(frozen=True, slots=True)
class Target:
    """`scheme` is `mqtts`, `wss`, `https` or `tls`; `host` has no brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def speaks_mqtt(self) -> bool:
        """Whether MQTT is spoken in the channel; otherwise the trace ends when the channel stands."""
        return self.scheme == "mqtts"

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, which needs no name resolution."""
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take a URL apart, the port having its customary default. Raises `UsageError` with code `url-invalid`."""
        if "://" not in url:
            raise _bad(f"URL {url!r} has no scheme", f"write mqtts://{url}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad(f"URL {url!r} has a port or address that is none", _MEND) from None
        if parts.scheme in ("mqtt", "tcp", "ws", "http"):
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
        if parts.query or parts.fragment or (parts.scheme == "mqtts" and parts.path not in ("", "/")):
            raise _bad(f"URL {url!r} has more than scheme, host and port", "a topic is given with --topic")
        return cls(parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port)


def _bad(message: str, mend: str) -> UsageError:
    return UsageError(message, mend=mend, code="url-invalid")
