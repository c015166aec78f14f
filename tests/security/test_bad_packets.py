"""Owns what the broker does about bytes that break MQTT on an established connection: answer, close, and the others.

Refuses to know what is wrong before CONNECT; that is in `test_refused_connects`.
"""

import itertools
import socket
import struct
from contextlib import ExitStack

import pytest
import raw_mqtt
from raw_mqtt import DISCONNECT, PUBLISH, V5, V311, Wire, packet, text

from sealmq.testing import EphemeralBroker, ThrowawayCA

MALFORMED, PROTOCOL_ERROR, TOPIC_INVALID, TOO_LARGE = 0x81, 0x82, 0x90, 0x95
FILTER_INVALID, ALIAS_INVALID = 0x8F, 0x94
NO_PROPERTIES = b"\x00"


_serial = itertools.count(1)


@pytest.fixture(scope="module")
def broker():
    """One for the whole file: it has to outlive everything below."""
    with EphemeralBroker(ca=ThrowawayCA()) as running:
        yield running


@pytest.fixture(scope="module")
def pair(broker):
    """Two well-behaved clients, connected while all of this goes on."""
    with ExitStack() as stack:
        reader, writer = (
            stack.enter_context(Wire.join(broker.port, broker.device(name), name)) for name in ("reader", "writer")
        )
        reader.send(raw_mqtt.subscribe("shared/line", qos=1))
        reader.packet()
        yield reader, writer, itertools.count(1)


@pytest.fixture
def healthy(pair):
    """`healthy()`: 10 messages of the pair arrive, in order and nothing between them; done once before the test."""
    reader, writer, numbers = pair

    def flow():
        for number in itertools.islice(numbers, 10):
            writer.send(raw_mqtt.publish("shared/line", struct.pack(">I", number), qos=1, packet_id=number))
            assert writer.packet().body[:2] == struct.pack(">H", number)
            message = reader.packet()
            assert (message.kind, message.body[-4:]) == (PUBLISH, struct.pack(">I", number))
            identifier = message.body[2 + len("shared/line") :][:2]
            reader.send(packet(0x40, identifier))
        reader.round_trip()
        writer.round_trip()

    flow()
    return flow


@pytest.fixture
def client_id():
    """A client id of sensor-1 that no other test has."""
    return f"sensor-1:{next(_serial)}"


@pytest.fixture
def watcher(broker):
    """A connection that hears `shared/watched/#`."""
    with Wire.join(broker.port, broker.device("watcher"), "watcher") as wire:
        wire.send(raw_mqtt.subscribe("shared/watched/#"))
        assert wire.packet().body[-1] == 0
        yield wire


def v311(raw: bytes) -> object:
    return pytest.param(V311, raw, None)


def v5(raw: bytes, reason: int) -> object:
    return pytest.param(V5, raw, reason)


BROKEN = [
    # fixed header
    v5(packet(0x00), MALFORMED),
    v311(packet(0x00)),
    v311(packet(0xF0)),  # AUTH is none of 3.1.1
    v5(packet(0xC1), MALFORMED),  # flags of PINGREQ [MQTT-2.1.3-1]
    v311(packet(0x80, b"\x00\x01" + text("shared/x") + b"\x00")),  # flags of SUBSCRIBE
    v5(b"\xc0\xff\xff\xff\xff\x01", MALFORMED),  # [MQTT-1.5.5-1]
    v311(b"\x30\xff\xff\xff\xff\x01"),
    v5(packet(0xC0, b"x"), MALFORMED),
    v5(packet(0x30, b""), MALFORMED),
    v311(packet(0x30, b"\x00")),
    # strings
    v5(raw_mqtt.publish(b"shared/\xff", b"x"), MALFORMED),  # [MQTT-1.5.4-1]
    v311(raw_mqtt.publish(b"shared/\xc0\xaf", version=V311)),
    v5(raw_mqtt.publish(b"shared/\xed\xa0\x80"), MALFORMED),  # a surrogate
    v311(raw_mqtt.publish("shared/\x00", version=V311)),  # [MQTT-1.5.4-2]
    v5(packet(0x30, b"\xff\xffshared"), MALFORMED),
    # PUBLISH
    v5(raw_mqtt.publish("shared/x", qos=3), MALFORMED),  # [MQTT-3.3.1-4]
    v311(raw_mqtt.publish("shared/x", qos=3, version=V311)),
    v5(packet(0x38, text("shared/x") + NO_PROPERTIES), MALFORMED),  # DUP at QoS 0 [MQTT-3.3.1-2]
    v5(raw_mqtt.publish("shared/+"), TOPIC_INVALID),  # [MQTT-3.3.2-2]
    v5(raw_mqtt.publish("shared/#", qos=1), TOPIC_INVALID),
    v311(raw_mqtt.publish("#", version=V311)),
    v311(raw_mqtt.publish("", version=V311)),  # [MQTT-4.7.3-1]
    v5(raw_mqtt.publish(""), PROTOCOL_ERROR),  # neither topic name nor alias
    v5(raw_mqtt.publish("shared/x", qos=1, packet_id=0), PROTOCOL_ERROR),  # [MQTT-2.2.1-3]
    v311(raw_mqtt.publish("shared/x", qos=1, packet_id=0, version=V311)),
    v5(packet(0x30, text("shared/x") + b"\x03\x23\x00\x00"), PROTOCOL_ERROR),  # alias 0 [MQTT-3.3.2-8]
    v5(packet(0x30, text("shared/x") + b"\x03\x23\xff\xff"), ALIAS_INVALID),  # above the maximum [MQTT-3.3.2-9]
    v5(packet(0x30, text("") + b"\x03\x23\x00\x05"), PROTOCOL_ERROR),  # an alias never set
    v5(packet(0x30, text("shared/x") + b"\x02\x0b\x01"), PROTOCOL_ERROR),  # subscription identifier [MQTT-3.3.4-6]
    v5(packet(0x30, text("shared/x") + b"\x02\x7e\x01"), MALFORMED),  # a property nobody knows
    # SUBSCRIBE and UNSUBSCRIBE
    v5(packet(0x82, b"\x00\x01" + NO_PROPERTIES), PROTOCOL_ERROR),  # [MQTT-3.8.3-2]
    v311(packet(0x82, b"\x00\x01")),
    v5(packet(0x82, b"\x00\x00" + NO_PROPERTIES + text("shared/x") + b"\x00"), PROTOCOL_ERROR),
    v5(packet(0x82, b"\x00\x01" + NO_PROPERTIES + text("shared/x") + b"\xc0"), MALFORMED),  # [MQTT-3.8.3-5]
    v311(packet(0x82, b"\x00\x01" + text("shared/x") + b"\x03")),  # QoS 3
    v5(packet(0x82, b"\x00\x01" + NO_PROPERTIES + text("$share/g/shared/x") + b"\x04"), PROTOCOL_ERROR),
    v5(packet(0xA2, b"\x00\x01" + NO_PROPERTIES), PROTOCOL_ERROR),  # [MQTT-3.10.3-2]
    v311(packet(0xA2, b"\x00\x01")),
    # packets at the wrong time or of the wrong side
    v5(raw_mqtt.connect("sensor-1"), PROTOCOL_ERROR),  # a second CONNECT [MQTT-3.1.0-2]
    v311(raw_mqtt.connect("sensor-1", version=V311)),
    v5(packet(0x20, b"\x00\x00\x00"), PROTOCOL_ERROR),  # CONNACK
    v5(packet(0x90, b"\x00\x01\x00\x00"), PROTOCOL_ERROR),  # SUBACK
    v311(packet(0xD0)),  # PINGRESP
    v5(packet(0xF0, b"\x18\x00"), PROTOCOL_ERROR),  # AUTH that nobody asked for
    v5(packet(0xE0, b"\x00\x05\x11\x00\x00\x00\x09"), PROTOCOL_ERROR),  # an expiry after none, section 3.14.2.2.2
    v5(packet(0xE0, b"\x77"), PROTOCOL_ERROR),  # a reason code nobody knows
    # size
    v5(b"\x30\xff\xff\xff\x7f", TOO_LARGE),  # 256 MiB announced, told before a byte of it came
    v311(b"\x30\xff\xff\xff\x7f"),
    v5(b"\x30\x80\x80\x40", TOO_LARGE),  # one header more than max_packet_size
]


@pytest.mark.parametrize(
    ("version", "raw", "reason"), BROKEN, ids=lambda value: value[:12].hex() if isinstance(value, bytes) else None
)
def test_what_breaks_the_protocol_ends_its_connection_and_no_other(broker, healthy, client_id, version, raw, reason):
    with Wire.join(broker.port, broker.device("sensor-1"), client_id, version=version) as wire:
        wire.send(raw)
        answers = wire.rest()  # to the end: the broker closes
    if version == V311:
        assert answers == []  # 3.1.1 has no word for it
    else:
        (answer,) = answers
        assert (answer.kind, hex(answer.body[0])) == (DISCONNECT, hex(reason))
        assert answer.reason_string(1)
    event = broker.wait_event("disconnected", client_id=client_id)
    assert event["cause"] not in ("client-disconnect", "network-closed")
    assert event["summary"]
    assert broker.refusals() == []
    healthy()


# What is wrong in one subscription or topic, and not in the packet, is answered for it alone.
@pytest.mark.parametrize(
    "topic", ["", "shared/#/x", "shared/x+", "sh#", "$share/g/", "$share//shared/x", "$share/g+/x"]
)
def test_a_bad_filter(broker, healthy, client_id, topic):
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        wire.send(raw_mqtt.subscribe(topic))
        answer = wire.packet()
        code = answer.body[0] if answer.kind == DISCONNECT else answer.body[-1]
        assert code in (FILTER_INVALID, PROTOCOL_ERROR, MALFORMED)
    healthy()


def test_a_packet_of_just_the_size_that_is_allowed(broker, client_id):
    """max_packet_size is 1 MiB by default, fixed header included."""
    topic = "shared/big"
    payload = b"x" * ((1 << 20) - 4 - 2 - len(topic) - 1)
    raw = raw_mqtt.publish(topic, payload)
    assert len(raw) == 1 << 20
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        wire.send(raw)
        wire.round_trip()
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        wire.send(raw_mqtt.publish(topic, payload + b"x"))
        (answer,) = wire.rest()
        assert (answer.kind, answer.body[0]) == (DISCONNECT, TOO_LARGE)


def test_a_giant_packet_is_not_collected(broker, healthy, client_id):
    """The close comes at the header; the client may still push on without the broker keeping any of it."""
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        wire.send(b"\x30\xff\xff\xff\x7f" + b"x" * 100_000)
        (answer,) = wire.rest()
        assert answer.body[0] == TOO_LARGE
    healthy()


def test_a_whole_packet_before_a_broken_one_still_counts(broker, watcher, client_id):
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        wire.send(
            raw_mqtt.publish("shared/watched/x", b"good")
            + packet(0x00)
            + raw_mqtt.publish("shared/watched/x", b"never")
        )
        wire.rest()
    assert watcher.packet().body.endswith(b"good")
    watcher.round_trip()


def test_the_will_is_sent_for_who_is_thrown_out(broker, watcher, client_id):
    """[MQTT-3.1.2-8]: the connection was closed because of a protocol error."""
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.with_will(client_id, "shared/watched/gone", b"sensor-1"))
        assert wire.packet().body[1] == 0
        wire.send(packet(0x00))
        wire.rest()
    assert watcher.packet().body.endswith(b"sensor-1")


def test_packets_cut_at_every_byte(broker, healthy, client_id):
    """One packet over many TLS records, and many packets in one."""
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        for byte in raw_mqtt.subscribe("devices/sensor-1/#"):
            wire.send(bytes([byte]))
        assert wire.packet().body[-1] == 0
        wire.send(b"".join(raw_mqtt.publish("devices/sensor-1/x", bytes([n])) for n in range(200)))
        assert [wire.packet().body[-1] for _ in range(200)] == list(range(200))
    healthy()


def test_bytes_that_are_no_tls_record_in_the_middle(broker, healthy, client_id):
    """A forged record on an established connection ends it: what is not authentic is not read."""
    with Wire.join(broker.port, broker.device("sensor-1"), client_id) as wire:
        plain = wire.socket.detach()
        with socket.socket(fileno=plain) as raw:
            raw.settimeout(raw_mqtt.SECONDS)
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            while raw.recv(4096):
                pass
    assert "TLS" in broker.wait_event("disconnected", client_id=client_id)["summary"]
    healthy()


def test_who_hangs_up_with_the_last_bytes_is_missed_at_once(broker):
    """No DISCONNECT, no close_notify: the end of the TCP connection may arrive together with the last packet."""
    files = broker.device("sensor-1")
    gone = [f"sensor-1:{next(_serial)}" for _ in range(40)]
    for client_id in gone:
        with Wire.join(broker.port, files, client_id) as wire:
            wire.send(raw_mqtt.publish("devices/sensor-1/last", b"words"))
    for client_id in gone:
        assert broker.wait_event("disconnected", client_id=client_id)["cause"] == "network-closed"
