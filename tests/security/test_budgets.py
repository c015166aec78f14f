"""Owns the bounds that are looked at before anybody has a session: places, pace, bytes of a handshake and of a CONNECT.

Refuses to know the bounds of sessions and messages; those stand in the scenarios of the engine.
"""

import socket
import ssl
from contextlib import ExitStack

import raw_mqtt
from raw_mqtt import Wire

from sealmq.testing import EphemeralBroker

ELSEWHERE = ("127.0.0.2", 0)


def _is_turned_away(broker, source=None):
    """Whether a connection is closed before a byte of TLS."""
    with socket.create_connection(("127.0.0.1", broker.port), 10, source) as peer:
        try:
            peer.sendall(_client_hello())
            return peer.recv(1) == b""
        except ConnectionError:
            return True


def _are_gone(broker):
    """Whether nobody has a place any more; looked at often, for the broker notices an end when it comes to it."""
    return any(broker.broker.stats()["connections_open"] == 0 for _ in range(10_000))


def _client_hello():
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


def test_one_address_cannot_take_the_places_of_all(ca):
    with EphemeralBroker(ca=ca, limits={"max_connections_per_address": 2}) as broker:
        files = broker.device("sensor-1")
        with Wire.join(broker.port, files, "sensor-1:a") as a, Wire.join(broker.port, files, "sensor-1:b") as b:
            assert _is_turned_away(broker)
            assert not _is_turned_away(broker, ELSEWHERE)
            a.round_trip()
            b.send(raw_mqtt.packet(0xE0))
            assert b.rest() == []
            broker.wait_event("disconnected", client_id="sensor-1:b")
        record = broker.wait_event("refused", cause="too-many-from-address", stage="tcp")
        assert _are_gone(broker)
        Wire.join(broker.port, files, "sensor-1:c").close()  # a place is free again
        assert record["count"] == 1
        assert "127.0.0.1 has 2 connections" in record["summary"]
        assert "limits.max_connections_per_address" in record["mend"]


def test_who_connects_too_fast_is_closed_before_tls_and_told_of_once(ca):
    with EphemeralBroker(ca=ca, limits={"max_connect_rate_per_address": 1}) as broker:
        assert [_is_turned_away(broker) for _ in range(20)].count(True) >= 15
        assert not _is_turned_away(broker, ELSEWHERE)
        record = broker.wait_event("refused", cause="connecting-too-fast")
        assert record["peer"].startswith("127.0.0.1:")
        told = [r for r in broker.refusals() if r["cause"] == "connecting-too-fast"]
        assert len(told) < 5
        assert broker.broker.stats()["refused"]["connecting-too-fast"] >= 15


def test_a_handshake_that_grows_and_grows_ends(ca, refusal):
    """A Certificate message of 60,000 bytes, in pieces: the library would wait for all of it."""
    with EphemeralBroker(ca=ca, limits={"max_handshake_bytes": 8192}) as broker:
        with socket.create_connection(("127.0.0.1", broker.port), 10) as peer:
            peer.sendall(_client_hello())
            assert peer.recv(5)[:1] == b"\x16"
            message = b"\x0b\x00\xea\x60" + bytes(60_000)
            sent = 0
            try:
                for start in range(0, len(message), 1000):
                    piece = message[start : start + 1000]
                    sent += peer.send(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece)
            except OSError:
                pass
            while _heard(peer):
                pass
        record = refusal(broker, "handshake-too-large", stage="handshake")
        assert "limits.max_handshake_bytes is 8192" in record["summary"]


def test_a_connect_has_a_size_of_its_own(ca, refusal):
    with EphemeralBroker(ca=ca, limits={"max_connect_bytes": 1024}) as broker:
        files = broker.device("sensor-1")
        with Wire.open(broker.port, files) as wire:
            wire.send(raw_mqtt.packet(0x10, bytes(2000)))
            assert wire.rest() == []
        record = refusal(broker, "packet-too-large", stage="connect")
        assert "limits.max_connect_bytes" in record["mend"]
        with Wire.join(broker.port, files, "sensor-1") as wire:  # other packets may be larger
            wire.send(raw_mqtt.subscribe("devices/sensor-1/#"))
            wire.packet()
            wire.send(raw_mqtt.publish("devices/sensor-1/x", bytes(5000)))
            assert len(wire.packet().body) > 5000


def test_a_broker_without_memory_turns_away_before_tls(ca):
    with EphemeralBroker(ca=ca, limits={"max_memory_bytes": 100_000}) as broker:
        assert _is_turned_away(broker)
        record = broker.wait_event("refused", cause="memory-full")
        assert "limits.max_memory_bytes" in record["mend"]


def test_half_a_hello_gives_up_its_place_to_those_who_go_on(ca):
    limits = {"max_handshakes": 5, "handshake_timeout_ms": 60_000}
    with EphemeralBroker(ca=ca, limits=limits) as broker, ExitStack() as stack:
        for _ in range(15):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 10))
            peer.sendall(_client_hello()[:50])
        Wire.join(broker.port, broker.device("sensor-1"), "sensor-1").close()
        assert {record["cause"] for record in broker.refusals()} == {"crowded-out"}


def test_memory_in_use_is_told(ca):
    with EphemeralBroker(ca=ca, limits={"max_memory_bytes": 64 << 20}) as broker:
        empty = broker.broker.stats()
        assert empty["memory_bound_bytes"] == 64 << 20
        with Wire.join(broker.port, broker.device("sensor-1"), "sensor-1") as wire:
            wire.round_trip()
            assert broker.broker.stats()["memory_bytes"] > empty["memory_bytes"] + 1000


def _heard(peer):
    try:
        return peer.recv(4096)
    except OSError:
        return b""
