"""More connections at once than the broker takes in: others are served as soon as it has seen to them.

Knows nothing of what a connection is for. The broker is a process of its own, to be stopped and starved.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs import Program
from sealmq.testing import EphemeralBroker
from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from security.raw_mqtt import Credentials

CROWD = 1500
AT_ONCE = 1.0  # seconds; at a pause after each few of the crowd it would be more than two
WHILE = 0.7  # seconds in which the broker tries some times more to accept
CONNECT_TIMEOUT = 10.0  # seconds, unless another is set
UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
PING = b"\x89\x80\0\0\0\0"
ELSEWHERE = "127.0.0.9"


class Broker:
    def __init__(self, program: Program, files: Credentials) -> None:
        self.program, self.files = program, files
        self.port = int(program.expect(r"^ready mqtts://.*:(\d+)").group(1))

    def serve(self, client_id: str) -> raw_mqtt.Wire:
        """Somebody new, from another address than the crowd's."""
        context = raw_mqtt.client_context(self.files)
        wire = raw_mqtt.Wire(raw_mqtt.dial(self.port, context, source=ELSEWHERE))
        wire.send(raw_mqtt.connect(client_id))
        assert wire.packet().kind == raw_mqtt.CONNACK
        return wire


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as made:
        files = made.device("d")
    (data / "sealmq.toml").write_text("[limits]\nmax_connect_rate_per_address = 10\n", encoding="utf-8")
    command = [sys.executable, "-m", "sealmq", "--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "off"]
    with Program(*command) as program:
        yield Broker(program, files)


def test_nobody_waits_behind_those_who_are_turned_away(broker: Broker) -> None:
    broker.serve("d:before").close()
    with contextlib.ExitStack() as stack:
        broker.program.signal(signal.SIGSTOP)
        for _ in range(CROWD):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", broker.port))
        broker.program.signal(signal.SIGCONT)
        began = time.monotonic()
        broker.serve("d:behind").close()
        assert time.monotonic() - began < AT_ONCE


def test_who_has_shaken_hands_and_says_no_more_gives_up_its_place() -> None:
    """Where a password is enough to come in, everybody gets through the handshake."""
    with EphemeralBroker(limits={"max_handshakes": 5}) as broker, contextlib.ExitStack() as stack:
        context = raw_mqtt.client_context(broker.device("idle"))
        for _ in range(5):
            stack.enter_context(raw_mqtt.dial(broker.port, context))
        began = time.monotonic()
        raw_mqtt.Wire.join(broker.port, broker.device("d"), "d").close()
        assert time.monotonic() - began < CONNECT_TIMEOUT / 2
        assert broker.wait_event("refused", cause="crowded-out")["stage"] == "connect"


def test_who_is_refused_and_stays_keeps_nobody_busy() -> None:
    """It may read why for two seconds; nobody has anything to do meanwhile."""
    with EphemeralBroker() as broker:
        context = raw_mqtt.client_context(None, ca=broker.device("d").ca)
        with raw_mqtt.dial(broker.port, context) as refused:
            with contextlib.suppress(OSError):
                refused.recv(1)
            seen = []
            for _ in range(20):
                time.sleep(0.02)
                seen.append(state_of("sealmq-shard-0"))
    assert seen.count("S") >= 10, seen


def state_of(thread: str) -> str:
    """R while it runs, S while it sleeps: proc(5)."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # another thread, which has just ended
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
            if status["Name"] == thread:
                return status["State"][0]
    raise AssertionError("no such thread")


def test_a_websocket_without_mqtt_in_it_comes_to_an_end() -> None:
    """Control frames are no CONNECT, however many there are."""
    with EphemeralBroker(wss=True) as broker, raw_mqtt.Wire.open(broker.port_of("wss"), broker.device("d")) as wire:
        flood(wire)
        broker.wait_event("refused", cause="too-much-before-connect")


def test_who_leaves_without_having_read_leaves_a_record() -> None:
    with EphemeralBroker(wss=True, limits={"max_connect_bytes": 16 << 20}) as broker:
        with raw_mqtt.Wire.open(broker.port_of("wss"), broker.device("d")) as wire:
            flood(wire)
        assert broker.wait_event("refused", stage="connect")["cause"] == "closed-before-connect"


def flood(wire: raw_mqtt.Wire) -> None:
    """A WebSocket with nothing but pings in it, whose answers are not read."""
    wire.send(UPGRADE)
    with contextlib.suppress(OSError):
        for _ in range(200):
            wire.send(PING * 1000)


def test_a_broker_without_descriptors_says_so_and_not_all_the_time(broker: Broker) -> None:
    process = broker.program.pid
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    with broker.serve("d:inside") as inside:
        resource.prlimit(process, resource.RLIMIT_NOFILE, (3, before[1]))
        waiting = socket.create_connection(("127.0.0.1", broker.port))
        broker.program.expect(r"error failure: cannot accept connections.*")
        until = time.monotonic() + WHILE
        while time.monotonic() < until:
            inside.send(raw_mqtt.PINGREQ)
            assert inside.packet().kind == raw_mqtt.PINGRESP
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)
        waiting.close()
    broker.serve("d:after").close()
    broker.program.expect("connected d:after")
    assert broker.program.err.count("cannot accept") == 1
