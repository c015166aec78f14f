"""Owns who may publish and subscribe where: built-in rules, rule files, denials and what they say, reloads, takeover.

Refuses to know `[dangerous]`, which has `test_dangerous`.
"""

import struct

import pytest
import raw_mqtt
from raw_mqtt import CONNACK, DISCONNECT, PUBACK, PUBLISH, SUBACK, V5, V311, Wire
from stock_clients import mosquitto_pub, run

from sealmq.errors import ConfigError

DENIED = 0x87


def subscribed(wire, topic, *, version=V5):
    """The answer to a SUBSCRIBE: the reason code, and the reason string in MQTT 5."""
    wire.send(raw_mqtt.subscribe(topic, version=version))
    answer = wire.packet()
    assert answer.kind == SUBACK
    return answer.body[-1], answer.reason_string(2) if version == V5 else ""


def published(wire, topic, payload=b"x", *, retain=0):
    """The answer to a PUBLISH at QoS 1 in MQTT 5."""
    wire.send(raw_mqtt.publish(topic, payload, qos=1, retain=retain))
    answer = wire.packet()
    assert answer.kind == PUBACK
    reason = answer.body[2] if len(answer.body) > 2 else 0
    return reason, answer.reason_string(3)


def quiet(*wires):
    """Nothing came, and nothing is on its way: the broker handles the connections of one shard in order."""
    for wire in wires:
        wire.round_trip()


# --- the built-in rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic", ["devices/sensor-1", "devices/sensor-1/a", "devices/sensor-1/a/b", "shared", "shared/x"]
)
def test_own_topics(join, broker, topic):
    wire = join("sensor-1")
    assert subscribed(wire, topic) == (0, "")
    wire.send(raw_mqtt.publish(topic, b"mine"))
    assert wire.packet().body.endswith(b"mine")
    assert [event for event in broker.events() if event["event"] == "denied"] == []


@pytest.mark.parametrize(
    "topic",
    [
        "devices/sensor-2/a",
        "devices/sensor-10",
        "devices/sensor",
        "devices",
        "devices//sensor-1",
        "/devices/sensor-1",
        "Devices/sensor-1/a",
        "sharedx",
        "x",
        "$SYS/broker/version",
        "$share/devices/sensor-1/a",
        "$other/x",
    ],
)
def test_topics_of_nobody_and_of_others_are_denied_for_publishing(join, broker, topic):
    wire = join("sensor-1")
    reason, words = published(wire, topic)
    assert reason == DENIED
    event = broker.wait_event("denied", action="publish", topic=topic)
    assert words == event["rule"]
    assert (event["client_id"], event["device"]) == ("sensor-1", "sensor-1")
    if not topic.startswith("$SYS"):
        assert event["rule"] == f"no rule allows publish on {topic}"
    assert topic in event["mend"]
    quiet(wire)
    assert f"denied sensor-1: publish {topic}" in broker.log_text


@pytest.mark.parametrize(
    "topic",
    ["#", "+/#", "devices/#", "devices/+/a", "devices/+", "+/sensor-1/#", "devices/sensor-2/#", "$SYS/#", "/#", "x"],
)
@pytest.mark.parametrize("share", ["", "$share/group/"])
def test_filters_that_reach_further_than_the_rules_are_denied(join, broker, share, topic):
    wire = join("sensor-1")
    reason, words = subscribed(wire, share + topic)
    assert reason == DENIED
    assert words == f"no rule allows subscribe on {topic}"
    event = broker.wait_event("denied", action="subscribe", topic=share + topic)
    assert event["rule"] == words
    quiet(wire)


def test_what_is_denied_reaches_nobody(join):
    owner, thief = join("sensor-1"), join("sensor-2")
    assert subscribed(owner, "devices/sensor-1/#") == (0, "")
    assert published(thief, "devices/sensor-1/cmd", b"forged")[0] == DENIED
    thief.send(raw_mqtt.publish("devices/sensor-1/cmd", b"forged"))  # QoS 0 gets no answer
    assert published(thief, "devices/sensor-1/cmd", b"forged", retain=1)[0] == DENIED
    quiet(thief, owner)
    late = join("sensor-1:late")
    assert subscribed(late, "devices/sensor-1/#") == (0, "")
    quiet(late)  # nothing was retained either


def test_one_filter_of_several_is_denied(join):
    wire = join("sensor-1")
    wire.send(raw_mqtt.subscribe("shared/a", "devices/sensor-2/#", "devices/sensor-1/#"))
    suback = wire.packet()
    assert list(suback.body[-3:]) == [0, DENIED, 0]
    assert "devices/sensor-2/#" in suback.reason_string(2)


def test_mqtt_3_is_told_with_0x80(join, broker):
    wire = join("sensor-1", version=V311)
    assert subscribed(wire, "devices/sensor-2/#", version=V311)[0] == 0x80
    broker.wait_event("denied", action="subscribe", topic="devices/sensor-2/#")


def test_a_denied_publish_of_mqtt_3_is_acknowledged_and_goes_nowhere(join, broker):
    """MQTT 3.1.1 section 3.3.5: there is no way to say no but to close, and a device that is closed comes back."""
    owner, thief = join("sensor-1"), join("sensor-2", version=V311)
    assert subscribed(owner, "devices/sensor-1/#") == (0, "")
    thief.send(raw_mqtt.publish("devices/sensor-1/x", b"forged", qos=1, version=V311))
    assert thief.packet().kind == PUBACK
    broker.wait_event("denied", action="publish", topic="devices/sensor-1/x", device="sensor-2")
    quiet(thief, owner)


def test_qos_2_is_denied_at_the_first_step(join):
    wire = join("sensor-1")
    wire.send(raw_mqtt.publish("devices/sensor-2/x", b"x", qos=2))
    pubrec = wire.packet()
    assert (pubrec.kind, pubrec.body[2]) == (5, DENIED)


def test_mosquitto_pub_is_told(broker):
    ended = mosquitto_pub(
        broker.port, "-V", "5", "-q", "1", "-d", files=broker.device("sensor-1"), topic="devices/sensor-2/x"
    )
    assert "Not authorized" in ended.text, ended.text
    broker.wait_event("denied", action="publish", topic="devices/sensor-2/x")


def test_mosquitto_sub_is_told(broker):
    files = broker.device("sensor-1")
    shown = ("--cafile", files.ca, "--cert", files.cert, "--key", files.key, "-i", "sensor-1")
    ended = run("mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), *shown, "-V", "5", "-t", "#")
    assert "All subscription requests were denied" in ended.text, ended.text


def test_the_brokers_own_topics_are_not_written_by_anyone(start, join):
    broker = start(dangerous={"allow_all": True})
    for client_id, topic in (("sensor-1", "$SYS/broker/version"), ("sensor-2", "$SYS/x")):
        why = f"rule $SYS is written by the broker only denies publish on {topic}"
        assert published(join(client_id, to=broker), topic, b"forged") == (DENIED, why)
        assert broker.wait_event("denied", topic=topic)["rule"] == why


# --- a rule file --------------------------------------------------------------------------------------------------

RULES = """
[[rule]]
name = "no secrets"
effect = "deny"
who = "*"
actions = ["publish", "subscribe"]
topics = ["plant/secret/#"]

[[rule]]
name = "gateways read all"
who = "gateway-*"
actions = ["subscribe"]
topics = ["plant/#"]

[[rule]]
name = "own line"
who = "line-?"
actions = ["publish", "subscribe"]
topics = ["plant/{id}/#", "session/{client}/+"]
"""


@pytest.fixture
def ruled(start):
    return start(rules=RULES)


@pytest.mark.parametrize(
    ("client_id", "topic", "why"),
    [
        ("line-1", "plant/line-1/temperature", None),
        ("line-1", "plant/line-1", None),
        ("line-1", "plant/line-2/temperature", "no rule allows publish on plant/line-2/temperature"),
        ("line-1", "plant/secret/x", "rule no secrets denies publish on plant/secret/x"),
        ("line-10", "plant/line-10/x", "no rule allows publish on plant/line-10/x"),  # ? is one character
        ("line-1:a", "session/line-1:a/up", None),
        ("line-1:a", "session/line-1:b/up", "no rule allows publish on session/line-1:b/up"),
        ("line-1:a", "session/line-1:a/up/down", "no rule allows publish on session/line-1:a/up/down"),
        ("line-1:+", "session/x/up", "no rule allows publish on session/x/up"),  # a client id is no pattern
        ("gateway-7", "plant/line-1/temperature", "no rule allows publish on plant/line-1/temperature"),
        ("sensor-1", "devices/sensor-1/x", "no rule allows publish on devices/sensor-1/x"),  # built-in rules are gone
    ],
)
def test_publishing_under_a_rule_file(ruled, join, client_id, topic, why):
    wire = join(client_id, to=ruled)
    reason, words = published(wire, topic)
    assert (reason in (0, 0x10), words) == (True, "") if why is None else (reason, words) == (DENIED, why)
    if why is not None:
        assert ruled.wait_event("denied", topic=topic)["rule"] == why


@pytest.mark.parametrize(
    ("client_id", "topic", "why"),
    [
        ("gateway-7", "plant/line-1/#", None),
        ("gateway-7", "plant/+/temperature", "rule no secrets denies subscribe on plant/+/temperature"),
        ("gateway-7", "plant/#", "rule no secrets denies subscribe on plant/#"),  # it reaches into what is denied
        ("gateway-7", "plant/secret/x", "rule no secrets denies subscribe on plant/secret/x"),
        ("gateway-7", "#", "rule no secrets denies subscribe on #"),
        ("gateway", "plant/line-1/#", "no rule allows subscribe on plant/line-1/#"),
        ("line-1", "plant/line-1/#", None),
        ("line-1", "plant/line-2/#", "no rule allows subscribe on plant/line-2/#"),
        ("line-1:+", "session/+/up", "no rule allows subscribe on session/+/up"),
        ("line-1:#", "session/#", "no rule allows subscribe on session/#"),
    ],
)
def test_subscribing_under_a_rule_file(ruled, join, client_id, topic, why):
    reason, words = subscribed(join(client_id, to=ruled), topic)
    assert (reason, words) == ((0, "") if why is None else (DENIED, why))


def test_no_rule_at_all_allows_nothing(start, join):
    broker = start(rules="")
    wire = join("sensor-1", to=broker)
    assert subscribed(wire, "devices/sensor-1/#")[0] == DENIED
    assert published(wire, "shared/x")[0] == DENIED


# --- reload -------------------------------------------------------------------------------------------------------

OPEN = '[[rule]]\nname = "open"\nactions = ["publish", "subscribe"]\ntopics = ["a/#", "b/#"]\n'
NARROW = '[[rule]]\nname = "narrow"\nactions = ["publish", "subscribe"]\ntopics = ["b/#"]\n'


def test_new_rules_end_subscriptions_and_publications_that_they_do_not_allow(start, join):
    broker = start(rules=OPEN)
    reader, writer = join("reader", to=broker), join("writer", to=broker)
    for topic in ("a/#", "b/#"):
        assert subscribed(reader, topic) == (0, "")
    assert published(writer, "a/x", b"before")[0] == 0
    assert reader.packet().body.endswith(b"before")
    broker.reload(rules=NARROW)
    assert published(writer, "a/x", b"after")[0] == DENIED
    assert published(writer, "b/x", b"still")[0] == 0
    assert reader.packet().body.endswith(b"still")  # and nothing before it
    assert subscribed(reader, "a/#")[0] == DENIED
    broker.reload(rules=OPEN)
    assert published(writer, "a/x", b"again")[0] == 0x10  # nobody subscribed: what has ended stays ended
    quiet(reader)


def test_new_rules_that_are_wrong_change_nothing(start, join):
    broker = start(rules=OPEN)
    wire = join("sensor-1", to=broker)
    assert subscribed(wire, "a/#") == (0, "")
    with pytest.raises(ConfigError, match="has # elsewhere"):
        broker.reload(rules='[[rule]]\nname = "bad"\nactions = ["publish"]\ntopics = ["a/#/b"]\n')
    wire.send(raw_mqtt.publish("a/x", b"as before"))
    assert wire.packet().body.endswith(b"as before")


def test_new_rules_reach_the_sessions_that_are_away(start, join):
    broker = start(rules=OPEN)
    files = broker.device("reader")
    keep = raw_mqtt.connect("reader", flags=0, properties=b"\x11" + struct.pack(">I", 600))
    with Wire.open(broker.port, files) as wire:
        wire.send(keep)
        assert wire.packet().body[1] == 0
        assert subscribed(wire, "a/#") == (0, "")
    broker.wait_event("disconnected", client_id="reader")
    broker.reload(rules=NARROW)
    broker.reload(rules=OPEN)
    writer = join("writer", to=broker)
    assert published(writer, "a/x", b"missed")[0] == 0x10
    with Wire.open(broker.port, files) as wire:
        wire.send(keep)
        connack = wire.packet()
        assert (connack.kind, connack.body[:2]) == (CONNACK, b"\x01\x00")  # the session is there
        quiet(wire)


# --- takeover -----------------------------------------------------------------------------------------------------


def test_the_same_identity_takes_its_session_over(broker, join):
    first = join("sensor-1")
    assert subscribed(first, "devices/sensor-1/#") == (0, "")
    second = join("sensor-1")
    goodbye = first.packet()
    assert (goodbye.kind, goodbye.body[0]) == (DISCONNECT, 0x8E)  # [MQTT-3.1.4-3]
    assert first.rest() == []
    quiet(second)
    assert broker.wait_event("disconnected")["cause"] == "session-taken-over"


def test_another_identity_cannot_take_a_session_over(broker, join):
    first = join("sensor-1")
    with Wire.open(broker.port, broker.device("sensor-2")) as thief:
        thief.send(raw_mqtt.connect("sensor-1", flags=0))
        assert thief.packet().body[1] == 0x85
    broker.wait_event("refused", cause="client-id-mismatch")
    quiet(first)


def test_messages_of_one_device_do_not_reach_the_other(join):
    wires = [join(f"sensor-{n}") for n in range(5)]
    for n, wire in enumerate(wires):
        assert subscribed(wire, f"devices/sensor-{n}/#") == (0, "")
    for n, wire in enumerate(wires):
        wire.send(raw_mqtt.publish(f"devices/sensor-{n}/x", f"of {n}".encode()))
    for n, wire in enumerate(wires):
        answer = wire.packet()
        assert (answer.kind, answer.body.endswith(f"of {n}".encode())) == (PUBLISH, True)
    quiet(*wires)
