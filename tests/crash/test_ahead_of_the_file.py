"""No acknowledgement is ahead of the file: what it speaks of is there for a second reader as soon as it has come.

SQLite shows a reader what is committed, and with synchronous=FULL the log was synced before. Knows nothing of crashes.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing

import pytest

from crash.session import Kind
from sealmq.broker import control
from sealmq.testing import EphemeralBroker
from security import raw_mqtt as raw

NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
WITH_WILL_AT_QOS_1 = 0x0C
OFTEN = range(1, 31)  # a packet that does not wait wins the race against the commit nearly every time


@pytest.fixture
def broker():
    with EphemeralBroker() as running:
        yield running


@pytest.fixture
def count(broker):
    """`count(TABLE, COLUMN, VALUE)`: how many such rows another process would see now."""
    with closing(sqlite3.connect(f"file:{broker.folder.store_path}?mode=ro", uri=True)) as reader:

        def rows(table: str, column: str, value: object) -> int:
            query = f"SELECT count(*) FROM {table} WHERE {column} = ?"  # noqa: S608 - names from this file
            return reader.execute(query, (value,)).fetchone()[0]

        yield rows


@pytest.fixture
def kept(broker):
    """`kept(client_id, will=…)`: a connection with a session that stays, and its CONNACK has come."""
    with ExitStack() as stack:

        def connect(client_id: str, *, will: bytes = b"") -> raw.Wire:
            wire = stack.enter_context(raw.Wire.open(broker.port, broker.device("pump")))
            tail = b"\0" + raw.text("shared/wills") + raw.text(will) if will else b""
            flags = WITH_WILL_AT_QOS_1 if will else 0
            wire.send(raw.connect(client_id, flags=flags, properties=NEVER, tail=tail))
            assert wire.packet().body[1] == 0
            return wire

        yield connect


def answer(wire: raw.Wire, kind: Kind) -> None:
    """Read until a packet of that kind comes."""
    while wire.packet().kind != kind:
        pass


def test_a_device_that_is_retired(broker, count):
    """What it leaves is gone from the file when the command returns."""
    for number in range(1, 6):
        device = f"unit-{number}"
        with raw.Wire.open(broker.port, broker.device(device)) as wire:
            wire.send(raw.connect(device, flags=0, properties=NEVER))
            assert wire.packet().body[1] == 0
            wire.send(raw.publish(f"devices/{device}/state", b"on", qos=1, retain=1))
            answer(wire, Kind.PUBACK)
        assert (count("sessions", "device", device), count("retained", "payload", b"on")) == (1, 1)
        control.call(broker.folder, "device-retire", {"id": device})
        assert (count("sessions", "device", device), count("retained", "payload", b"on")) == (0, 0)


def test_connack(kept, count):
    for number in OFTEN:
        kept(f"pump:{number}")
        assert count("sessions", "client_id", f"pump:{number}") == 1


def test_connack_with_a_will(kept, count):
    for number in OFTEN:
        kept(f"pump:{number}", will=b"gone")
        assert count("wills", "client_id", f"pump:{number}") == 1


def test_connack_of_a_session_that_comes_back_with_another_will(kept, count):
    for number in OFTEN:
        kept("pump:same", will=b"gone %d" % number)
        assert count("wills", "payload", b"gone %d" % number) == 1


def test_suback_and_unsuback(kept, count):
    wire = kept("pump:subscriber")
    for number in OFTEN:
        wire.send(raw.subscribe(f"shared/{number}", qos=1))
        answer(wire, Kind.SUBACK)
        assert count("subscriptions", "filter", f"shared/{number}") == 1
        wire.send(raw.packet(0xA2, b"\0\1\0" + raw.text(f"shared/{number}")))
        answer(wire, Kind.UNSUBACK)
        assert count("subscriptions", "filter", f"shared/{number}") == 0


def test_puback_and_pubrec(kept, count):
    away = kept("pump:away")
    away.send(raw.subscribe("shared/queue/#", qos=2))
    answer(away, Kind.SUBACK)
    away.close()
    wire = kept("pump:publisher")
    for number in OFTEN:
        for qos, kind in ((1, Kind.PUBACK), (2, Kind.PUBREC)):
            topic = f"shared/queue/{number}/{qos}"
            wire.send(raw.publish(topic, b"x", qos=qos, packet_id=2 * number + qos))
            answer(wire, kind)
            assert count("queue", "topic", topic) == 1


def test_pubcomp(kept, count):
    wire = kept("pump:publisher")
    away = kept("pump:away")
    away.send(raw.subscribe("shared/queue/#", qos=2))
    answer(away, Kind.SUBACK)
    away.close()
    for number in OFTEN:
        wire.send(raw.publish("shared/queue/x", b"x", qos=2, packet_id=number))
        answer(wire, Kind.PUBREC)
        assert count("received", "packet_id", number) == 1
        wire.send(raw.packet(0x62, number.to_bytes(2)))
        answer(wire, Kind.PUBCOMP)
        assert count("received", "packet_id", number) == 0


def test_puback_of_a_retained_message(kept, count):
    wire = kept("pump:publisher")
    for number in OFTEN:
        wire.send(raw.publish("shared/kept", b"%d" % number, qos=1, packet_id=number, retain=1))
        answer(wire, Kind.PUBACK)
        assert count("retained", "payload", b"%d" % number) == 1


def test_publish_at_qos_2_and_pubrel(kept, count):
    receiver, wire = kept("pump:receiver"), kept("pump:publisher")
    receiver.send(raw.subscribe("shared/live/#", qos=2))
    answer(receiver, Kind.SUBACK)
    for number in OFTEN:
        topic = f"shared/live/{number}"
        wire.send(raw.publish(topic, b"x", qos=2, packet_id=number))
        came = receiver.packet()
        assert came.kind == Kind.PUBLISH
        assert count("queue", "topic", topic) == 1
        receiver.send(raw.packet(0x50, came.body[2 + len(topic) :][:2]))
        answer(receiver, Kind.PUBREL)
        assert count("queue", "released", 1) == number  # no PUBCOMP is sent, so they stay
