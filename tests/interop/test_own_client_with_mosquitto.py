"""Our own client, `sealmq pub / sub` and `sealmq.client`, against Debian's mosquitto with mutual TLS."""

from __future__ import annotations

import getpass
import json
import socket
import threading

import pytest

from programs import Program, run_sealmq, sealmq
from sealmq.client.connection import Connection, Identity, Properties
from sealmq.client.target import Target
from sealmq.errors import NotSo
from sealmq.testing import Fault, ThrowawayCA


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def ca():
    return ThrowawayCA()


@pytest.fixture(scope="module")
def client_files(ca, tmp_path_factory):
    return ca.issue_client("sensor-1").write(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def port(ca, tmp_path_factory):
    """The port of a running mosquitto that requires client certificates of `ca`."""
    folder = tmp_path_factory.mktemp("mosquitto")
    server = ca.issue_server().write(folder / "tls")
    config = folder / "mosquitto.conf"
    number = free_port()
    config.write_text(
        f"""user {getpass.getuser()}
listener {number} 127.0.0.1
cafile {server.ca}
certfile {server.cert}
keyfile {server.key}
require_certificate true
use_identity_as_username true
max_packet_size 65536
log_dest stdout
""",
        encoding="utf-8",
    )
    with Program("mosquitto", "-c", config) as running:
        running.expect("mosquitto version .* running")
        yield number


@pytest.fixture
def identity(client_files):
    return Identity.read(ca=client_files.ca, certificate=client_files.cert, key=client_files.key)


@pytest.fixture(params=["5.0", "3.1.1"])
def mqtt_version(request):
    return request.param


@pytest.fixture
def connect(port, identity, mqtt_version):
    def open_connection(client_id: str, **options) -> Connection:
        target = Target.parse(f"mqtts://localhost:{port}")
        return Connection.open(target, identity, client_id=client_id, version=mqtt_version, **options)

    return open_connection


@pytest.fixture
def topic(request):
    return f"test/{request.node.name}".replace("#", "-").replace("+", "-")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_there_and_back(connect, topic, qos):
    with connect("listener") as listener, connect("sender") as sender:
        assert listener.subscribe([topic], qos=2) == [2]
        sender.publish(topic, b"\x00\xff", qos=qos)
        message = listener.next_message(timeout=10)
    assert (message.topic, message.payload, message.qos, message.retain) == (topic, b"\x00\xff", qos, False)


def test_what_was_negotiated(connect, mqtt_version):
    with connect("a") as connection:
        found = connection.connack()
    assert found["tls"]["version"] == "TLS 1.3"
    assert found["tls"]["group"]
    assert found["session_present"] is False
    del mqtt_version


def test_a_session_is_found_again(connect, topic, mqtt_version):
    lasting = {"clean_start": False} | ({"session_expiry": 300} if mqtt_version == "5.0" else {})
    name = f"lasting-{mqtt_version}"
    with connect(name, **lasting) as first:
        first.subscribe([topic], qos=1)
    with connect("sender") as sender:
        for number in range(50):
            sender.publish(topic, str(number).encode(), qos=1)
    with connect(name, **lasting) as again:
        assert again.connack()["session_present"] is True
        got = [int(again.next_message(timeout=10).payload) for _ in range(50)]
    assert got == list(range(50))


def test_a_thousand_messages_in_order(connect, topic):
    with connect("listener") as listener:
        listener.subscribe([topic], qos=1)

        def send() -> None:
            with connect("sender") as sender:
                for number in range(1000):
                    sender.publish(topic, str(number).encode(), qos=1)

        sending = threading.Thread(target=send)
        sending.start()
        got = [int(listener.next_message(timeout=10).payload) for _ in range(1000)]
        sending.join()
    assert got == list(range(1000))


def test_retained_messages_and_unsubscribe(connect, topic):
    with connect("a") as connection:
        connection.publish(topic, b"on", qos=1, retain=True)
        connection.subscribe([topic])
        assert connection.next_message(timeout=10).retain
        connection.unsubscribe([topic])
        connection.publish(topic, b"", qos=1, retain=True)
        assert connection.next_message(timeout=0) is None


def test_properties(port, identity, topic):
    target = Target.parse(f"mqtts://localhost:{port}")
    given = Properties(
        content_type="text/plain",
        response_topic="answer/here",
        correlation=b"\x01\x02",
        expiry=60,
        payload_format=1,
        user=(("a", "1"), ("a", "2")),
    )
    with Connection.open(target, identity, client_id="props") as connection:
        connection.subscribe([topic])
        connection.publish(topic, b"x", properties=given)
        found = connection.next_message(timeout=10).properties
    assert found["content_type"] == "text/plain"
    assert found["response_topic"] == "answer/here"
    assert found["correlation_hex"] == "0102"
    assert 55 <= found["message_expiry"] <= 60
    assert found["payload_format"] == 1
    assert found["user"] == [["a", "1"], ["a", "2"]]


def test_a_newer_connection_ends_the_older_one(connect):
    with connect("twin") as old, connect("twin"), pytest.raises(NotSo) as ended:
        old.next_message(timeout=10)
    assert ended.value.code == "closed"  # mosquitto 2.0.11 does not say 0x8E here


# [MQTT-3.2.2-15]
def test_a_packet_larger_than_the_server_takes_is_not_sent(port, identity, topic):
    target = Target.parse(f"mqtts://localhost:{port}")
    with Connection.open(target, identity, client_id="large") as connection:
        with pytest.raises(NotSo) as refused:
            connection.publish(topic, b"x" * 70_000, qos=1)
        assert "65536" in refused.value.message
        connection.publish(topic, b"small", qos=1)  # the connection is as good as before


@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.OTHER_CA])
def test_a_faulty_client_certificate_is_told_apart(ca, port, fault):
    issued = ca.issue_client("sensor-1", fault=fault)
    bad = Identity(ca=issued.ca_pem, certificate=issued.cert_pem, key=issued.key_pem)
    with pytest.raises(NotSo) as refused:
        Connection.open(Target.parse(f"mqtts://localhost:{port}"), bad, client_id="x")
    assert refused.value.code.startswith("tls-")
    assert refused.value.mend


def test_a_client_without_certificate_is_refused(ca, port):
    with pytest.raises(NotSo) as refused:
        Connection.open(Target.parse(f"mqtts://localhost:{port}"), Identity(ca=ca.root_pem), client_id="x")
    assert refused.value.code.startswith("tls-")


def test_the_server_is_verified_by_name_and_ca(ca, port, identity):
    with pytest.raises(NotSo) as refused:
        Connection.open(
            Target.parse(f"mqtts://localhost:{port}"), identity, client_id="x", server_name="broker.example"
        )
    assert "broker.example" in refused.value.message
    other = Identity(ca=ThrowawayCA().root_pem, certificate=identity.certificate, key=identity.key)
    with pytest.raises(NotSo) as refused:
        Connection.open(Target.parse(f"mqtts://localhost:{port}"), other, client_id="x")
    assert refused.value.code == "tls-untrusted-issuer"
    del ca


@pytest.mark.parametrize("flag", ["5", "311"])
def test_the_command_line(port, client_files, topic, flag):
    who = ["--cafile", client_files.ca, "--cert", client_files.cert, "--key", client_files.key, "-V", flag]
    url = f"mqtts://localhost:{port}"
    with sealmq("sub", url, "-t", f"{topic}/#", *who, "-q", "2", "-C", "2", "--json") as listener:
        listener.expect("^subscribed ")
        for qos in ("1", "2"):
            done = run_sealmq("pub", url, "-t", f"{topic}/x", "-m", "21.5", "-q", qos, *who)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert listener.wait() == 0
        found = [json.loads(line) for line in listener.out.splitlines()]
    assert [(record["payload"], record["qos"]) for record in found] == [("21.5", 1), ("21.5", 2)]


def test_a_mosquitto_without_certificates_of_ours_is_refused(tmp_path, identity):
    """A server of another CA: nothing of MQTT leaves, and the message says which side refused."""
    server = ThrowawayCA(fleet="elsewhere").issue_server().write(tmp_path / "tls")
    number = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"user {getpass.getuser()}\nlistener {number} 127.0.0.1\ncafile {server.ca}\ncertfile {server.cert}\n"
        f"keyfile {server.key}\nrequire_certificate true\nlog_dest stdout\n",
        encoding="utf-8",
    )
    with Program("mosquitto", "-c", config) as running:
        running.expect("mosquitto version .* running")
        with pytest.raises(NotSo) as refused:
            Connection.open(Target.parse(f"mqtts://localhost:{number}"), identity, client_id="x")
        running.expect("unknown ca")
    assert refused.value.code == "tls-untrusted-issuer"
