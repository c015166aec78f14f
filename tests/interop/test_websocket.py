"""MQTT over WebSocket over TLS: paho's transport, curl for the upgrade, our own client; and what is refused."""

from __future__ import annotations

import json
import re
import socket
import ssl

import pytest

from programs import Program, run_sealmq, sealmq
from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.errors import SealmqError

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3, and what a server must make of it:
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.fixture
def base(device):
    return f"devices/{device}"


@pytest.fixture
def ask(broker, files):
    """`ask(path, HEADER=VALUE...)` is a curl that sends an upgrade request and prints the whole answer."""

    def request(path: str, *, method: str = "GET", identity: bool = True, **headers: str) -> Program:
        given = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        given |= {"Sec-WebSocket-Key": KEY, "Sec-WebSocket-Protocol": "mqtt"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        words = [word for name, value in given.items() for word in ("-H", f"{name}: {value}")]
        who = ["--cert", files.cert, "--key", files.key] if identity else []
        url = f"https://localhost:{broker.port_of('wss')}{path}"
        return Program("curl", "-sS", "--http1.1", "-iN", "-X", method, "--cacert", files.ca, *who, *words, url)

    return request


def test_paho_over_websocket(paho, version, base):
    listener = paho("sub", version=version, transport="websockets")
    listener.subscribe(f"{base}/#", qos=2)
    sender = paho("pub", version=version, transport="websockets")
    for qos in (0, 1, 2):
        sender.publish(f"{base}/x", f"q{qos}", qos=qos)
    assert [(message.payload, message.qos) for message in (listener.next() for _ in range(3))] == [
        (b"q0", 0),
        (b"q1", 1),
        (b"q2", 2),
    ]


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 300_000])  # where the length of a frame changes its form
def test_payloads_of_every_frame_length(paho, base, size):
    client = paho("a", transport="websockets")
    client.subscribe(f"{base}/#", qos=1)
    client.publish(f"{base}/x", b"\xa5" * size, qos=1)
    assert client.next().payload == b"\xa5" * size


def test_websocket_and_tcp_share_one_broker(broker, device, paho, base):
    there, here = paho("ws", transport="websockets"), paho("tcp")
    there.subscribe(f"{base}/#", qos=1)
    here.publish(f"{base}/x", "m", qos=1)
    assert there.next().payload == b"m"
    assert broker.wait_event("connected", client_id=f"{device}:ws")["listener"].startswith("wss ")
    assert broker.wait_event("connected", client_id=f"{device}:tcp")["listener"].startswith("mqtts ")


def test_a_ping_is_answered_at_once(broker, device, files):
    """Also where nothing else happens: libraries ping to see who is still there (RFC 6455 section 5.5.2)."""
    trust = ssl.create_default_context(cafile=files.ca)
    trust.load_cert_chain(files.cert, files.key)
    raw = socket.create_connection(("127.0.0.1", broker.port_of("wss")), timeout=30)
    with trust.wrap_socket(raw, server_hostname="localhost") as connection:

        def send(opcode: int, payload: bytes) -> None:
            connection.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

        connection.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY.encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 101")
        send(9, b"before")
        assert connection.recv(100) == b"\x8a\x06before"
        body = b"\0\4MQTT\4\2\0\x3c" + len(device).to_bytes(2, "big") + device.encode()
        send(2, bytes([0x10, len(body)]) + body)
        assert connection.recv(100) == b"\x82\x04\x20\x02\0\0"
        for payload in (b"1", b"2", b"3"):
            send(9, payload)
            assert connection.recv(100) == b"\x8a\x01" + payload


def test_a_takeover_from_tcp_to_websocket(paho, base):
    old = paho("twin", clean=False, SessionExpiryInterval=60)
    old.subscribe(f"{base}/#", qos=1)
    new = paho("twin", clean=False, SessionExpiryInterval=60, transport="websockets")
    assert old.gone().value == 0x8E
    assert new.session_present


def test_the_upgrade_as_curl_sees_it(ask):
    with ask("/mqtt") as curl:
        curl.expect("^HTTP/1.1 101 ")
        curl.expect(f"^Sec-WebSocket-Accept: {re.escape(ACCEPT)}")
        curl.expect("^Sec-WebSocket-Protocol: mqtt")


def test_one_of_several_subprotocols_is_enough(ask):
    with ask("/mqtt", Sec_WebSocket_Protocol="mqttv3.1, mqtt") as curl:
        curl.expect("^Sec-WebSocket-Protocol: mqtt\r?$")


@pytest.mark.parametrize(
    ("path", "headers", "status", "cause"),
    [
        ("/other", {}, "404", "http-path"),
        ("/mqtt", {"Sec_WebSocket_Protocol": "mqttv3.1"}, "400", "websocket-subprotocol"),
        ("/mqtt", {"Sec_WebSocket_Version": "8"}, "426", "websocket-version"),
        ("/mqtt", {"Upgrade": "h2c"}, "426", "websocket-missing"),
        ("/mqtt", {"method": "POST"}, "405", "http-method"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(broker, ask, path, headers, status, cause):
    with ask(path, **headers) as curl:
        assert curl.wait() == 0
        answer = curl.out
    assert answer.startswith(f"HTTP/1.1 {status} ")
    refused = broker.wait_event("refused", cause=cause)
    assert refused["stage"] == "http"
    assert refused["listener"].startswith("wss ")
    assert refused["summary"] in answer
    assert f"mend: {refused['mend']}" in answer


def test_a_browser_without_certificate_gets_no_answer(broker, ask):
    before = len(broker.refusals())
    with ask("/mqtt", identity=False) as curl:
        assert curl.wait() != 0
        assert "HTTP" not in curl.out
    refused = broker.wait_event("refused", cause="no-client-certificate")
    assert refused["listener"].startswith("wss ")
    assert len(broker.refusals()) == before + 1


def test_mqtt_without_websocket_on_this_port_is_named(broker, device, files):
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    with pytest.raises(SealmqError):
        Connection.open(Target.parse(f"mqtts://localhost:{broker.port_of('wss')}"), identity, client_id=device)
    refused = broker.wait_event("refused", cause="no-common-alpn")
    assert refused["listener"].startswith("wss ")


@pytest.mark.parametrize("mqtt_version", ["5.0", "3.1.1"])
def test_our_own_client(broker, device, files, base, mqtt_version):
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    target = Target.parse(f"wss://localhost:{broker.port_of('wss')}/mqtt")
    with Connection.open(target, identity, client_id=device, version=mqtt_version) as connection:
        connection.subscribe([f"{base}/#"], qos=2)
        for payload in (b"", b"x" * 200, b"y" * 70_000):
            connection.publish(f"{base}/x", payload, qos=2)
            assert connection.next_message(timeout=10).payload == payload


def test_our_own_client_names_a_wrong_path(broker, device, files):
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    with pytest.raises(SealmqError) as refused:
        Connection.open(Target.parse(f"wss://localhost:{broker.port_of('wss')}/elsewhere"), identity, client_id=device)
    assert refused.value.exit_status == 1
    assert "404" in refused.value.message
    assert refused.value.mend


def test_the_command_line(broker, device, base):
    url, data = f"wss://localhost:{broker.port_of('wss')}", ["--data", broker.folder.path]
    broker.device(device)
    with sealmq("sub", url, "-t", f"{base}/#", "--as", device, *data, "-C", "1", "--json") as listener:
        listener.expect("^subscribed ")
        done = run_sealmq("pub", f"{url}/mqtt", "-t", f"{base}/x", "-m", "m", "-q", "1", "--as", device, *data)
        assert (done.returncode, done.stderr) == (0, "")
        assert listener.wait() == 0
        assert json.loads(listener.out)["payload"] == "m"
