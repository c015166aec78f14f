"""Network addresses as people write them: `HOST:PORT`, checked and taken apart.

It refuses to know what listens there; nothing is resolved and no socket is opened.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z"
)
OFF = ("", "off")


class BadValue(ValueError):  # noqa: N818
    """A value that cannot be what its setting wants: one sentence without its subject, and the mend."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend


@dataclass(frozen=True)
class Address:
    """`host` without brackets and `port` 0..65535, where 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take `127.0.0.1:8883`, `[::1]:8883` or `localhost:8883` apart. Raises `BadValue`."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            example = f"127.0.0.1:{text}" if text.isdigit() else f"{text or '127.0.0.1'}:8883"
            raise BadValue("has no port", f"write HOST:PORT, such as {example}")
        if int(port) > 65535:
            raise BadValue(f"has port {port}", "ports go from 0 (any free one) to 65535")
        if not host:
            raise BadValue(
                "has no host", f"write 0.0.0.0:{port} for every interface, 127.0.0.1:{port} for this machine only"
            )
        if host.startswith("[") and host.endswith("]"):
            inside = host[1:-1]
            try:
                return cls(str(ipaddress.IPv6Address(inside)), int(port))
            except ValueError:
                raise BadValue(f"has {inside!r} in brackets, which is no IPv6 address", f"write [::1]:{port}") from None
        if ":" in host:
            raise BadValue("is an IPv6 address without brackets", f"write [{host}]:{port}")
        if re.fullmatch(r"[0-9.]+", host):
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                raise BadValue(f"has host {host!r}, which is no IPv4 address", f"write 127.0.0.1:{port}") from None
        elif not _NAME.match(host):
            raise BadValue(f"has host {host!r}, which is neither a name nor an address", f"write 127.0.0.1:{port}")
        return cls(host, int(port))

    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name counts when it is `localhost`."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def is_every_interface(self) -> bool:
        """Whether it stands for all addresses of the machine (`0.0.0.0`, `::`)."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False
