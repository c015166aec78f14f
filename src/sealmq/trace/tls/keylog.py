"""The secrets of a connection in the form of an SSLKEYLOGFILE (RFC 9850), by label.

It refuses to know where they are kept; nothing here prints one.
"""

from __future__ import annotations

CLIENT_HANDSHAKE = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
SERVER_HANDSHAKE = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
CLIENT_APPLICATION = "CLIENT_TRAFFIC_SECRET_0"
SERVER_APPLICATION = "SERVER_TRAFFIC_SECRET_0"
MASTER = "CLIENT_RANDOM"
"""The label of the master secret up to TLS 1.2; the client random stands beside it as with every other."""

BINDER = "EXTERNAL_BINDER_KEY"
PSK_MASTER = "PSK_MASTER_SECRET"
OWN = frozenset({BINDER, PSK_MASTER})
"""Of no other program: what a pre-shared key gives to check a handshake with, without the key itself. The key that an
external binder is made with, and the master secret of TLS 1.2 as it follows from the key alone."""


class Secrets:
    """Secrets by client random and label; shown as their number alone."""

    def __init__(self, lines: bytes = b"") -> None:
        """Take the lines that are well-formed; comments and others are passed over."""
        self._known: dict[bytes, dict[str, bytes]] = {}
        for line in lines.splitlines():
            words = line.split()
            if len(words) != 3 or line.startswith(b"#"):
                continue
            try:
                label, random, secret = words[0].decode("ascii"), bytes.fromhex(words[1].decode()), words[2].decode()
                self._known.setdefault(random, {})[label] = bytes.fromhex(secret)
            except ValueError:
                continue

    def __repr__(self) -> str:
        return f"Secrets(<{sum(map(len, self._known.values()))} redacted>)"

    def find(self, random: bytes, label: str) -> bytes | None:
        """The secret of the connection with that client random, None when it is not known."""
        return self._known.get(random, {}).get(label)


def label_of(line: bytes) -> str:
    """The label of one line, empty for a comment or a malformed one."""
    words = line.split()
    return words[0].decode("ascii", "replace") if len(words) == 3 and not line.startswith(b"#") else ""
