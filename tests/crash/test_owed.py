"""Retained messages that SUBACK promised a new subscription come, also when the broker was killed in between.

Knows nothing of how a large answer is cut into pages.
"""

from __future__ import annotations

import pytest

from crash.broker import BrokerProcess, prepare
from crash.session import Kind
from security import raw_mqtt as raw

NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
A_FEW_AT_ONCE = b"\x21\x00\x05"  # receive maximum
COUNT = 300  # of a KiB each: several pages


class Subscriber:
    """Notes the topics that come; acknowledges when told to."""

    def __init__(self, wire: raw.Wire) -> None:
        self._wire = wire
        self._open: list[bytes] = []
        self.had: list[str] = []

    def take(self) -> int:
        """The type of the packet that comes next."""
        packet = self._wire.packet()
        if packet.kind == raw.PUBLISH:
            end = 2 + int.from_bytes(packet.body[:2])
            self.had.append(packet.body[2:end].decode())
            self._open.append(packet.body[end : end + 2])
        return packet.kind

    def acknowledge(self) -> None:
        """PUBACK for all that came."""
        self._wire.send(b"".join(raw.packet(0x40, identifier) for identifier in self._open))
        self._open.clear()


@pytest.mark.parametrize("heard", [0, 12])
def test_what_suback_promised_comes_after_a_kill(tmp_path, heard):
    files = prepare(tmp_path / "data", ["pump"], "")
    broker = BrokerProcess(tmp_path / "data")
    topics = [f"shared/kept/{number:03}" for number in range(COUNT)]
    try:
        port = broker.start()
        with raw.Wire.join(port, files["pump"], "pump:publisher") as wire:
            for number, topic in enumerate(topics, start=1):
                wire.send(raw.publish(topic, b"x" * 1024, qos=1, packet_id=number, retain=1))
                assert wire.packet().kind == raw.PUBACK
        with raw.Wire.open(port, files["pump"]) as wire:
            wire.send(raw.connect("pump", flags=0, properties=NEVER + A_FEW_AT_ONCE))
            assert wire.packet().body[1] == 0
            wire.send(raw.subscribe("shared/kept/+", qos=1))
            first = Subscriber(wire)
            while first.take() != Kind.SUBACK:
                pass
            while len(first.had) < heard:
                first.acknowledge()
                first.take()
            broker.kill()
        assert len(first.had) < COUNT
        port = broker.start()
        with raw.Wire.open(port, files["pump"]) as wire:
            wire.send(raw.connect("pump", flags=0, properties=NEVER + A_FEW_AT_ONCE))
            assert wire.packet().body[:2] == b"\x01\x00"
            second = Subscriber(wire)
            while second.had[-1:] != topics[-1:]:
                assert second.take() == raw.PUBLISH
                second.acknowledge()
            wire.round_trip()
        assert sorted({*first.had, *second.had}) == topics
        assert len(second.had) == len(set(second.had))
    finally:
        broker.kill()
