"""`sealmq sub` against a running broker: what it prints, how it ends, and what happens when the broker goes."""

from __future__ import annotations

import base64
import json
import signal
import sys

import pytest

from programs import Program, run_sealmq, sealmq
from sealmq.client.connection import Connection, Identity, Properties
from sealmq.client.target import Target
from sealmq.testing import EphemeralBroker


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker() as running:
        running.device("sensor-1")
        yield running


@pytest.fixture
def sender(broker):
    files = broker.device("sensor-1")
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    with Connection.open(Target.parse(broker.url), identity, client_id="sensor-1:sender") as connection:
        yield connection


@pytest.fixture
def sub(broker):
    """`sub(OPTION...)` is a running `sealmq sub` of sensor-1 that has subscribed."""
    running = []

    def start(*args, subscribed: bool = True) -> Program:
        program = sealmq("--data", broker.folder.path, "sub", broker.url, "--as", "sensor-1", *args)
        running.append(program)
        if subscribed:
            program.expect("^subscribed ")
        return program

    yield start
    for program in running:
        program.close()


@pytest.mark.parametrize("version", ["5", "311"])
def test_payloads_one_per_line(sub, sender, version):
    listener = sub("-t", "devices/sensor-1/#", "-q", "2", "-C", "3", "-V", version)
    for payload in (b"21.5", b"", "grüezi".encode()):
        sender.publish("devices/sensor-1/t", payload, qos=1)
    assert listener.wait() == 0
    assert listener.out == "21.5\n\ngrüezi\n"
    assert listener.err == "subscribed devices/sensor-1/#\n"


def test_v_prints_the_topic_before(sub, sender):
    listener = sub("-t", "devices/sensor-1/a", "-t", "devices/sensor-1/b", "-v", "-C", "2")
    for name in ("b", "a"):
        sender.publish(f"devices/sensor-1/{name}", name.encode(), qos=1)
    assert listener.wait() == 0
    assert listener.out == "devices/sensor-1/b b\ndevices/sensor-1/a a\n"
    assert listener.err == "subscribed devices/sensor-1/a devices/sensor-1/b\n"


def test_messages_are_printed_when_they_come(sub, sender):
    listener = sub("-t", "devices/sensor-1/#")
    for payload in ("first", "second"):
        sender.publish("devices/sensor-1/t", payload.encode())
        listener.expect(f"^{payload}$")


def test_json_has_everything(sub, sender):
    listener = sub("-t", "devices/sensor-1/#", "-q", "1", "-C", "2", "--json")
    extra = Properties(content_type="text/plain", user=(("a", "1"),), correlation=b"\x01")
    sender.publish("devices/sensor-1/t", b"21.5", qos=1, properties=extra)
    sender.publish("devices/sensor-1/t", b"\xff\x00")
    assert listener.wait() == 0
    first, second = (json.loads(line) for line in listener.out.splitlines())
    assert (first["topic"], first["payload"], first["qos"], first["retain"]) == ("devices/sensor-1/t", "21.5", 1, False)
    assert first["properties"]["content_type"] == "text/plain"
    assert first["properties"]["user"] == [["a", "1"]]
    assert base64.b64decode(second["payload_base64"]) == b"\xff\x00"
    assert "payload" not in second


def test_quiet_says_nothing(sub, sender):
    sender.publish("devices/sensor-1/kept", b"k", qos=1, retain=True)
    listener = sub("-t", "devices/sensor-1/kept", "--quiet", "-C", "1", subscribed=False)
    assert listener.wait() == 0
    assert (listener.out, listener.err) == ("k\n", "")
    sender.publish("devices/sensor-1/kept", b"", qos=1, retain=True)


def test_w_ends_it_in_time(sub):
    assert sub("-t", "devices/sensor-1/nothing", "-W", "0.2").wait() == 0


def test_w_before_all_messages_came_is_status_1(sub, sender):
    listener = sub("-t", "devices/sensor-1/#", "-C", "2", "-W", "1")
    sender.publish("devices/sensor-1/one", b"1")
    assert listener.wait() == 1
    assert listener.out == "1\n"
    assert "error: 1 of 2 messages came within 1 s" in listener.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_without_a_traceback(broker, sub, number, status):
    listener = sub("-t", "devices/sensor-1/#", "-i", f"sensor-1:signal-{status}")
    listener.signal(number)
    assert listener.wait() == status
    assert listener.err == "subscribed devices/sensor-1/#\n"
    ended = broker.wait_event("disconnected", client_id=f"sensor-1:signal-{status}")
    if number == signal.SIGINT:
        assert ended["cause"] == "client-disconnect"


def test_a_denied_filter_is_named(sub, broker):
    listener = sub("-t", "devices/sensor-1/#", "-t", "devices/other/#", subscribed=False)
    assert listener.wait() == 1
    error, mend = listener.err.splitlines()
    assert error == "error: subscribe to devices/other/# was refused: not authorized (reason code 0x87)"
    assert mend.startswith("mend: use a topic under devices/ID/ or shared/, or add a rule")
    assert broker.wait_event("denied", topic="devices/other/#")["action"] == "subscribe"


def test_a_denied_filter_in_3_1_1_has_no_reason(sub):
    listener = sub("-t", "devices/other/#", "-V", "311", subscribed=False)
    assert listener.wait() == 1
    assert "unspecified error (reason code 0x80)" in listener.err
    assert "try -V 5" in listener.err


def test_a_filter_that_is_none(sub):
    listener = sub("-t", "devices/sensor-1/#/x", subscribed=False)
    assert listener.wait() in (1, 2)
    assert listener.err.startswith("error: ")
    assert "Traceback" not in listener.err


def test_a_takeover_is_told(sub):
    first = sub("-t", "devices/sensor-1/#", "-i", "sensor-1:twin")
    sub("-t", "devices/sensor-1/#", "-i", "sensor-1:twin")
    assert first.wait() == 1
    assert "error: server disconnected: session taken over (0x8e)" in first.err


@pytest.mark.parametrize("version", ["5", "311"])
def test_a_broker_that_stops_is_told(version):
    with EphemeralBroker() as broker:
        broker.device("sensor-1")
        command = ["--data", broker.folder.path, "sub", broker.url, "--as", "sensor-1", "-t", "devices/sensor-1/#"]
        with Program(sys.executable, "-m", "sealmq", *command, "-V", version) as listener:
            listener.expect("^subscribed ")
            broker.__exit__(None, None, None)
            assert listener.wait() == 1
            said = (
                "server disconnected: server shutting down (0x8b)" if version == "5" else "server closed the connection"
            )
            assert f"error: {said}" in listener.err
            assert "Traceback" not in listener.err


def test_a_broker_that_dies_is_told(up):
    running = up()
    running.device()
    command = ["--data", running.data, "sub", running.url, "--as", "sensor-1", "-t", "devices/sensor-1/#"]
    with Program(sys.executable, "-m", "sealmq", *command) as listener:
        listener.expect("^subscribed ")
        running.signal(signal.SIGKILL)
        assert listener.wait() == 1
        assert "error: server closed the connection" in listener.err
        assert "mend: " in listener.err


def test_a_reader_that_goes_away(broker, sender):
    """`sealmq sub … | head -1`: the second message finds no reader, and that is no error of anybody."""
    words = [sys.executable, "-m", "sealmq", "--data", broker.folder.path, "sub", broker.url, "--as", "sensor-1"]
    line = " ".join(f"'{word}'" for word in map(str, [*words, "-t", "devices/sensor-1/head", "-i", "sensor-1:head"]))
    with Program("bash", "-c", f"{line} | head -1; echo status ${{PIPESTATUS[0]}}") as pipe:
        pipe.expect("^subscribed ")
        sender.publish("devices/sensor-1/head", b"one")
        pipe.expect("^one$")
        while pipe.poll() is None:
            sender.publish("devices/sensor-1/head", b"more", qos=1)
        assert pipe.wait() == 0
        pipe.expect("^status 141$")
        assert "Traceback" not in pipe.err


def test_no_broker_at_all(tmp_path, broker):
    files = broker.device("sensor-1")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key]
    done = run_sealmq("sub", "mqtts://127.0.0.1:1", "-t", "x", *who, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: nothing listens on 127.0.0.1:1",
        "mend: start the broker (`sealmq up`), or check host and port",
    ]
