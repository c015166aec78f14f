"""One TLS connection through memory: every byte of both directions noted, handed to TLS one record at a time.

It refuses to know what is said in the channel, and it decodes nothing. So each event shows what one record changed.
Call `handshake`, then `write` and `read` as wished, then `close`; any of them may raise `Stopped`, which ends it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sealmq.trace.live.cputime import Stopwatch
from sealmq.trace.live.endpoint import Closed, Failed, Waiting
from sealmq.trace.recording import Event, Kind
from sealmq.trace.tls.records import record_length

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sealmq.trace.live.endpoint import Endpoint
    from sealmq.trace.request import Bounds

_PART = 1 << 16  # bytes
_TICKETS_TOGETHER = 0.05  # seconds: who sends one ticket sends the others with it

Result = TypeVar("Result")


class Stopped(Exception):  # noqa: N818 - not an error of this side; the event says how it ended
    """The connection is over; the reason is in the log already."""


class Log:
    """The events of one connection in order, with the time since `Log` was made."""

    def __init__(self) -> None:
        """Starts the clock."""
        self.events: list[Event] = []
        self._started = time.perf_counter()

    def note(self, kind: Kind, data: bytes = b"", **facts: Any) -> None:  # noqa: ANN401
        """Add an event; `facts` as `Event` lists them."""
        now = round((time.perf_counter() - self._started) * 1000, 3)  # as a kept recording has it
        self.events.append(Event(now, kind, data, facts))

    def end(self, how: str, **facts: Any) -> NoReturn:  # noqa: ANN401
        """Note how the connection ended, and stop."""
        self.note("ended", how=how, **facts)
        raise Stopped

    def take_back(self) -> None:
        """Forget the ending that was just noted."""
        self.events.pop()


class Wire:
    """A connected socket with TLS on it."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint, log: Log, bounds: Bounds) -> None:
        """Nothing is sent yet."""
        self._sock = sock
        self._tls = endpoint
        self._log = log
        self._bounds = bounds
        self._received = b""  # what is less than a record so far
        self._count = 0
        self._records = 0
        self._over = time.monotonic() + bounds.whole
        self._cpu = Stopwatch()

    def handshake(self) -> None:
        """Do the handshake. Raises `Stopped`."""
        facts = self._drive(self._tls.handshake, self._bounds.handshake)
        self._log.note("tls", state="done", cpu_ms=round(self._cpu.ms, 3), **facts)

    def write(self, data: bytes) -> None:
        """Send application data. Raises `Stopped`."""
        self._drive(lambda: self._tls.write(data), self._bounds.mqtt)

    def read(self, seconds: float) -> bytes | None:
        """The next application data, None when none came within `seconds`. Raises `Stopped` when it is over."""
        try:
            return self._drive(self._tls.read, seconds, patient=True)
        except TimeoutError:
            return None

    def settle(self) -> None:
        """Take what a TLS 1.3 server sends on its own after the handshake: tickets, a late refusal. Raises
        `Stopped`."""
        if not self._tls.is_tls13:
            return
        seconds = self._bounds.settle
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            had = self._tls.session is not None
            self.read(min(left, _TICKETS_TOGETHER))
            if had and self._tls.session is not None:
                return

    def give_up(self, seconds: float) -> NoReturn:
        """End it, since what was waited for did not come within `seconds`. Raises `Stopped`."""
        self._keep_fragment()
        self._log.end("timeout", seconds=seconds)

    def abandon(self) -> NoReturn:
        """End it, since what came cannot be read. Raises `Stopped`."""
        self._log.end("failed")

    def close(self) -> None:
        """Send close_notify and wait a moment for the peer's; how the peer ends is no fault any more."""
        try:
            self._drive(self._tls.close, self._bounds.close, patient=True)
        except TimeoutError:
            pass
        except Stopped:
            # a server may close at once, or still be talking; if it sent an alert, that is among the bytes received
            self._log.take_back()
        self._log.note("ended", how="left")

    # --- the pump -----------------------------------------------------------------------------------------------

    def _drive(self, act: Callable[[], Result], seconds: float, *, patient: bool = False) -> Result:
        """Call `act` until it is satisfied, feeding it a record each time it wants one.

        With `patient`, time running out raises TimeoutError and leaves the connection as it is.
        """
        deadline = min(time.monotonic() + seconds, self._over)
        fed = False
        while True:
            try:
                with self._cpu:
                    result = act()
            except Waiting:
                if fed:
                    self._reacted("waiting")
            except Closed:
                self._reacted("waiting")
                self._log.end("closed")
            except Failed as failure:
                self._failed(failure)
            else:
                if fed:
                    self._reacted("waiting")
                self._note_secrets()
                self._flush()
                return result
            self._flush()
            try:
                self._feed(deadline)
            except TimeoutError:
                if patient and time.monotonic() < self._over:
                    raise
                self._keep_fragment()
                self._log.end("timeout", seconds=round(seconds, 1))
            fed = True

    def _reacted(self, state: str, **facts: Any) -> None:  # noqa: ANN401
        self._note_secrets()
        self._log.note("tls", state=state, **facts)

    def _note_secrets(self) -> None:
        for line in self._tls.secrets():
            self._log.note("secret", line)

    def _failed(self, failure: Failed) -> NoReturn:
        self._reacted("failed", verify_code=failure.verify_code, said=failure.said)
        with contextlib.suppress(Stopped):
            self._flush()  # the alert with which this side says so
        self._log.end("failed")

    def _flush(self) -> None:
        data = self._tls.take()
        if not data:
            return
        self._log.note("sent", data)
        try:
            self._sock.settimeout(max(0.1, self._over - time.monotonic()))
            self._sock.sendall(data)
        except TimeoutError:
            self._log.end("timeout", seconds=self._bounds.whole)
        except OSError as error:
            self._hear_out()
            self._log.end("reset", errno=error.errno or 0)

    def _hear_out(self) -> None:
        """What the peer said before it reset is still there to be read, and it is the reason."""
        self._sock.settimeout(0.1)
        with contextlib.suppress(OSError):
            while len(self._received) < _PART and (part := self._sock.recv(_PART)):
                self._received += part
        while (length := record_length(self._received)) is not None and 0 < length <= len(self._received):
            record, self._received = self._received[:length], self._received[length:]
            self._log.note("received", record)
        self._keep_fragment()

    def _feed(self, deadline: float) -> None:
        """Hand TLS one record, or what is no record. Raises TimeoutError."""
        while (length := record_length(self._received)) is None or length > len(self._received):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            try:
                part = self._sock.recv(_PART)
            except TimeoutError:
                raise
            except OSError as error:
                self._keep_fragment()
                self._log.end("reset", errno=error.errno or 0)
            if not part:
                self._keep_fragment()
                self._log.end("eof")
            self._received += part
            self._count += len(part)
        size = len(self._received) if length < 0 else length
        record, self._received = self._received[:size], self._received[size:]
        self._records += 1
        self._log.note("received", record)
        if self._count > self._bounds.received:
            self._log.end("budget", over=f"{self._bounds.received} bytes")
        if self._records > self._bounds.records:
            self._log.end("budget", over=f"{self._bounds.records} records")
        with self._cpu:
            self._tls.feed(record)

    def _keep_fragment(self) -> None:
        if self._received:
            self._log.note("received", self._received)
            self._received = b""
