"""A will that waits is not forgotten by a broker that is killed, and is sent once [MQTT-3.1.2-8].

Knows nothing of where it is kept.
"""

from __future__ import annotations

import pytest

from crash.broker import BrokerProcess, prepare
from security import raw_mqtt as raw

NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
DELAY = b"\x18\x00\x00\x00\x01"  # will delay interval, one second
TOPIC = "shared/wills"
WITH_WILL_AT_QOS_1 = 0x0C


@pytest.mark.parametrize("at_the_kill", ["gone", "connected"])
def test_a_delayed_will(tmp_path, at_the_kill):
    files = prepare(tmp_path / "data", ["watch", "pump"], "")
    broker = BrokerProcess(tmp_path / "data")
    try:
        port = broker.start()
        with raw.Wire.open(port, files["watch"]) as watch:
            watch.send(raw.connect("watch", flags=0, properties=NEVER) + raw.subscribe(TOPIC, qos=1))
            assert [watch.packet().kind, watch.packet().kind] == [raw.CONNACK, raw.SUBACK]
        tail = raw.varint(len(DELAY)) + DELAY + raw.text(TOPIC) + raw.text("pump is gone")
        pump = raw.Wire.open(port, files["pump"])
        pump.send(raw.connect("pump", flags=WITH_WILL_AT_QOS_1, properties=NEVER, tail=tail))
        assert pump.packet().body[1] == 0
        if at_the_kill == "gone":
            pump.close()
        broker.kill()
        pump.close()
        port = broker.start()
        with raw.Wire.open(port, files["watch"]) as watch:
            watch.send(raw.connect("watch", flags=0, properties=NEVER))
            assert watch.packet().body[:2] == b"\x01\x00"
            will = watch.packet()
            assert will.kind == raw.PUBLISH
            assert will.body.endswith(b"pump is gone")
            watch.send(raw.packet(0x40, will.body[2 + len(TOPIC) :][:2]))
            watch.round_trip()
    finally:
        broker.kill()
