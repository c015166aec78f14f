"""Owns `[dangerous]`: what each setting lets in, that it lets in no more than that, and where it is named.

Refuses to know the rules it sets aside.
"""

import json
import socket

import pytest
import raw_mqtt
from raw_mqtt import DISCONNECT, Wire
from stock_clients import mosquitto_pub

from programs import run_sealmq
from sealmq.errors import ConfigError
from sealmq.testing import EphemeralBroker, Fault

OPEN_DOOR = {"plaintext": "127.0.0.1:0", "anonymous": True}
FOR_ANONYMOUS = """
[[rule]]
name = "visitors"
who = "anonymous"
actions = ["publish", "subscribe"]
topics = ["lobby/{client}"]

[[rule]]
name = "devices"
who = "*"
actions = ["publish", "subscribe"]
topics = ["devices/{id}/#"]
"""


def plain(broker):
    """A connection without TLS."""
    return Wire(socket.create_connection(("127.0.0.1", broker.port_of("plaintext")), 10))


def answers(wire, client_id="anonymous"):
    """The return code in CONNACK."""
    wire.send(raw_mqtt.connect(client_id))
    return wire.packet().body[1]


def granted(wire, topic):
    wire.send(raw_mqtt.subscribe(topic))
    return wire.packet().body[-1]


# --- off unless asked ---------------------------------------------------------------------------------------------


def test_nothing_dangerous_is_on_by_default(broker):
    assert broker._service.status()["dangerous"] == []
    assert "DANGEROUS" not in broker.log_text
    assert [kind for kind, _ in broker.broker.addresses()] == ["mqtts"]


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883", "localhost.example:1883", ":1883"])
def test_plaintext_serves_this_machine_only(ca, address):
    with pytest.raises(ConfigError) as caught:
        EphemeralBroker(ca=ca, dangerous={"plaintext": address, "anonymous": True}).__enter__()
    assert "dangerous.plaintext" in caught.value.message
    assert caught.value.mend


def test_plaintext_without_anonymous_is_refused_at_the_start(ca):
    with pytest.raises(ConfigError, match=r"needs dangerous\.anonymous = true") as caught:
        EphemeralBroker(ca=ca, dangerous={"plaintext": "127.0.0.1:0"}).__enter__()
    assert "anonymous = true" in caught.value.mend


def test_the_environment_is_no_door(tmp_path, monkeypatch):
    monkeypatch.setenv("SEALMQ_DANGEROUS_ALLOW_ALL", "true")
    done = run_sealmq("--data", tmp_path / "data", "config", "explain")
    assert (done.returncode, "SEALMQ_DANGEROUS_ALLOW_ALL" in done.stderr) == (2, True)


# --- each of them -------------------------------------------------------------------------------------------------


def test_plaintext_and_anonymous(start):
    broker = start(dangerous=OPEN_DOOR, rules=FOR_ANONYMOUS)
    with plain(broker) as wire:
        assert answers(wire, "anonymous:7") == 0
        assert granted(wire, "lobby/anonymous:7") == 0
        assert granted(wire, "lobby/+") == 0x87
        assert granted(wire, "devices/anonymous/x") == 0x87
        assert granted(wire, "devices/sensor-1/x") == 0x87
    event = broker.wait_event("connected")
    assert (event["device"], event["tls"]) == (None, None)
    assert event["listener"] == f"plaintext 127.0.0.1:{broker.port_of('plaintext')}"


def test_anonymous_has_no_rights_of_its_own(start):
    broker = start(dangerous=OPEN_DOOR)
    with plain(broker) as wire:
        assert answers(wire) == 0
        assert granted(wire, "shared/x") == 0x87  # "*" is for devices
        assert granted(wire, "devices/anonymous/x") == 0x87


@pytest.mark.parametrize("client_id", ["sensor-1", "anonymousx", "witness:1"])
def test_anonymous_cannot_use_the_client_id_of_a_device(start, join, client_id):
    broker = start(dangerous=OPEN_DOOR)
    device = join("sensor-1", to=broker)
    with plain(broker) as wire:
        assert answers(wire, client_id) == 0x85
    record = broker.wait_event("refused", cause="client-id-mismatch")
    assert (record["client_id"], record["certificate"], record["hello"]) == (client_id, None, None)
    device.round_trip()


def test_anonymous_over_tls(start):
    broker = start(dangerous={"anonymous": True}, rules=FOR_ANONYMOUS)
    files = broker.device("sensor-1")
    ended = mosquitto_pub(broker.port, "-V", "5", ca=files.ca, client_id="anonymous", topic="lobby/anonymous")
    assert ended.status == 0, ended.text
    assert broker.wait_event("connected", client_id="anonymous")["tls"]["version"] == "TLS 1.3"
    Wire.join(broker.port, files, "sensor-1").close()  # who shows a certificate is who it says
    assert broker.wait_event("connected", client_id="sensor-1")["device"] == "sensor-1"


def test_anonymous_does_not_excuse_a_bad_certificate(start, ca, tmp_path):
    broker = start(dangerous={"anonymous": True})
    files = ca.issue_client("sensor-1", fault=Fault.SELF_SIGNED).write(tmp_path / "client")
    assert mosquitto_pub(broker.port, files=files).status != 0
    broker.wait_event("refused", cause="untrusted-issuer")


def test_any_client_id(start):
    broker = start(dangerous={"any_client_id": True})
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        assert answers(wire, "someone-else") == 0
        assert granted(wire, "devices/sensor-1/#") == 0  # rules still go by the certificate
        assert granted(wire, "devices/someone-else/#") == 0x87
        thief = Wire.open(broker.port, broker.device("sensor-2"))
        with thief:
            assert answers(thief, "someone-else") == 0
            goodbye = wire.packet()
            assert (goodbye.kind, goodbye.body[0]) == (DISCONNECT, 0x8E)
            thief.round_trip()


def test_any_client_id_does_not_give_away_the_session(start):
    """Another certificate under the same client id begins anew: no messages or subscriptions of the first are its."""
    broker = start(dangerous={"any_client_id": True}, rules=FOR_ANONYMOUS.replace("anonymous", "sensor-1"))
    keep = raw_mqtt.connect("box", flags=0, properties=b"\x11\x00\x00\x02\x58")
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        wire.send(keep)
        assert wire.packet().body[:2] == b"\x00\x00"
        assert granted(wire, "devices/sensor-1/#") == 0
    broker.wait_event("disconnected")
    with Wire.open(broker.port, broker.device("sensor-2")) as wire:
        wire.send(keep)
        assert wire.packet().body[:2] == b"\x00\x00"  # no session present


def test_allow_all(start, join):
    broker = start(dangerous={"allow_all": True})
    reader, writer = join("sensor-1", to=broker), join("sensor-2", to=broker)
    assert granted(reader, "#") == 0
    writer.send(raw_mqtt.publish("devices/sensor-1/x", b"anything"))
    assert reader.packet().body.endswith(b"anything")
    with Wire.open(broker.port, broker.device("sensor-1")) as wire:
        assert answers(wire, "sensor-2") == 0x85  # who is who still counts


# --- named where people look --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dangerous",
    [OPEN_DOOR, {"anonymous": True}, {"any_client_id": True}, {"allow_all": True}],
    ids=["plaintext", "anonymous", "any_client_id", "allow_all"],
)
def test_what_is_dangerous_is_named_at_start_and_in_status(start, dangerous):
    broker = start(dangerous=dangerous)
    status = run_sealmq("--data", broker.folder.path, "status")
    assert status.returncode == 0, status.stderr
    named = {entry["setting"] for entry in broker._service.status()["dangerous"]}
    assert named == set(dangerous)
    for setting in dangerous:
        assert f"DANGEROUS {setting} = " in broker.log_text
        assert f"DANGEROUS {setting} = " in status.stdout


def test_what_is_dangerous_is_named_in_config_explain(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "sealmq.toml").write_text('[dangerous]\nplaintext = "127.0.0.1:1883"\nanonymous = true\nallow_all = true\n')
    done = run_sealmq("--data", data, "config", "explain")
    assert done.returncode == 0, done.stderr
    for setting in ("plaintext", "anonymous", "allow_all"):
        assert f"\nDANGEROUS {setting} = " in done.stdout
    assert "DANGEROUS any_client_id" not in done.stdout
    rows = json.loads(run_sealmq("--json", "--data", data, "config", "explain").stdout)
    in_force = [row["setting"] for row in rows if row["danger"]]
    assert in_force == ["dangerous.plaintext", "dangerous.anonymous", "dangerous.allow_all"]
