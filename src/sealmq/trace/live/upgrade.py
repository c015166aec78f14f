"""A channel that is a WebSocket: asked for, then written to and read from as if it were the TLS connection below.

It refuses to judge beyond what it needs to go on; what was said is told from the recording.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sealmq.trace import websocket
from sealmq.trace.fields import Malformed

if TYPE_CHECKING:
    from typing import NoReturn

    from sealmq.trace.live.wire import Wire
    from sealmq.trace.request import Bounds
    from sealmq.trace.target import Target

_END = b"\r\n\r\n"


class WebSocket:
    """Call `ask` first; once it has said yes, `write` and `read` as wished. Any of them may raise `Stopped`."""

    def __init__(self, wire: Wire, bounds: Bounds) -> None:
        """Nothing is sent yet."""
        self._wire = wire
        self._bounds = bounds
        self._unread = b""

    def ask(self, target: Target) -> bool:
        """Ask for the WebSocket; whether the server opened one."""
        asked = websocket.request(target.authority, target.path, os.urandom(16))
        self._wire.write(asked)
        deadline = time.monotonic() + self._bounds.mqtt
        while _END not in self._unread and len(self._unread) <= websocket.LARGEST_HEAD:
            data = self._wire.read(max(0.0, deadline - time.monotonic()))
            if data is None:
                self.give_up(self._bounds.mqtt)
            self._unread += data
            if not b"HTTP/1.".startswith(self._unread[:7]):
                return False
        head, end, self._unread = self._unread.partition(_END)
        try:
            fault = websocket.fault_of(websocket.Head.parse(head), websocket.Head.parse(asked))
        except Malformed:
            return False
        return bool(end) and not fault

    def write(self, data: bytes) -> None:
        """Send `data` as one binary frame."""
        self._wire.write(websocket.frame(websocket.BINARY, data, os.urandom(4)))

    def read(self, seconds: float) -> bytes | None:
        """The payload of the next data frame, None when none came within `seconds`; pings are answered meanwhile."""
        deadline = time.monotonic() + seconds
        ping: bytes | None = None
        while True:
            try:
                header = websocket.Header.parse(self._unread[: websocket.LONGEST_HEADER], of_client=False)
            except Malformed:
                self._wire.abandon()
            if header is not None and len(self._unread) >= header.size:
                frame, self._unread = self._unread[: header.size], self._unread[header.size :]
                payload = header.payload(frame)
                if header.opcode == websocket.PING:
                    ping = payload
                elif header.opcode in (websocket.BINARY, websocket.CONTINUATION) and payload:
                    return payload
                continue
            if ping is not None:  # the last of several is enough (section 5.5.3)
                self._wire.write(websocket.frame(websocket.PONG, ping, os.urandom(4)))
                ping = None
            left = deadline - time.monotonic()
            data = self._wire.read(left) if left > 0 else None
            if data is None:
                return None
            self._unread += data

    def give_up(self, seconds: float) -> NoReturn:
        """End it, since what was waited for did not come within `seconds`."""
        self._wire.give_up(seconds)

    def close(self) -> None:
        """Send a Close frame, 1000 (section 7.4.1); the TLS connection below is left open."""
        self._wire.write(websocket.frame(websocket.CLOSE, (1000).to_bytes(2, "big"), os.urandom(4)))
