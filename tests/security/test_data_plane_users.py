"""Users with passwords beside devices with certificates: who gets in, as whom, and what a wrong word costs."""

from __future__ import annotations

import json
import os
import ssl
from contextlib import ExitStack

import pytest
import raw_mqtt
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from data_plane import OWN_TOPICS, BareNode
from raw_mqtt import CONNACK, DISCONNECT, V5, V311, Wire, client_context

from sealmq._engine import EngineError

PUBACK_QOS1 = {"qos": 1, "packet_id": 7}
USERS = {"name": "users", "effect": "allow", "who": "user:*", "publish": True, "subscribe": True, "filter": "u/{id}/#"}


def hashed(password, *, passes=1, memory_kib=64):
    kdf = Argon2id(salt=os.urandom(16), length=32, iterations=passes, lanes=1, memory_cost=memory_kib)
    return kdf.derive_phc_encoded(password.encode())


def user(name, password, **cost):
    return {"name": name, "hash": hashed(password, **cost)}


def hello(client_id, name=None, password=None, *, version=V5):
    flags = 0x02 | (0x80 if name is not None else 0) | (0x40 if password is not None else 0)
    tail = b"".join(raw_mqtt.text(word) for word in (name, password) if word is not None)
    return raw_mqtt.connect(client_id, version=version, flags=flags, tail=tail)


def dial(node, files=None):
    """TLS that trusts the node; without `files` no certificate is shown."""
    context = client_context(files, ca=node.device("anchor").ca)
    return Wire.open(node.port, None, context=context)


def answered(node, *words, version=V5, files=None):
    """The reason code of the CONNACK."""
    with dial(node, files) as wire:
        wire.send(hello(*words, version=version))
        answer = wire.packet()
        assert answer.kind == CONNACK
        return answer.body[1]


@pytest.fixture
def node(tmp_path):
    users = [user("ann", "right"), user("bob", "other")]
    with BareNode(tmp_path, users=users, rules=[OWN_TOPICS, USERS]) as running:
        yield running


@pytest.mark.parametrize("version", [V311, V5])
def test_the_right_password(node, version):
    assert answered(node, "user:ann", "ann", "right", version=version) == 0
    event = node.event("connected", client_id="user:ann")
    assert (event["user"], event["device"], event["certificate"]) == ("ann", None, None)


@pytest.mark.parametrize(
    "words",
    [
        ("ann", "wrong"),
        ("ann", "other"),
        ("ann", ""),
        ("eve", "right"),
        ("", "right"),
        ("ANN", "right"),
        ("a" * 65_000, "x"),
    ],
    ids=["wrong", "of another", "empty", "unknown", "nobody", "other case", "long"],
)
@pytest.mark.parametrize(("version", "code"), [(V5, 0x86), (V311, 4)])
def test_wrong_words_are_told_alike(node, words, version, code):
    assert answered(node, "user:ann", *words, version=version) == code
    record = node.event("refused", cause="bad-credentials")
    assert record["stage"] == "connect"
    assert record["summary"] == "user name or password is wrong"
    assert node.events("connected") == []
    assert "right" not in str(record["summary"] + record["mend"])


@pytest.mark.parametrize(("version", "code"), [(V5, 0x87), (V311, 5)])
def test_neither_certificate_nor_password(node, version, code):
    assert answered(node, "anonymous", version=version) == code
    assert "neither" in node.event("refused", cause="no-credentials")["summary"]


def test_a_device_needs_no_password_and_its_words_are_not_asked(node):
    assert answered(node, "d", "ann", "wrong", files=node.device("d")) == 0
    assert node.event("connected", client_id="d")["device"] == "d"
    assert node.event("connected", client_id="d")["user"] is None


def test_a_certificate_that_is_not_trusted_is_not_made_up_for_by_a_password(node, tmp_path):
    foreign = type(node.ca)().issue_client("d").write(tmp_path / "foreign")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answered(node, "user:ann", "ann", "right", files=foreign)
    node.event("refused", cause="untrusted-issuer")


# --- as whom ------------------------------------------------------------------------------------------------------


def published(wire, topic):
    wire.send(raw_mqtt.publish(topic, b"x", **PUBACK_QOS1))
    return wire.packet().body[2]


def test_a_user_has_the_topics_of_users_and_no_device_of_that_name_loses_anything(node):
    with dial(node) as user_wire, Wire.join(node.port, node.device("ann"), "ann") as device:
        user_wire.send(hello("user:ann:phone", "ann", "right"))
        assert user_wire.packet().body[1] == 0
        assert published(user_wire, "u/ann/x") in (0, 0x10)
        assert published(user_wire, "d/ann/x") == 0x87
        assert published(device, "d/ann/x") in (0, 0x10)
        assert published(device, "u/ann/x") == 0x87
        sessions = json.loads(node.node.sessions())
        assert {(s["client_id"], s["device"], s["user"]) for s in sessions} == {
            ("ann", "ann", None),
            ("user:ann:phone", None, "ann"),
        }


@pytest.mark.parametrize("client_id", ["ann", "user:bob", "user:annie", "user", "anything"])
def test_a_user_may_not_take_the_client_identifier_of_another(node, client_id):
    assert answered(node, client_id, "ann", "right") == 0x85
    assert node.event("refused", cause="client-id-mismatch")["client_id"] == client_id


def test_a_client_identifier_is_assigned(node):
    with dial(node) as wire:
        wire.send(hello("", "ann", "right"))
        assert wire.packet().body[1] == 0
    assert node.event("connected")["client_id"].startswith("user:ann:auto-")


def test_no_device_is_called_user(node, monkeypatch):
    """Nobody gives out that id; another CA that is trusted may have."""
    monkeypatch.setattr("sealmq.testing.ca.check_device_id", lambda _: None)
    assert answered(node, "user:ann", files=node.device("user")) == 0x87
    node.event("refused", cause="certificate-unfit-identity")


# --- changes ------------------------------------------------------------------------------------------------------


def test_a_user_that_is_removed_is_out(node):
    ann, bob = user("ann", "right"), user("bob", "other")
    node.reload(users=[ann, bob])
    with dial(node) as wire, dial(node) as other:
        wire.send(hello("user:ann", "ann", "right"))
        other.send(hello("user:bob", "bob", "other"))
        assert (wire.packet().body[1], other.packet().body[1]) == (0, 0)
        node.reload(users=[bob])
        [farewell] = wire.rest()
        assert (farewell.kind, farewell.body[0]) == (DISCONNECT, 0x98)
        other.round_trip()
    assert answered(node, "user:ann", "ann", "right") == 0x86


def test_without_users_a_certificate_is_demanded_again(node):
    node.reload(users=[])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answered(node, "user:ann", "ann", "right")
    node.event("refused", cause="no-client-certificate")


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "ann", "hash": "right"},
        {"name": "ann", "hash": ""},
        {"name": "a/b", "hash": hashed("x")},
        {"name": "ann", "hash": hashed("x").replace("argon2id", "argon2i")},
    ],
)
def test_a_user_that_cannot_be_used_is_an_error_at_start(tmp_path, bad):
    with pytest.raises(EngineError) as caught:
        BareNode(tmp_path, users=[bad]).__enter__()
    assert caught.value.args[0] == "user-invalid"
    assert "right" not in caught.value.args[1]


# --- cost ---------------------------------------------------------------------------------------------------------


def test_established_traffic_and_devices_do_not_wait_for_passwords(tmp_path):
    """Hashes that take long: while they are verified, one after the other, others come in and messages flow."""
    slow = user("ann", "right", passes=8, memory_kib=128 * 1024)
    with BareNode(tmp_path, users=[slow]) as node, ExitStack() as stack:
        waiting = [stack.enter_context(dial(node)) for _ in range(3)]
        for number, wire in enumerate(waiting):
            wire.send(hello(f"user:ann:{number}", "ann", "right"))
        with Wire.join(node.port, node.device("d"), "d") as device:
            device.round_trip()
            assert len(node.events("connected")) < 4
        for wire in waiting:
            assert wire.packet().body[1] == 0


def test_too_many_passwords_at_once_are_told_to_come_later(tmp_path):
    slow = user("ann", "right", passes=4, memory_kib=64 * 1024)
    with BareNode(tmp_path, users=[slow]) as node, ExitStack() as stack:
        wires = [stack.enter_context(dial(node)) for _ in range(80)]
        for wire in wires:
            wire.send(hello("", "ann", "wrong"))
        node.event("refused", cause="too-many-logins")
        assert [wire.packet().body[1] for wire in wires[-5:]] == [0x89] * 5


def test_anonymous_stays_possible_where_it_is_allowed(tmp_path):
    with BareNode(tmp_path, users=[user("ann", "right")], dangerous={"anonymous": True}) as node:
        assert answered(node, "anonymous") == 0
        assert answered(node, "user:ann", "ann", "right") == 0
        assert answered(node, "anonymous", "ann", "wrong") == 0x86
