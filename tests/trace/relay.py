"""A relay between a client and a server that notes what crosses as a trace's recorder does, and the client's key log.

Knows nothing of TLS beyond the length of a record; so a program that others wrote can be traced as a client.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.trace.live import keyproof
from sealmq.trace.recording import Conditions, Event, Recording
from sealmq.trace.tls.records import record_length

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"


class Relay:
    """One connection from `port` on to the server; `recording` is of it, once it is over."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(10)
        self.port: int = self._listener.getsockname()[1]
        self._events: list[Event] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def recording(self, key_log: Path, *, scheme: str = "tls+psk", key: bytes = b"") -> Recording:
        """With `key`, what it proves is in it, as a recorder that was given it has."""
        self._thread.join(10)
        self._listener.close()
        address = f"{HOST}:{self._server}"
        lines = key_log.read_bytes().splitlines() if key_log.exists() else []
        secrets = [Event(0.0, "secret", line) for line in lines if not line.startswith(b"#")]
        events = [
            Event(0.0, "connected", facts={"address": address}),
            Event(0.0, "phase", facts={"name": "handshake"}),
            *_with_secrets(self._events, secrets),
            Event(1.0, "ended", facts={"how": "left"}),
        ]
        if key:
            keyproof.add(events, key)
        conditions = Conditions(f"{scheme}://{address}", HOST, datetime.now(UTC).isoformat())
        return Recording(conditions, (tuple(events),))

    def _run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection((HOST, self._server), timeout=10)
        rest = {client: b"", server: b""}
        with client, server, contextlib.suppress(OSError):
            while True:
                for one in select.select([client, server], [], [], 10)[0]:
                    data = one.recv(65536)
                    kind, other = ("sent", server) if one is client else ("received", client)
                    if not data:
                        return
                    rest[one] += data
                    while (size := record_length(rest[one])) is not None and 0 < size <= len(rest[one]):
                        self._events.append(Event(0.5, kind, rest[one][:size]))
                        rest[one] = rest[one][size:]
                    other.sendall(data)


def _with_secrets(events: list[Event], secrets: list[Event]) -> Iterator[Event]:
    """The secrets after the first answer, where a recorder finds them first, and after the last record of it."""
    answered = False
    for event in events:
        yield event
        if event.kind == "received" and not answered:
            answered = True
            yield from secrets
