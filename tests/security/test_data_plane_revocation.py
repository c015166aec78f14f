"""Revocation in the data plane: it closes, refuses full and resumed handshakes, and no handshake under way slips by."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import ExitStack

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from data_plane import BareNode, Caller
from raw_mqtt import DISCONNECT, V5, V311, Wire, connect

from sealmq._engine import EngineError

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def node(tmp_path):
    with BareNode(tmp_path) as running:
        yield running


def digest(files):
    return x509.load_pem_x509_certificate(files.cert.read_bytes()).fingerprint(hashes.SHA256()).hex()


def refused_by_alert(node, files, client_id):
    """A full handshake ends in certificate_revoked (RFC 8446 section 6.2)."""
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)revoked|reset"):
        Wire.join(node.port, files, client_id)
    return node.event("refused", cause="revoked")


# --- live connections ---------------------------------------------------------------------------------------------


def test_every_live_connection_of_the_device_is_closed_and_told(node):
    with ExitStack() as stack:
        join = lambda device, name, version: stack.enter_context(  # noqa: E731
            Wire.join(node.port, node.device(device), name, version=version)
        )
        new, old = join("a", "a", V5), join("a", "a:old", V311)
        other = join("b", "b", V5)
        outcome = node.revoke("a")
        assert outcome["closed"] == 2
        assert outcome["micros"] > 0
        assert node.live() == ["b"]
        [farewell] = new.rest()
        assert (farewell.kind, farewell.body[0]) == (DISCONNECT, 0x98)
        assert farewell.reason_string(1) == "device a or its certificate was revoked"
        assert old.rest() == []  # 3.1.1 has no DISCONNECT from the server
        other.round_trip()
    ends = [(event["client_id"], event["cause"]) for event in node.events("disconnected")]
    assert sorted(ends[:2]) == [("a", "revoked"), ("a:old", "revoked")]


def test_one_certificate_of_a_device_is_revoked_and_the_other_stays(node):
    first, second = node.device("a"), node.device("a", "renewed")
    with Wire.join(node.port, first, "a:1") as old, Wire.join(node.port, second, "a:2") as new:
        assert node.revoke(certificates=(digest(first).upper(),))["closed"] == 1
        assert [packet.kind for packet in old.rest()] == [DISCONNECT]
        new.round_trip()
    record = refused_by_alert(node, first, "a:1")
    assert record["certificate"]["device"] == "a"
    Wire.join(node.port, second, "a:3").close()


def test_nobody_is_there(node):
    assert node.revoke("a")["closed"] == 0
    assert node.revoke()["closed"] == 0


def test_a_node_that_has_stopped_does_not_claim_to_have_closed_anything(tmp_path):
    with BareNode(tmp_path) as node:
        node.node.stop(0)
        with pytest.raises(EngineError, match="stopped"):
            node.revoke("a")


@pytest.mark.parametrize("bad", ["", "00", "g" * 64, "0" * 65])
def test_what_is_no_digest_is_refused_and_nothing_changes(node, bad):
    with pytest.raises(EngineError, match="config-invalid"):
        node.revoke("a", certificates=(bad,))
    Wire.join(node.port, node.device("a"), "a").close()


# --- handshakes ---------------------------------------------------------------------------------------------------


def test_a_full_handshake_is_refused_with_the_alert_for_it(node):
    files = node.device("a")
    node.revoke("a")
    record = refused_by_alert(node, files, "a")
    assert record["stage"] == "certificate"
    assert record["certificate"]["device"] == "a"
    assert "was revoked" in record["summary"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_of_a_revoked_device_does_not_resume(node, version):
    caller = Caller(node, node.device("a"), version)
    caller.call("a")
    assert caller.call("a")[1]
    node.revoke("a")
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)revoked|reset"):
        caller.call("a")
    assert node.event("refused", cause="revoked")["stage"] == "certificate"
    stats = json.loads(node.node.stats())
    assert (stats["handshakes_full"], stats["handshakes_resumed"]) == (1, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_renewed_device_with_the_ticket_of_its_revoked_certificate_gets_in(node, version):
    """The ticket is passed over, a full handshake follows, and that one is with the new certificate."""
    old, new = node.device("a"), node.device("a", "renewed")
    caller = Caller(node, old, version)
    caller.call("a")
    node.revoke(certificates=(digest(old),))
    caller.context.load_cert_chain(new.cert, new.key)
    answer, resumed = caller.call("a")
    assert (answer.body[1], resumed) == (0, False)
    assert node.events("connected")[-1]["certificate"]["sha256"] == digest(new)


def test_revoked_between_handshake_and_connect(node):
    """It passed the gate with a good certificate; the shard looks again."""
    with Wire.open(node.port, node.device("a")) as wire, Wire.join(node.port, node.device("b"), "b") as other:
        assert node.revoke("a")["closed"] == 0
        wire.send(connect("a"))
        [answer] = wire.rest()
        assert answer.body[1] == 0x87
        assert "was revoked" in answer.reason_string(2)
        other.round_trip()
    assert node.event("refused", cause="revoked", client_id="a")["certificate"]["device"] == "a"


def test_no_handshake_slips_by(node):
    """Eight threads connect without pause: from the return of `revoke` on, nobody of them is or gets in."""
    files = node.device("a")
    is_revoked = threading.Event()
    wires, late = [], []
    warm = threading.Barrier(9)

    def connect_again_and_again(number):
        for turn in range(1000):
            if turn == 3:
                warm.wait()
            began_late = is_revoked.is_set()
            try:
                wire = Wire.join(node.port, files, f"a:{number}-{turn}")
            except (ssl.SSLError, ConnectionError, EOFError, AssertionError):
                return
            wires.append(wire)
            if began_late:
                late.append(wire)

    threads = [threading.Thread(target=connect_again_and_again, args=(number,)) for number in range(8)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
        warm.wait()
        closed = node.revoke("a")["closed"]
        is_revoked.set()
        assert node.live() == []
        for thread in threads:
            thread.join()
        for wire in wires:
            stack.callback(wire.close)
        assert late == []
        assert closed >= 24
        assert node.live() == []
        for wire in wires:
            assert [packet.kind for packet in wire.rest()] == [DISCONNECT]
        assert len(wires) == closed


# --- configuration ------------------------------------------------------------------------------------------------


def test_the_list_of_a_configuration_is_in_force_from_the_start_and_replaced_by_a_reload(tmp_path):
    with BareNode(tmp_path, revoked={"devices": ["a"]}) as node:
        refused_by_alert(node, node.device("a"), "a")
        with Wire.join(node.port, node.device("b"), "b") as wire:
            node.reload(revoked={"certificates": [digest(node.device("b"))]})
            assert [packet.kind for packet in wire.rest()] == [DISCONNECT]
        assert node.event("disconnected", client_id="b")["cause"] == "revoked"
        Wire.join(node.port, node.device("a"), "a").close()


def test_a_configuration_that_is_refused_leaves_the_list(node):
    node.revoke("a")
    with pytest.raises(EngineError, match="config-invalid"):
        node.reload(revoked={"certificates": ["nonsense"]})
    refused_by_alert(node, node.device("a"), "a")
