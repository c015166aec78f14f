"""Owns the causes of a refusal behind the TLS handshake: whom a certificate names, and what is wrong with a CONNECT.

Refuses to know how certificates are verified; that is in `test_refusals`.
"""

import socket
from dataclasses import replace

import pytest
import raw_mqtt
from cryptography import x509
from raw_mqtt import CONNACK, V5, V311, Wire
from stock_clients import mosquitto_pub, run

from sealmq.pki import profiles, signing
from sealmq.testing import EphemeralBroker, Fault

# --- who the certificate stands for -------------------------------------------------------------------------------


def test_a_device_of_another_fleet(broker, ca, refusal, tmp_path):
    files = ca.issue_client("sensor-1", fault=Fault.OTHER_FLEET).write(tmp_path / "client")
    with Wire.open(broker.port, files) as wire:
        wire.send(raw_mqtt.connect("sensor-1"))
        connack, *rest = wire.rest()
    assert (connack.kind, connack.body[1], rest) == (CONNACK, 0x87, [])
    record = refusal(broker, "certificate-foreign-fleet", stage="certificate")
    assert connack.reason_string(2) == record["summary"]
    assert "spiffe://fleet-elsewhere/device/sensor-1" in record["summary"]
    assert "spiffe://fleet-test/device/<id>" in record["mend"]
    assert record["certificate"]["device"] is None
    assert record["certificate"]["subject"] == "CN=sensor-1"
    assert record["hello"]["versions"]


def test_a_device_of_another_fleet_with_mqtt_3(broker, ca, refusal, tmp_path):
    files = ca.issue_client("sensor-1", fault=Fault.OTHER_FLEET).write(tmp_path / "client")
    ended = mosquitto_pub(broker.port, "-V", "mqttv311", files=files)
    assert (ended.status, "not authorised" in ended.text) == (5, True), ended.text
    refusal(broker, "certificate-foreign-fleet", stage="certificate")


@pytest.mark.parametrize("fault", [Fault.COMMON_NAME_ONLY, Fault.NO_DEVICE_URI])
def test_the_common_name_stands_in_for_a_missing_uri(broker, ca, tmp_path, fault):
    files = ca.issue_client("sensor-1", fault=fault).write(tmp_path / "client")
    assert mosquitto_pub(broker.port, "-V", "5", files=files).status == 0
    assert broker.wait_event("connected")["device"] == "sensor-1"
    assert broker.refusals() == []


def test_the_common_name_does_not_overrule_the_uri(broker, ca, refusal, tmp_path):
    uri = [x509.UniformResourceIdentifier("spiffe://fleet-test/device/sensor-2")]
    files = _odd(ca, tmp_path, common_name="sensor-1", names=uri)
    with Wire.open(broker.port, files) as wire:
        wire.send(raw_mqtt.connect("sensor-1"))
        assert wire.packet().body[1] == 0x85
    assert refusal(broker, "client-id-mismatch", stage="connect")["certificate"]["device"] == "sensor-2"


def test_a_certificate_without_identity(broker, ca, refusal, tmp_path):
    files = ca.issue_client("sensor-1", fault=Fault.NO_IDENTITY).write(tmp_path / "client")
    assert mosquitto_pub(broker.port, "-V", "5", files=files).status == 0x87
    record = refusal(broker, "certificate-without-identity", stage="certificate")
    assert record["certificate"]["subject"] == ""


@pytest.mark.parametrize("name", ["+", "a/b", "#", "anonymous", "a:b", "gerät", "x\x00", "../x"])
def test_an_identity_that_would_mean_more_than_itself(broker, ca, refusal, tmp_path, name):
    files = _odd(ca, tmp_path, common_name=name, names=[])
    with Wire.open(broker.port, files) as wire:
        wire.send(raw_mqtt.connect(name.replace("\x00", "")))
        assert [answer.body[1] for answer in wire.rest()] == [0x87]
    record = refusal(broker, "certificate-unfit-identity", stage="certificate")
    assert "cannot be a device id" in record["summary"]
    assert record["summary"].isprintable()
    assert "letters, digits" in record["mend"]


def test_an_unfit_uri_does_not_fall_back_to_the_common_name(broker, ca, refusal, tmp_path):
    uri = [x509.UniformResourceIdentifier("spiffe://fleet-test/device/+")]
    files = _odd(ca, tmp_path, common_name="sensor-1", names=uri)
    with Wire.open(broker.port, files) as wire:
        wire.send(raw_mqtt.connect("sensor-1"))
        assert [answer.body[1] for answer in wire.rest()] == [0x87]
    refusal(broker, "certificate-unfit-identity", stage="certificate")


# --- the client id ------------------------------------------------------------------------------------------------


# [MQTT-3.1.3-8], [MQTT-3.2.2-7], [MQTT-4.13.2-1]: the answer, and then the end
def test_client_id_mismatch(broker, refusal):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect("sensor-2"))
        connack, *rest = wire.rest()
    assert (connack.kind, connack.body[1], rest) == (CONNACK, 0x85, [])
    record = refusal(broker, "client-id-mismatch", stage="connect")
    assert connack.reason_string(2) == record["summary"]
    assert record["summary"] == "client identifier sensor-2 does not belong to device sensor-1"
    assert record["client_id"] == "sensor-2"
    assert record["certificate"]["device"] == "sensor-1"
    assert record["hello"]["ciphers"]
    assert "sensor-1:<anything>" in record["mend"]


# [MQTT-3.1.3-9] of 3.1.1
def test_client_id_mismatch_tells_mosquitto_pub(broker, refusal):
    files = broker.device("sensor-1")
    ended = mosquitto_pub(broker.port, "-V", "mqttv311", files=files, client_id="sensor-2")
    assert (ended.status, "identifier rejected" in ended.text) == (2, True), ended.text  # 3.1.1 table 3.1
    refusal(broker, "client-id-mismatch", stage="connect")


# [MQTT-3.1.4-6], [MQTT-3.2.2-6], [MQTT-3.2.2-7]; [MQTT-3.1.4-5], [MQTT-3.2.2-4], [MQTT-3.2.2-5] of 3.1.1
@pytest.mark.parametrize("version", [V5, V311])
def test_what_follows_a_refused_connect_is_not_carried_out(broker, refusal, version):
    with Wire.join(broker.port, broker.device("sensor-3"), "sensor-3") as witness:
        witness.send(raw_mqtt.subscribe("shared/#"))
        assert witness.packet().body[-1] == 0
        with Wire.open(broker.port, broker.device("sensor-1")) as wire:
            publish = raw_mqtt.publish("shared/x", b"behind a refusal", version=version)
            wire.send(raw_mqtt.connect("sensor-2", version=version) + publish)
            connack, *rest = wire.rest()  # to the end: the broker closes
        assert (connack.kind, connack.body[0], rest) == (CONNACK, 0, [])
        assert connack.body[1] == (2 if version == V311 else 0x85)
        refusal(broker, "client-id-mismatch", stage="connect")
        witness.round_trip()


@pytest.mark.parametrize("client_id", ["sensor-10", "sensor-1/x", "sensor-", "SENSOR-1", ":sensor-1"])
def test_a_client_id_that_only_looks_alike(broker, refusal, client_id):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect(client_id))
        assert wire.packet().body[1] == 0x85
    refusal(broker, "client-id-mismatch", stage="connect")


@pytest.mark.parametrize("client_id", ["sensor-1", "sensor-1:", "sensor-1:a:b"])
def test_client_ids_of_a_device(broker, client_id):
    Wire.join(broker.port, broker.device("sensor-1"), client_id).close()
    assert broker.wait_event("connected")["client_id"] == client_id


def test_an_empty_client_id_gets_one_of_the_device(broker):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect(""))
        assert wire.packet().body[1] == 0
    assert broker.wait_event("connected")["client_id"].startswith("sensor-1:")


@pytest.mark.parametrize("client_id", ["x\nrefused 10.0.0.1", "x\r\n\x1b[2Jx", "x\u2028x", "x\u202ex", "x" * 60_000])
def test_a_client_id_cannot_forge_a_record(broker, client_id):
    """What a peer chose appears in the log as text, on one line, and not without end."""
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect(client_id))
        assert wire.packet().body[1] == 0x85
    broker.wait_event("refused", cause="client-id-mismatch")
    lines = broker.log_text.splitlines()
    assert sum("client-id-mismatch" in line for line in lines) == 1
    assert all(line.isprintable() for line in lines)
    assert all(line[:2] == "20" or line.startswith("    ") for line in lines), lines
    assert max(map(len, lines)) < 2_000


def test_a_session_without_a_name_cannot_be_kept_in_mqtt_3(broker, refusal):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect("", version=V311, flags=0))
        assert [answer.body for answer in wire.rest()] == [b"\x00\x02"]  # [MQTT-3.1.3-8]
    refusal(broker, "client-id-missing", stage="connect")


# --- CONNECT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V311, V5])
def test_will_not_authorized(broker, refusal, version):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.with_will("sensor-1", "devices/sensor-2/state", version=version))
        connack, *rest = wire.rest()
    assert (connack.kind, connack.body[1], rest) == (CONNACK, 5 if version == V311 else 0x87, [])
    record = refusal(broker, "will-not-authorized", stage="connect")
    assert "devices/sensor-2/state" in record["summary"]
    assert "rule file" in record["mend"]


# [MQTT-3.1.2-2] of 3.1.1
def test_a_version_before_3_1_1(broker, refusal):
    ended = mosquitto_pub(broker.port, "-V", "mqttv31", files=broker.device("sensor-1"))
    assert (ended.status, "unacceptable protocol version" in ended.text) == (1, True), ended.text
    record = refusal(broker, "unsupported-protocol-version", stage="connect")
    assert record["mend"] == "use MQTT 3.1.1 or 5.0"
    assert record["certificate"]["device"] == "sensor-1"


# [MQTT-3.1.2-2] of both
def test_a_version_after_5(broker, refusal):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect("sensor-1", version=6))
        assert [answer.body for answer in wire.rest()] == [b"\x00\x01"]
    assert "protocol level 6" in refusal(broker, "unsupported-protocol-version", stage="connect")["summary"]


def test_http_over_tls_on_the_mqtt_port(broker, refusal):
    files = broker.device("sensor-1")
    shown = ("--cacert", files.ca, "--cert", files.cert, "--key", files.key)
    ended = run("curl", "-sS", "--max-time", "10", "--no-alpn", *shown, f"https://127.0.0.1:{broker.port}/")
    assert ended.status != 0
    record = refusal(broker, "not-connect", stage="connect")
    assert record["summary"] == "first packet is not CONNECT"
    assert record["hello"]["versions"]


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (raw_mqtt.PINGREQ, "not-connect"),
        (raw_mqtt.publish("devices/sensor-1/x", b"early"), "not-connect"),  # [MQTT-3.1.0-1]
        (raw_mqtt.subscribe("devices/sensor-1/#"), "not-connect"),
        (raw_mqtt.packet(0x20, b"\x00\x00\x00"), "not-connect"),
        (raw_mqtt.packet(0x00), "not-connect"),
        (raw_mqtt.connect("sensor-1", name="MQTX"), "bad-protocol-name"),  # [MQTT-3.1.2-1]
        (raw_mqtt.connect("sensor-1", flags=0x03), "malformed-packet"),  # [MQTT-3.1.2-3]
        (raw_mqtt.connect("sensor-1", flags=0x1A), "malformed-packet"),  # will QoS 3 without a will
        (raw_mqtt.connect(b"sensor-\xff"), "bad-utf8"),  # [MQTT-1.5.4-1]
        (raw_mqtt.connect(b"sensor\x00-1"), "bad-utf8"),  # [MQTT-1.5.4-2]
        (raw_mqtt.connect("sensor-1", tail=b"more"), "malformed-packet"),
        (b"\x11" + raw_mqtt.connect("sensor-1")[1:], "malformed-packet"),  # [MQTT-2.1.3-1]
        (raw_mqtt.connect("sensor-1", properties=b"\x7f\x00"), "malformed-packet"),
        (raw_mqtt.connect("sensor-1", properties=b"\x21\x00\x00"), "protocol-error"),  # receive maximum 0
        (raw_mqtt.packet(0x10, b"\x00\x04MQ"), "malformed-packet"),
        (b"\x10\xff\xff\xff\xff\x7f", "bad-remaining-length"),  # [MQTT-1.5.5-1]
        (b"\x10\xff\xff\xff\x7f", "packet-too-large"),
    ],
)
# [MQTT-3.1.2-1], [MQTT-3.1.2-3], [MQTT-3.1.4-1] of both: without CONNACK
def test_first_packets_that_end_the_connection(broker, refusal, sent, cause):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(sent)
        assert wire.rest() == []
    record = refusal(broker, cause, stage="connect")
    assert record["certificate"]["device"] == "sensor-1"


# --- nothing comes ------------------------------------------------------------------------------------------------


def test_closed_before_connect(broker, refusal):
    ended = run(*_s_client(broker), stdin=b"")  # ends with its input
    assert ended.status == 0
    record = refusal(broker, "closed-before-connect", stage="connect")
    assert "before it sent a whole CONNECT" in record["summary"]
    assert record["certificate"]["device"] == "sensor-1"


def test_half_a_connect_and_gone(broker, refusal):
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(raw_mqtt.connect("sensor-1")[:9])
    refusal(broker, "closed-before-connect", stage="connect")


@pytest.mark.parametrize("sent", [b"", raw_mqtt.connect("sensor-1")[:9]], ids=["silent", "half"])
def test_connect_stalled(ca, refusal, sent):
    with EphemeralBroker(ca=ca, limits={"connect_timeout_ms": 300}) as broker:
        with Wire.open(broker.port, broker.device("sensor-1")) as wire:
            wire.send(sent)
            assert wire.rest() == []
        record = refusal(broker, "connect-stalled", stage="connect")
        assert "limits.connect_timeout_ms" in record["summary"]
        assert record["certificate"]["device"] == "sensor-1"


def test_too_many_connections(ca, refusal):
    with EphemeralBroker(ca=ca, limits={"max_connections": 2}) as broker:
        files = broker.device("sensor-1")
        with Wire.join(broker.port, files, "sensor-1:a") as a, Wire.join(broker.port, files, "sensor-1:b") as b:
            with socket.create_connection(("127.0.0.1", broker.port), 10) as third:
                assert third.recv(100) == b""
            broker.wait_event("refused", cause="too-many-connections")
            a.round_trip()
            b.send(raw_mqtt.packet(0xE0))
            assert b.rest() == []
            broker.wait_event("disconnected", client_id="sensor-1:b")
        record = refusal(broker, "too-many-connections", stage="tcp")  # a place is free again
        assert "limits.max_connections" in record["mend"]


@pytest.mark.parametrize("request_line", [b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", b"NONSENSE\r\n\r\n"])
def test_an_upgrade_that_is_none(ca, request_line):
    with EphemeralBroker(ca=ca, wss=True) as broker:
        with Wire.open(broker.port_of("wss"), broker.device("sensor-1")) as wire:
            wire.send(request_line)
            answer = wire.socket.recv(4096)
        assert answer.startswith(b"HTTP/1.1 4")
        record = broker.wait_event("refused")
        assert record["stage"] == "http"
        assert record["listener"] == f"wss 127.0.0.1:{broker.port_of('wss')}"
        assert record["mend"]


def test_a_storm_of_refusals_leaves_the_broker_as_it_was(broker):
    """A hundred plaintext clients at once: each has its record, nobody else notices."""
    peers = []
    with Wire.join(broker.port, broker.device("sensor-1"), "sensor-1") as wire:
        try:
            for _ in range(100):
                peers.append(socket.create_connection(("127.0.0.1", broker.port), 10))
                peers[-1].sendall(raw_mqtt.connect("sensor-1"))
            wire.round_trip()
            assert [peer.recv(100) for peer in peers] == [b""] * 100
        finally:
            for peer in peers:
                peer.close()
        wire.round_trip()
    records = broker.refusals()
    assert {record["cause"] for record in records} == {"plaintext-mqtt"}
    assert len({record["peer"] for record in records}) == len(records) == 100


# --- tools --------------------------------------------------------------------------------------------------------


def _s_client(broker):
    files = broker.device("sensor-1")
    end = ("-connect", f"127.0.0.1:{broker.port}")
    return ("openssl", "s_client", *end, "-CAfile", files.ca, "-cert", files.cert, "-key", files.key)


def _odd(ca, tmp_path, *, common_name, names):
    """A certificate of the trusted CA with a name that `issue_client` would refuse."""
    good = ca.issue_client("sensor-1")
    key = signing.new_key()
    leaf = signing.sign_leaf(
        profiles.device_profile("default"),
        issuer=ca._devices,
        public_key=key.public_key(),
        common_name=common_name,
        names=names,
        now=signing.utc_now(),
    )
    odd = replace(good, cert_pem=signing.certificate_pem(leaf), key_pem=signing.key_pem(key))
    return odd.write(tmp_path / "odd")
