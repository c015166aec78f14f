"""Rules of groups in a running node, their explanation, and what the broker publishes by itself."""

from __future__ import annotations

import json

import pytest
import raw_mqtt
from data_plane import OWN_TOPICS, BareNode
from raw_mqtt import PUBLISH, SUBACK, Wire

from sealmq._engine import EngineError, explain_rule

DENIED = 0x87


def rule(name, who, topic, *, effect="allow", publish=True, subscribe=True):
    return {
        "name": name,
        "effect": effect,
        "who": who,
        "publish": publish,
        "subscribe": subscribe,
        "filter": topic,
    }


PLANTS = rule("plants", "group:plant-*", "{group}/#")


def published(wire, topic):
    wire.send(raw_mqtt.publish(topic, b"x", qos=1))
    return wire.packet().body[2]


# --- groups -------------------------------------------------------------------------------------------------------


def test_groups_change_live(tmp_path):
    with (
        BareNode(tmp_path, rules=[PLANTS], groups={"a": ["plant-1"]}) as node,
        Wire.join(node.port, node.device("a"), "a") as wire,
    ):
        assert published(wire, "plant-1/x") != DENIED
        assert published(wire, "plant-2/x") == DENIED
        node.reload(groups={"a": ["plant-2"]})
        assert published(wire, "plant-1/x") == DENIED
        assert published(wire, "plant-2/x") != DENIED
        node.reload(groups={})
        assert published(wire, "plant-2/x") == DENIED


def test_a_group_that_could_mean_more_than_itself_is_an_error(tmp_path):
    with BareNode(tmp_path, rules=[PLANTS]) as node:
        with pytest.raises(EngineError) as caught:
            node.reload(groups={"a": ["plant-+"]})
        assert caught.value.args[0] == "rule-invalid"
        assert "group of a" in caught.value.args[1]


# --- explanations -------------------------------------------------------------------------------------------------


@pytest.fixture
def explain(tmp_path):
    rules = [
        rule("secret", "*", "shared/secret/#", effect="deny"),
        rule("shared", "*", "shared/#", publish=False),
        OWN_TOPICS,
        PLANTS,
        rule("people", "user:a*", "u/{id}"),
        rule("strangers", "anonymous", "lobby"),
    ]
    node = BareNode(tmp_path, rules=rules, groups={"a": ["plant-1"]})

    def look(identity, action, topic, client_id="a"):
        return json.loads(explain_rule(node.config(), identity, client_id, action, topic))

    return look


@pytest.mark.parametrize(
    ("identity", "action", "topic", "allowed", "by"),
    [
        ("a", "publish", "d/a/x", True, "own"),
        ("a", "publish", "d/b/x", False, None),
        ("a", "publish", "shared/x", False, None),
        ("a", "subscribe", "shared/x", True, "shared"),
        ("a", "subscribe", "$share/g/shared/x", True, "shared"),
        ("a", "subscribe", "shared/#", False, "secret"),
        ("a", "publish", "shared/secret/x", False, "secret"),
        ("a", "publish", "plant-1/x", True, "plants"),
        ("b", "publish", "plant-1/x", False, None),
        ("user:ann", "publish", "u/ann", True, "people"),
        ("user:bob", "publish", "u/bob", False, None),
        (None, "publish", "lobby", True, "strangers"),
        ("a", "publish", "lobby", False, None),
        ("a", "publish", "$SYS/broker/uptime", False, None),
    ],
)
def test_which_rule_decides(explain, identity, action, topic, allowed, by):
    found = explain(identity, action, topic)
    assert (found["allowed"], found["rule"]) == (allowed, by)
    assert topic.removeprefix("$share/g/") in found["why"]
    assert (by or "") in found["why"]


@pytest.mark.parametrize(
    ("action", "topic"), [("publish", "a/+"), ("publish", ""), ("subscribe", "a/#/b"), ("eat", "a")]
)
def test_questions_that_make_no_sense(explain, action, topic):
    with pytest.raises(EngineError, match="config-invalid"):
        explain("a", action, topic)


def test_an_explanation_is_what_happens(tmp_path):
    """The same rules in a running node decide the same."""
    topics = ["d/a/x", "d/b/x", "shared/x", "shared/secret/x", "plant-1/x", "plant-2/x", "lobby", "$ca/bundle"]
    rules = json.loads(BareNode(tmp_path).config())["rules"] + [PLANTS, rule("shared", "*", "shared/+")]
    with (
        BareNode(tmp_path, rules=rules, groups={"a": ["plant-1"]}) as node,
        Wire.join(node.port, node.device("a"), "a") as wire,
    ):
        for topic in topics:
            found = json.loads(explain_rule(node.config(), "a", "a", "publish", topic))
            assert (published(wire, topic) != DENIED) == found["allowed"], topic


# --- the broker's own messages ------------------------------------------------------------------------------------


def listen(wire, topic, *, qos=1):
    wire.send(raw_mqtt.subscribe(topic, qos=qos))
    answer = wire.packet()
    assert (answer.kind, answer.body[-1]) == (SUBACK, qos)


def test_the_broker_publishes_and_keeps_what_nobody_else_may_write(tmp_path):
    hear = rule("bundle", "*", "$ca/#")
    with BareNode(tmp_path, rules=[hear], limits={"sys_interval_s": 0}) as node:
        with Wire.join(node.port, node.device("a"), "a") as early:
            listen(early, "$ca/#")
            node.node.publish("$ca/bundle", b"first", True)
            heard = early.packet()
            assert (heard.kind, heard.first >> 1 & 3, heard.first & 1) == (PUBLISH, 1, 0)
            assert heard.body.endswith(b"first")
            early.send(raw_mqtt.packet(0x40, heard.body[12:14]))
            assert published(early, "$ca/bundle") == DENIED
        with Wire.join(node.port, node.device("b"), "b") as late:
            listen(late, "$ca/bundle", qos=0)
            kept = late.packet()
            assert (kept.first & 1, kept.body.endswith(b"first")) == (1, True)
            node.node.publish("$ca/note", b"passing", False)
            node.node.publish("$ca/bundle", b"", True)
            assert late.packet().body.endswith(b"$ca/bundle\x00")
        with Wire.join(node.port, node.device("c"), "c") as last:
            listen(last, "$ca/#", qos=0)
            last.round_trip()


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b"])
def test_a_topic_that_is_none(tmp_path, topic):
    with BareNode(tmp_path) as node, pytest.raises(EngineError, match="config-invalid"):
        node.node.publish(topic, b"x", False)
