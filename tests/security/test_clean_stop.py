"""SIGTERM with live clients: told when to come back, everything taken is kept, status 0.

Knows nothing of how a broker stops.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import raw_mqtt as raw

from programs import Program
from sealmq.testing import EphemeralBroker

NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
SERVER_SHUTTING_DOWN = 0x8B
CLIENTS = 20


def user_properties(disconnect: raw.Packet) -> dict[str, str]:
    """The user properties of a DISCONNECT; it has no others here besides the reason string."""
    rest, found = disconnect.body[2:], {}
    while rest:
        if rest[0] == 0x1F:  # reason string
            rest = rest[3 + int.from_bytes(rest[1:3]) :]
            continue
        assert rest[0] == 0x26, rest
        end = 3 + int.from_bytes(rest[1:3])
        name, size = rest[3:end].decode(), int.from_bytes(rest[end : end + 2])
        found[name], rest = rest[end + 2 : end + 2 + size].decode(), rest[end + 2 + size :]
    return found


def test_clients_are_told_when_to_come_back_and_nothing_taken_is_lost(tmp_path):
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as made:
        files = made.device("pump")
    command = [sys.executable, "-m", "sealmq", "--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "off"]
    with Program(*command) as broker, ExitStack() as stack:
        port = int(broker.expect(r"^ready mqtts://.*:(\d+)").group(1))
        wires = [stack.enter_context(raw.Wire.open(port, files)) for _ in range(CLIENTS)]
        for number, wire in enumerate(wires):
            wire.send(raw.connect(f"pump:{number}", flags=0, properties=NEVER))
            wire.send(raw.subscribe("devices/pump/x", qos=1))
            assert [wire.packet().kind, wire.packet().kind] == [raw.CONNACK, raw.SUBACK]
        sender = stack.enter_context(raw.Wire.join(port, files, "pump"))
        sender.send(raw.publish("devices/pump/x", b"last words", qos=1))
        assert sender.packet().kind == raw.PUBACK
        broker.signal(signal.SIGTERM)
        hints = []
        for wire in [*wires, sender]:
            *_, last = wire.rest()
            assert (last.kind, last.body[0]) == (raw.DISCONNECT, SERVER_SHUTTING_DOWN)
            hints.append(int(user_properties(last)["retry-after"]))
        assert min(hints) >= 1
        assert broker.wait() == 0
    with EphemeralBroker(data=data) as again:
        for number in range(CLIENTS):
            with raw.Wire.open(again.port, files) as wire:
                wire.send(raw.connect(f"pump:{number}", flags=0, properties=NEVER))
                assert wire.packet().body[:2] == b"\x01\x00"  # session present, accepted
                assert wire.packet().body.endswith(b"last words")


def test_a_log_that_nobody_reads_does_not_keep_the_broker_from_ending(tmp_path):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    command = [sys.executable, "-m", "sealmq", "--data", tmp_path / "data"]
    command += ["up", "--mqtts", "127.0.0.1:0", "--https", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as broker:
        os.close(writer)
        port = int(broker.stdout.readline().rpartition(":")[2])
        for _ in range(49):  # a record each, of more than 200 bytes
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while peer.recv(100):
                    pass
        broker.terminate()
        try:
            assert broker.wait(raw.SECONDS) == 0
        finally:
            broker.kill()
            os.close(reader)
