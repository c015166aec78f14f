"""Pre-shared keys at a running data plane, and the five traps of serving them with OpenSSL.

Knows nothing of the registry: the node's own JSON says who has which key. The client is `openssl s_client`.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from data_plane import OWN_TOPICS, SECONDS, BareNode
from raw_mqtt import client_context, connect, packet, publish
from stock_clients import Ended, mosquitto_pub, run, s_client

from sealmq import _engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY, OTHER = "11" * 32, "22" * 32
PSK = [{"kind": "psk", "address": "127.0.0.1:0"}]
VERSIONS = ("-tls1_2", "-tls1_3")
DISCONNECT = packet(0xE0)
NOT_AUTHORIZED = 0x87
RULES = [OWN_TOPICS | {"filter": "devices/{id}/#"}]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[BareNode]:
    with BareNode(tmp_path, listeners=PSK, rules=RULES, psk=[{"device": "sensor-1", "key": KEY}]) as running:
        yield running


def call(node: BareNode, *options: str, identity: str = "sensor-1", key: str = KEY, stdin: bytes = b"") -> Ended:
    """`openssl s_client` with a pre-shared key; without anything to say it leaves when the handshake is over."""
    reach = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}"]
    return run(*reach, "-psk_identity", identity, "-psk", key, *options, stdin=stdin)


def is_heard(
    node: BareNode, version: str = "-tls1_3", *, identity: str = "sensor-1", key: str = KEY, topic: str = ""
) -> bool:
    """Whether a message at QoS 1 from there is acknowledged."""
    said = connect(f"{identity}:a") + publish(topic or f"devices/{identity}/x", b"21", qos=1, packet_id=7) + DISCONNECT
    ended = call(node, version, "-quiet", identity=identity, key=key, stdin=said)
    return any(
        ended.out.endswith(ack) for ack in (b"\x40\x02\x00\x07", b"\x40\x03\x00\x07\x10", b"\x40\x04\x00\x07\x10\x00")
    )


def test_the_listener_is_named_by_its_kind(node: BareNode) -> None:
    assert node.node.addresses()[0][0] == "psk"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_identity_is_the_device_and_its_rules_hold(node: BareNode, version: str) -> None:
    assert is_heard(node, version)
    seen = node.event("connected", device="sensor-1")
    assert seen["certificate"] is None
    assert seen["tls"]["version"] == {"-tls1_2": "TLS 1.2", "-tls1_3": "TLS 1.3"}[version]
    assert seen["tls"]["resumed"] is False
    assert seen["listener"].startswith("psk ")
    foreign = mosquitto_pub(
        node.port, "--psk-identity", "sensor-1", "--psk", KEY, client_id="sensor-2:a", topic="devices/sensor-2/x"
    )
    assert foreign.status != 0
    assert node.event("refused", cause="client-id-mismatch")
    assert not is_heard(node, version, topic="devices/sensor-2/x")
    assert node.event("denied", device="sensor-1")


# --- the five traps ---------------------------------------------------------------------------------------------------


def test_trap_1_a_client_with_sha384_alone_is_told_so_and_one_with_both_gets_sha256(node: BareNode) -> None:
    """RFC 8446, 4.2.11: a key without a hash goes with SHA-256. The library would fail with words about signatures."""
    refused = call(node, "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384")
    assert refused.alert == 40
    assert "TLS_AES_256_GCM_SHA384" in node.event("refused", cause="no-common-cipher")["summary"]
    both = call(node, "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")
    assert "Cipher is TLS_AES_128_GCM_SHA256" in both.text


def test_trap_2_no_certificate_is_ever_shown(node: BareNode) -> None:
    """Neither to a device that has one, nor to a client of the default order, which names AES-256 first."""
    for version in VERSIONS:
        plain = s_client(node.port, version, files=node.device("sensor-1"))
        assert plain.alert == 40
        assert "BEGIN CERTIFICATE" not in plain.text
    assert len([e for e in node.events("refused") if e["cause"] == "no-pre-shared-key"]) == 2
    ended = call(node)
    assert "no peer certificate available" in ended.text
    assert "Cipher is TLS_AES_128_GCM_SHA256" in ended.text
    for identity, key in (("nobody", KEY), ("sensor-1", OTHER)):
        refused = call(node, identity=identity, key=key)
        assert refused.alert == 47
        assert "no peer certificate available" in refused.text


def test_trap_2_on_the_listener_for_certificates_a_key_is_worth_nothing(tmp_path: Path) -> None:
    with BareNode(tmp_path, psk=[{"device": "sensor-1", "key": KEY}]) as node:
        for version in VERSIONS:
            assert call(node, version, "-cipher", "PSK:@SECLEVEL=0", "-ign_eof").alert is not None
        assert not node.events("connected")


def test_trap_3_tls13_knows_who_it_was_too(node: BareNode) -> None:
    """The library forgets the identity in TLS 1.3 and calls every such handshake a resumption."""
    assert is_heard(node)
    seen = node.event("connected")
    assert (seen["device"], seen["tls"]["resumed"]) == ("sensor-1", False)


@pytest.mark.parametrize(("version", "alert"), [("-tls1_2", 20), ("-tls1_3", 47)])
def test_trap_4_an_unknown_identity_and_a_wrong_key_look_the_same_from_outside(
    node: BareNode, version: str, alert: int
) -> None:
    unknown, wrong = call(node, version, identity="sensor-2"), call(node, version, key=OTHER)
    assert (unknown.alert, wrong.alert) == (alert, alert)
    assert _shape(unknown) == _shape(wrong)
    assert "sensor-2" in node.event("refused", cause="psk-unknown-identity")["summary"]
    assert "sensor-1" in node.event("refused", cause="psk-wrong-key")["summary"]
    for event in node.events("refused"):
        assert KEY not in str(event)
        assert OTHER not in str(event)


def test_trap_4_neither_takes_longer_than_the_other(node: BareNode) -> None:
    """The same class of time: the medians of interleaved handshakes lie within each other's spread."""
    took: dict[str, list[float]] = {"sensor-1": [], "sensor-2": []}
    for _ in range(15):
        for identity, times in took.items():
            began = time.perf_counter()
            assert call(node, "-tls1_3", identity=identity, key=OTHER).alert == 47
            times.append(time.perf_counter() - began)
    known, unknown = (statistics.quantiles(times) for times in took.values())
    assert known[0] < unknown[1] + 0.01
    assert unknown[0] < known[1] + 0.01


@pytest.mark.parametrize("version", VERSIONS)
def test_trap_5_no_ticket_outlives_a_key(node: BareNode, tmp_path: Path, version: str) -> None:
    kept = tmp_path / "session.pem"
    first = call(node, version, "-sess_out", str(kept))
    assert "New Session Ticket" not in first.text
    assert "TLS session ticket:" not in first.text
    node.reload(psk=[])
    again = call(node, version, *(("-sess_in", str(kept)) if kept.exists() else ()))
    assert again.alert == {"-tls1_2": 20, "-tls1_3": 47}[version]


def test_trap_5_there_is_no_handshake_without_forward_secrecy_in_tls13(node: BareNode) -> None:
    """psk_ke is not answered with psk_ke, even by a client that allows it: a key share is used."""
    ended = call(node, "-tls1_3", "-allow_no_dhe_kex")
    assert "Server Temp Key: X25519" in ended.text


@pytest.mark.parametrize("version", VERSIONS)
def test_trap_5_an_identity_beyond_a_zero_byte_is_nobody_else(tmp_path: Path, version: str) -> None:
    """C strings end there; a configuration that holds such a name is refused, so that no two are one."""
    for name in ("a\0b", "a/b", "", "user"):
        with (
            pytest.raises(_engine.EngineError) as caught,
            BareNode(tmp_path, listeners=PSK, psk=[{"device": name, "key": KEY}]),
        ):
            pass
        assert caught.value.args[0] == "psk-invalid"
    with BareNode(tmp_path, listeners=PSK, rules=RULES, psk=[{"device": "a", "key": KEY}]) as node:
        assert is_heard(node, version, identity="a")
        assert not is_heard(node, version, identity="ab")


@pytest.mark.parametrize("key", ["", "11" * 15, "11" * 65, "1" * 33, "zz" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(tmp_path: Path, key: str) -> None:
    with (
        pytest.raises(_engine.EngineError) as caught,
        BareNode(tmp_path, listeners=PSK, psk=[{"device": "a", "key": key}]),
    ):
        pass
    code, message, _ = caught.value.args
    assert code == "psk-invalid"
    assert not key or key not in message


# --- what changes while it runs ---------------------------------------------------------------------------------------


def test_a_key_that_comes_with_a_reload_opens_and_one_that_goes_closes(node: BareNode) -> None:
    assert not is_heard(node, identity="sensor-2", key=OTHER)
    node.reload(psk=[{"device": "sensor-2", "key": OTHER}])
    assert is_heard(node, identity="sensor-2", key=OTHER)
    assert not is_heard(node)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_that_goes_before_the_connect_comes_is_no_use(node: BareNode, version: str) -> None:
    """Whoever is through the handshake and waits must not outlast the key."""
    identity = ["-psk_identity", "sensor-1", "-psk", KEY]
    with subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", *identity, version, "-quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as waiting:
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        deadline = time.monotonic() + SECONDS
        while json.loads(node.node.stats())["handshakes_full"] == 0:
            assert time.monotonic() < deadline
        node.reload(psk=[])
        waiting.stdin.write(connect("sensor-1:a"))
        waiting.stdin.flush()
        answer = waiting.stdout.read(4)
        waiting.kill()
    assert answer[:1] == b"\x20"
    assert answer[3] == NOT_AUTHORIZED
    assert node.live() == []
    assert node.event("refused", client_id="sensor-1:a")["cause"] == "revoked"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_revoked_gets_what_an_unknown_identity_gets(node: BareNode, version: str) -> None:
    node.revoke("sensor-1")
    assert call(node, version).alert == call(node, version, identity="nobody").alert
    assert "sensor-1" in node.event("refused", cause="revoked")["summary"]


def test_versions_before_12_are_refused_by_name(node: BareNode) -> None:
    assert call(node, "-tls1_1", "-cipher", "PSK:@SECLEVEL=0").status != 0
    assert node.event("refused", cause="tls-version-too-old")


def test_a_certificate_client_is_told_which_door_it_is_at(node: BareNode) -> None:
    context = client_context(node.device("a"))
    with (
        socket.create_connection(("127.0.0.1", node.port)) as tcp,
        pytest.raises(OSError, match="handshake failure"),
    ):
        context.wrap_socket(tcp, server_hostname="127.0.0.1")
    record = node.event("refused", cause="no-pre-shared-key")
    assert "mqtts listener" in record["mend"]


# --- what is sent there that is no client -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "cause"),
    [
        (connect("sensor-1:a"), "plaintext-mqtt"),
        (b"GET / HTTP/1.1\r\n\r\n", "plaintext-http"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "client-hello-malformed"),
    ],
)
def test_who_does_not_speak_tls_is_told_apart_as_on_every_listener(node: BareNode, opening: bytes, cause: str) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as tcp:
        tcp.sendall(opening)
        while tcp.recv(4096):
            pass
    assert node.event("refused", cause=cause)


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_rubbish_after_a_client_hello_ends_one_connection_and_no_more(node: BareNode, cut: int) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as tcp:
        tcp.sendall(_client_hello() + bytes([0x16, 3, 3, 0, 64]) + bytes(range(cut, cut + 64)))
        while tcp.recv(4096):
            pass
    assert node.event("refused", stage="handshake")["cause"] in {"handshake-broken", "psk-wrong-key"}
    assert is_heard(node)


def test_a_client_that_shows_no_key_in_its_client_hello_is_answered_in_12(node: BareNode) -> None:
    """It may have one for TLS 1.2, and in 1.3 there would be nothing to go on; no downgrade is signalled for it."""
    versions_13_and_12 = b"\x00\x2b\x00\x05\x04\x03\x04\x03\x03"
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as tcp:
        tcp.sendall(_client_hello(versions_13_and_12))
        answer = tcp.recv(4096)
    assert (answer[0], answer[5], answer[9:11]) == (0x16, 2, b"\x03\x03")  # ServerHello of TLS 1.2
    assert not answer[11:43].endswith(b"DOWNGRD\x01")  # RFC 8446, 4.1.3
    assert b"\x00\x2b" not in answer[43:]


def test_a_recording_has_the_keys_of_the_handshake(node: BareNode) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(node.node.record_next, "sensor-1", 10_000)
        while not waiting.done():
            is_heard(node)  # the first may come before the recorder is armed
        recording = json.loads(waiting.result() or "")
    assert recording["outcome"] == "accepted"
    assert any(line.startswith("SERVER_TRAFFIC_SECRET_0 ") for line in recording["keys"])


def _client_hello(extensions: bytes = b"") -> bytes:
    """Of a client with PSK-AES128-GCM-SHA256 in TLS 1.2 and AES-128-GCM in TLS 1.3 (RFC 5246, 7.4.1.2)."""
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x04\x00\xa8\x13\x01" + b"\x01\x00"
    body += len(extensions).to_bytes(2) + extensions if extensions else b""
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


def _shape(ended: Ended) -> list[str]:
    """How many bytes went each way, as s_client tells."""
    return [line for line in ended.text.splitlines() if "handshake has read" in line]
