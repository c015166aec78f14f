"""paho-mqtt 2, as its users write it: callbacks, its own TLS options, reconnecting by itself."""

from __future__ import annotations

import queue
import socket
import ssl
import threading

import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
import paho.mqtt.subscribe as subscribe
import pytest
from stock import V5, Paho, properties

from programs import PATIENCE
from sealmq.testing import ThrowawayCA
from sealmq.tls import client_context


@pytest.fixture
def base(device):
    return f"devices/{device}"


@pytest.mark.parametrize("qos", [0, 1, 2])
# [MQTT-4.2.0-1]; [MQTT-7.0.0-2], [MQTT-7.1.1-1] of 3.1.1: over TLS, with a client that knows nothing of this broker
def test_publish_and_subscribe(paho, version, base, qos):
    listener = paho("sub", version=version)
    assert listener.subscribe(f"{base}/#", qos=2) == 2
    assert not listener.session_present
    paho("pub", version=version).publish(f"{base}/x", b"\x00\xff", qos=qos)
    message = listener.next()
    assert (message.topic, message.payload, message.qos, message.retain) == (f"{base}/x", b"\x00\xff", qos, False)


def test_the_options_of_its_documentation_are_enough(broker, files, device, version):
    """`tls_set` with three file names and a connect: no option of ours, and the host name is checked."""
    connected, answered = queue.Queue(), queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device, protocol=version)
    client.tls_set(str(files.ca), str(files.cert), str(files.key))
    client.on_connect = lambda _client, _user, _flags, code, _properties: connected.put(code)
    client.on_message = lambda _client, _user, message: answered.put(message.payload)
    client.connect("localhost", broker.port)
    client.loop_start()
    try:
        assert not connected.get(timeout=PATIENCE).is_failure
        client.subscribe(f"devices/{device}/#")
        client.publish(f"devices/{device}/x", "hello", qos=1).wait_for_publish(PATIENCE)
        assert answered.get(timeout=PATIENCE) == b"hello"
    finally:
        client.disconnect()
        client.loop_stop()


def test_publish_single_and_subscribe_simple(broker, files, device, base):
    tls = {"ca_certs": str(files.ca), "certfile": str(files.cert), "keyfile": str(files.key)}
    reach = {"hostname": broker.host, "port": broker.port, "tls": tls}
    publish.single(f"{base}/state", "on", qos=1, retain=True, client_id=f"{device}:one", **reach)
    message = subscribe.simple(f"{base}/#", retained=True, client_id=f"{device}:two", **reach)
    assert (message.topic, message.payload, message.retain) == (f"{base}/state", b"on", True)


def test_it_reconnects_by_itself_and_finds_its_session(broker, files, device, base, version):
    connected, received = queue.Queue(), queue.Queue()
    clean = {"clean_session": False} if version != V5 else {}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device, protocol=version, **clean)
    client.reconnect_delay_set(1, 1)
    client.tls_set_context(client_context(ca=files.ca, certificate=files.cert, key=files.key))
    client.on_connect = lambda _c, _u, flags, _code, _p: connected.put(flags.session_present)
    client.on_message = lambda _c, _u, message: received.put(message.payload)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    start = {} if version != V5 else {"clean_start": False, "properties": properties(1, {"SessionExpiryInterval": 300})}
    client.connect(broker.host, broker.port, **start)
    client.loop_start()
    try:
        assert connected.get(timeout=PATIENCE) is False
        client.subscribe(f"{base}/#", qos=1)
        assert subscribed.wait(PATIENCE)
        client.socket().shutdown(socket.SHUT_RDWR)
        broker.wait_event("disconnected", client_id=device)
        with Paho(broker, files, client_id=f"{device}:other", version=version) as other:
            other.publish(f"{base}/x", "while you were away", qos=1)
        assert connected.get(timeout=PATIENCE) is True
        assert received.get(timeout=PATIENCE) == b"while you were away"
    finally:
        client.disconnect()
        client.loop_stop()


def test_properties_travel_whole(paho, base):
    given = {
        "ContentType": "application/json",
        "ResponseTopic": f"{base}/answer",
        "CorrelationData": b"\x00\x01",
        "PayloadFormatIndicator": 1,
        "UserProperty": [("b", "2"), ("a", "1"), ("b", "3")],
    }
    listener = paho("sub")
    listener.subscribe(f"{base}/#")
    paho("pub").publish(f"{base}/x", "{}", **given)
    assert listener.next().properties == given  # user properties in their order [MQTT-3.3.2-18]


def test_a_request_is_answered_where_it_says(paho, base):
    server, asker = paho("server"), paho("asker")
    server.subscribe(f"{base}/requests")
    asker.subscribe(f"{base}/answers/me")
    asker.publish(f"{base}/requests", "time?", ResponseTopic=f"{base}/answers/me", CorrelationData=b"7")
    request = server.next()
    answer_to = request.properties["ResponseTopic"]
    server.publish(answer_to, "noon", CorrelationData=request.properties["CorrelationData"])
    assert asker.next().properties["CorrelationData"] == b"7"


def test_a_denied_subscription_is_told(broker, paho, version):
    client = paho("a", version=version)
    assert client.subscribe("devices/somebody-else/#") == (0x87 if version == V5 else 0x80)
    assert broker.wait_event("denied", topic="devices/somebody-else/#")["action"] == "subscribe"


def test_another_devices_client_id_is_refused(broker, files, version):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "stranger", protocol=version)
    client.tls_set_context(client_context(ca=files.ca, certificate=files.cert, key=files.key))
    answer = queue.Queue()
    client.on_connect = lambda _c, _u, _flags, code, props: answer.put((code, props))
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        code, props = answer.get(timeout=PATIENCE)
    finally:
        client.disconnect()
        client.loop_stop()
    assert code.value == 0x85  # paho turns the code 2 of MQTT 3.1.1 into this one
    if version == V5:
        assert "does not belong to device" in props.ReasonString


@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")  # paho forgets the socket of a failed handshake
def test_it_refuses_a_broker_of_another_ca(broker, files, device, tmp_path):
    other = tmp_path / "other-ca.pem"
    other.write_bytes(ThrowawayCA().root_pem)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device)
    client.tls_set(str(other), str(files.cert), str(files.key))
    with pytest.raises(ssl.SSLCertVerificationError):
        client.connect(broker.host, broker.port)
    assert broker.wait_event("refused", cause="client-distrusts-broker")["mend"]


def test_a_hundred_thousand_bytes_each_way_in_flight(paho, version, base):
    listener = paho("sub", version=version)
    listener.subscribe(f"{base}/#", qos=1)
    sender = paho("pub", version=version)
    payload = bytes(range(256)) * 400
    for _ in range(10):
        sender.client.publish(f"{base}/x", payload, qos=1)
    assert all(listener.next().payload == payload for _ in range(10))
