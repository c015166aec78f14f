"""Handshakes are the shard's work while nobody publishes, and a thread's of their own while somebody does.

Where they are done is told by the kernel: a thread that sleeps on is not switched to.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sealmq.testing import EphemeralBroker
from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from security.raw_mqtt import Credentials

SECONDS = 10.0
EVERY = 0.01  # seconds between two messages
CROWD = 200


def turns() -> int:
    """How often the gate's own thread of this process has had something to do by now, when it sleeps."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # another thread, which has just ended
                status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
                if status["Name"] == "sealmq-gate" and status["State"].startswith("S"):
                    return sum(int(count) for what, count in status.items() if "ctxt_switches" in what)
    raise AssertionError("no such thread sleeps")


@contextlib.contextmanager
def chatter(broker: EphemeralBroker) -> Iterator[None]:
    """Messages all the time."""
    is_over = threading.Event()

    def talk(wire: raw_mqtt.Wire) -> None:
        with contextlib.suppress(OSError):  # the broker has stopped
            while not is_over.wait(EVERY):
                wire.send(raw_mqtt.publish("shared/x"))

    with raw_mqtt.Wire.join(broker.port, broker.device("talker"), "talker") as wire:
        wire.send(raw_mqtt.publish("shared/x"))
        wire.round_trip()
        talker = threading.Thread(target=talk, args=(wire,))
        talker.start()
        try:
            yield
        finally:
            is_over.set()
            talker.join()


def come_and_go(broker: EphemeralBroker, files: Credentials) -> int:
    """One newcomer; how often the gate's own thread had something to do meanwhile."""
    before = turns()
    with raw_mqtt.Wire.join(broker.port, files, "d") as wire:
        wire.round_trip()
    return turns() - before


def until(broker: EphemeralBroker, files: Credentials, *, is_apart: bool) -> None:
    """Newcomers, until some in a row are served where they should be."""
    end, in_a_row = time.monotonic() + SECONDS, 0
    while in_a_row < 3:
        in_a_row = in_a_row + 1 if (come_and_go(broker, files) > 0) == is_apart else 0
        assert time.monotonic() < end


class Halting:
    """A client whose ClientHello stops halfway; a context manager."""

    def __init__(self, broker: EphemeralBroker, files: Credentials) -> None:
        self._socket = socket.create_connection((broker.host, broker.port), SECONDS)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = raw_mqtt.client_context(files).wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        hello = self._out.read()
        self._rest = hello[100:]
        self._socket.sendall(hello[:100])

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def go_on(self) -> None:
        """The rest of the ClientHello."""
        self._socket.sendall(self._rest)
        self._rest = b""

    def finish(self, client_id: str = "d") -> bytes:
        """The rest of the way in; CONNACK."""
        self.go_on()
        self._through(self._tls.do_handshake)
        self._tls.write(raw_mqtt.connect(client_id))
        return self._through(lambda: self._tls.read(4096))

    def _through(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._out.read())
                if more := self._socket.recv(65536):
                    self._in.write(more)
                else:
                    self._in.write_eof()
            finally:
                self._socket.sendall(self._out.read())


def test_nobody_is_woken_for_newcomers_while_nobody_publishes() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("d")
        until(broker, files, is_apart=False)
        assert [come_and_go(broker, files) for _ in range(20)] == [0] * 20


def test_newcomers_are_kept_apart_from_messages_and_only_as_long_as_there_are_any() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("d")
        with chatter(broker):
            until(broker, files, is_apart=True)
        until(broker, files, is_apart=False)


def test_who_is_in_the_gate_goes_with_it() -> None:
    with EphemeralBroker(limits={"handshake_timeout_ms": 60_000}) as broker:
        files = broker.device("d")
        with Halting(broker, files) as early:
            with chatter(broker):
                until(broker, files, is_apart=True)
                assert early.finish()[0] == raw_mqtt.CONNACK << 4
                late = Halting(broker, files)
            with late:
                until(broker, files, is_apart=False)
                assert late.finish()[0] == raw_mqtt.CONNACK << 4


def test_a_crowd_gets_in_while_nobody_publishes() -> None:
    """More than are served in one turn, all at once."""
    with EphemeralBroker() as broker, contextlib.ExitStack() as stack:
        files = broker.device("d")
        crowd = [stack.enter_context(Halting(broker, files)) for _ in range(CROWD)]
        for one in crowd:
            one.go_on()
        assert {one.finish(f"d:{number}")[0] for number, one in enumerate(crowd)} == {raw_mqtt.CONNACK << 4}


@pytest.mark.parametrize("has_messages", [False, True])
def test_deadlines_are_kept_wherever_the_gate_is(has_messages: bool) -> None:
    with EphemeralBroker(limits={"handshake_timeout_ms": 1000}) as broker, contextlib.ExitStack() as stack:
        files = broker.device("d")
        if has_messages:
            stack.enter_context(chatter(broker))
            until(broker, files, is_apart=True)
        with Halting(broker, files):
            assert broker.wait_event("refused", cause="handshake-stalled")["stage"] == "client-hello"


@pytest.mark.parametrize("has_messages", [False, True])
def test_the_door_closes_wherever_the_gate_is(has_messages: bool) -> None:
    with contextlib.ExitStack() as stack:
        with EphemeralBroker() as broker:
            files, address = broker.device("d"), (broker.host, broker.port)
            if has_messages:
                stack.enter_context(chatter(broker))
                until(broker, files, is_apart=True)
            halting = stack.enter_context(Halting(broker, files))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            halting.finish()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, SECONDS)
