"""Where a client connects: an `mqtts://`, `wss://`, `mqtts+psk://` or `mqtt://` URL, checked and taken apart.

It refuses to know whether plaintext is allowed; the caller asks the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sealmq.errors import UsageError

_PORTS = {"mqtts": 8883, "wss": 8084, "mqtts+psk": 8884, "mqtt": 1883}
_MEND = "write mqtts://HOST[:8883], wss://HOST[:8084]/mqtt or mqtts+psk://HOST[:8884]"


@dataclass(frozen=True)
class Target:
    """`scheme` is `mqtts`, `wss`, `mqtts+psk` or `mqtt`; `host` has no brackets; `path` is empty but for `wss`."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_plaintext(self) -> bool:
        """Whether nothing protects the connection."""
        return self.scheme == "mqtt"

    @property
    def is_psk(self) -> bool:
        """Whether both sides prove themselves by a pre-shared key, and not by certificates."""
        return self.scheme == "mqtts+psk"

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take a URL apart; port and path have the customary defaults. Raises `UsageError`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad(f"URL {url!r} has a port or address that is none", _MEND) from None
        if "://" not in url:
            raise _bad(f"URL {url!r} has no scheme", f"write mqtts://{url}")
        if parts.scheme not in _PORTS:
            raise _bad(f"URL {url!r} has scheme {parts.scheme!r}", _MEND)
        if parts.username is not None or parts.password is not None:
            raise _bad("URL holds a user name or password", "identify with a certificate: --as ID, or --cert and --key")
        if not parts.hostname:
            raise _bad(f"URL {url!r} has no host", _MEND)
        if parts.query or parts.fragment or (parts.scheme != "wss" and parts.path not in ("", "/")):
            raise _bad(f"URL {url!r} has more than scheme, host and port", "the topic is given with -t")
        path = (parts.path if parts.path not in ("", "/") else "/mqtt") if parts.scheme == "wss" else ""
        return cls(parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port, path)


def _bad(message: str, mend: str) -> UsageError:
    return UsageError(message, mend=mend, code="url-invalid")
