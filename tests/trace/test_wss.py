"""MQTT in a WebSocket: traced through the upgrade to the last frame, from both sides; and servers that get it wrong."""

import base64
import contextlib
import hashlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.errors import UsageError
from sealmq.testing import EphemeralBroker
from sealmq.trace import websocket
from sealmq.trace.build import trace_of
from sealmq.trace.live import recorder
from sealmq.trace.model import Trace, from_json, to_json
from sealmq.trace.recording import Recording
from sealmq.trace.request import Bounds, Identity, Request
from sealmq.trace.target import Target

QUICK = Bounds(connect=2, handshake=2, mqtt=0.5, settle=0.2, close=0.2)
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def names(seen: Trace) -> list[str]:
    after = [step.message for step in seen.steps if step.who != "here"]
    return after[after.index("upgrade request") :]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("mqtt", ["5.0", "3.1.1"])
def test_our_broker(tls: str, mqtt: str) -> None:
    with EphemeralBroker(wss=True) as broker:
        files = broker.device("sensor-1")
        url = f"wss://127.0.0.1:{broker.port_of('wss')}/mqtt"
        seen = trace.record(url, ca=files.ca, certificate=files.cert, key=files.key, tls=tls, mqtt=mqtt)
        broker.wait_event("connected", device="sensor-1", client_id="sensor-1:trace", protocol=mqtt)
    assert (seen.outcome, seen.cause, seen.url) == ("ok", None, url)
    assert (seen.proofs.right, seen.proofs.wrong, seen.proofs.unchecked) == (4, 0, 0)
    assert seen.tls.protocol == "http/1.1"
    found = [name for name in names(seen) if name not in ("NewSessionTicket", "Alert")]
    assert found[:4] == ["upgrade request", "upgrade response", "CONNECT", "CONNACK"]
    assert found.count("PUBLISH") == 2
    assert found[-2:] == ["WebSocket Close", "WebSocket Close"]
    by_name = {step.message: step for step in seen.steps}
    request, connect = by_name["upgrade request"], by_name["CONNECT"]
    assert "GET /mqtt HTTP/1.1" in request.says
    assert {"sec-websocket-key", "sec-websocket-protocol", "host"} < {field.name for field in request.fields}
    assert request.protection == connect.protection == ("tls12" if tls == "1.2" else "application")
    assert "101 Switching Protocols" in by_name["upgrade response"].says
    frame = connect.fields[0]
    assert (frame.name, frame.value.split(", ")[:2]) == ("frame", ["binary", "masked"])
    assert by_name["CONNACK"].fields[0].value.startswith("binary, ")
    assert "masked" not in by_name["CONNACK"].fields[0].value
    assert all(step.explain for step in seen.steps)
    assert from_json(to_json(seen)) == seen
    counted = {way: sum(step.bytes for step in seen.steps if step.direction == way) for way in ("sent", "received")}
    unsaid = 0 if tls == "1.2" else 6  # the ChangeCipherSpec that means nothing in TLS 1.3 is no step
    assert counted == {"sent": seen.totals.sent - unsaid, "received": seen.totals.received - unsaid}


def test_a_path_that_is_not_served() -> None:
    with EphemeralBroker(wss=True) as broker:
        files = broker.device("sensor-1")
        url = f"wss://127.0.0.1:{broker.port_of('wss')}/elsewhere"
        seen = trace.record(url, ca=files.ca, certificate=files.cert, key=files.key, bounds=QUICK)
        record = broker.wait_event("refused")
    assert (seen.cause, seen.stopped_by, seen.stopped_at) == ("http-status", "server", "upgrade response")
    assert "404" in seen.summary
    assert seen.not_done == ("no CONNECT left this machine",)
    assert (record["stage"], record["cause"]) == ("http", "http-path")


def test_a_listener_for_mqtt_without_websocket() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        url = f"wss://127.0.0.1:{broker.port}"
        offered = {"ca": files.ca, "certificate": files.cert, "key": files.key, "bounds": QUICK}
        assert trace.record(url, **offered).cause == "no-common-alpn"
        seen = trace.record(url, **offered, protocols=())
        assert broker.wait_event("refused", cause="not-connect")
    assert (seen.cause, seen.stopped_by) == ("closed-before-upgrade", "server")
    assert "mqtts://" in seen.mend


# --- servers that get it wrong ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def behind_tls(
    tmp_path: Path, answer: Callable[[ssl.SSLSocket, str], object]
) -> Iterator[tuple[str, servers.Certified]]:
    """A server that reads an upgrade request and calls `answer` with the value that accepts its key."""
    files = servers.ecdsa(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            asked = channel.recv(4096).decode()
            key = next(line.split(": ")[1] for line in asked.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
            accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()  # noqa: S324 - RFC 6455
            answer(channel, accept)
            with contextlib.suppress(OSError):
                while channel.recv(4096):
                    pass

    with servers.raw(serve, scheme="wss") as url:
        yield url, files


def switching(accept: str, *more: str, protocol: str = "mqtt") -> bytes:
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: keep-alive, Upgrade")
    own = (f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Protocol: {protocol}")
    return "\r\n".join([*lines, *own, *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("answer", "cause", "by"),
    [
        (lambda _: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nwhat", "http-status", "server"),
        (lambda _: b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.invalid/\r\n\r\n", "http-status", "server"),
        (lambda _: b"\x20\x02\x00\x01", "http-malformed", "here"),
        (lambda _: b"SSH-2.0-OpenSSH\r\n", "http-malformed", "here"),
        (lambda _: b"HTTP/1.1 abc\r\n\r\n", "http-malformed", "here"),
        (lambda _: b"HTTP/1.1 101 ok\r\nno colon\r\n\r\n", "http-malformed", "here"),
        (lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "http-too-large", "here"),
        (lambda accept: switching(accept).replace(b"Upgrade: websocket\r\n", b""), "websocket-missing", "here"),
        (lambda accept: switching(accept[::-1]), "websocket-key", "here"),
        (lambda accept: switching(accept, "Sec-WebSocket-Extensions: x"), "websocket-extension", "here"),
        (lambda accept: switching(accept, protocol="chat"), "websocket-subprotocol", "here"),
        (lambda accept: switching(accept) + b"\x82\x84abcd\x20\x02\x00\x00", "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\xc2\x04\x20\x02\x00\x00", "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\x81\x02hi", "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\x83\x00", "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\x89\x7e\x01\x00", "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\x82\x7f" + b"\xff" * 8, "websocket-protocol-error", "here"),
        (lambda accept: switching(accept) + b"\x82\x02hi", "not-mqtt", "here"),
        (lambda accept: switching(accept) + b"\x88\x02\x03\xe8", "connack-stalled", "server"),
        (lambda accept: switching(accept) + b"\x82\x7e\x40\x00" + b"x" * 9, "connack-stalled", "server"),
        (lambda _: b"HTTP/1.1 101 half", "upgrade-stalled", "server"),
        (lambda _: b"", "upgrade-stalled", "server"),
    ],
)  # fmt: skip
def test_answers_that_open_no_websocket(tmp_path: Path, answer: Callable[[str], bytes], cause: str, by: str) -> None:
    with behind_tls(tmp_path, lambda channel, accept: channel.sendall(answer(accept))) as (url, files):
        seen = trace.record(url, ca=files.ca, bounds=QUICK)
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, by), (seen.evidence, seen.summary)
    assert seen.mend
    assert seen.evidence
    assert from_json(to_json(seen)) == seen


def test_a_server_that_leaves_when_it_is_asked(tmp_path: Path) -> None:
    with behind_tls(tmp_path, lambda channel, _: channel.shutdown(socket.SHUT_RDWR)) as (url, files):
        seen = trace.record(url, ca=files.ca, bounds=QUICK)
    assert (seen.cause, seen.stopped_by) == ("closed-before-upgrade", "server")


def test_packets_over_several_frames_pings_and_an_empty_one(tmp_path: Path) -> None:
    connack = b"\x20\x03\x00\x00\x00"
    ponged = threading.Event()

    def answer(channel: ssl.SSLSocket, accept: str) -> None:
        channel.sendall(switching(accept) + b"\x89\x02hi")
        channel.sendall(b"\x02\x02" + connack[:2] + b"\x00\x00" + b"\x8a\x00" + b"\x80\x03" + connack[2:])
        pong = websocket.PONG
        read = b""
        while part := channel.recv(4096):
            read += part
            while header := websocket.Header.parse(read, of_client=True):
                if len(read) < header.size:
                    break
                if header.opcode == pong and header.payload(read[: header.size]) == b"hi":
                    ponged.set()
                read = read[header.size :]

    with behind_tls(tmp_path, answer) as (url, files):
        seen = trace.record(url, ca=files.ca, bounds=QUICK)
    found = names(seen)
    assert {"WebSocket Ping", "WebSocket Pong", "CONNACK"} < set(found)
    connack_step = next(step for step in seen.steps if step.message == "CONNACK")
    assert connack_step.fields[0].value == "continuation, 3 bytes"
    assert seen.cause == "session-stalled"  # it went on to SUBSCRIBE
    assert ponged.is_set()


def test_a_flood_of_pings_is_bounded(tmp_path: Path) -> None:
    def answer(channel: ssl.SSLSocket, accept: str) -> None:
        channel.sendall(switching(accept))
        with contextlib.suppress(OSError):
            while True:
                channel.sendall(b"\x89\x00" * 8000)

    with behind_tls(tmp_path, answer) as (url, files):
        seen = trace.record(url, ca=files.ca, bounds=QUICK)
    assert seen.outcome == "failed"
    assert seen.totals.sent < 100_000
    assert len(seen.steps) <= 300


# --- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535])
def test_a_frame_comes_out_as_it_went_in(length: int) -> None:
    payload = random.Random(length).randbytes(length)  # noqa: S311
    data = websocket.frame(websocket.BINARY, payload, b"mask")
    for cut in range(min(len(data), 16)):
        header = websocket.Header.parse(data[:cut], of_client=True)
        assert header is None or cut >= header.size - length
    header = websocket.Header.parse(data, of_client=True)
    assert header is not None
    assert (header.opcode, header.is_last, header.size) == (websocket.BINARY, True, len(data))
    assert header.payload(data) == payload


def test_the_example_of_the_rfc() -> None:
    header = websocket.Header.parse(bytes.fromhex("8a8537fa213d7f9f4d5158"), of_client=True)  # RFC 6455, section 5.7
    assert header is not None
    assert header.payload(bytes.fromhex("8a8537fa213d7f9f4d5158")) == b"Hello"
    asked = websocket.Head("", (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),))  # section 1.3
    accept = switching("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").removesuffix(b"\r\n\r\n")
    assert websocket.fault_of(websocket.Head.parse(accept), asked) == ""


def test_what_identifies_a_client_is_not_shown() -> None:
    head = websocket.Head.parse(
        b"GET /mqtt HTTP/1.1\r\nCookie: session=hunter2\r\nAuthorization: Basic aHVudGVy\r\n\r\n"
    )
    assert "hunter2" not in repr(head.fields)
    assert "aHVudGVy" not in repr(head.fields)


@pytest.mark.parametrize("url", ["wss://h/a b", "wss://h/é", "wss://h/?x=1", "wss://h/\x7f"])
def test_paths_that_cannot_be_asked_for(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        Target.parse(url)


def test_damaged_frames_are_told_without_a_word_from_python() -> None:
    """What a channel carries with bytes changed inside it, where TLS catches no damage."""
    answer = switching("") + b"\x82\x05\x20\x03\x00\x00\x00\x89\x02hi\x88\x02\x03\xe8"
    sent = websocket.request("h", "/mqtt", bytes(16)) + websocket.frame(websocket.BINARY, b"\x10\x00", b"mask")
    chance = random.Random(5)  # noqa: S311
    for _ in range(300):
        story = _told(*(_damaged(data, chance) for data in (sent, answer)))
        assert all(step.message for step in story.steps)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(0, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randint(1, len(changed))])


def _told(sent: bytes, received: bytes):
    from sealmq.trace.carrier import Carrier
    from sealmq.trace.packets import Session
    from sealmq.trace.recording import Event
    from sealmq.trace.story import Story
    from sealmq.trace.tls.decode import Message

    story, carrier = Story(), Carrier(Session("5.0"))
    for direction, data in (("sent", sent), ("received", received)):
        for at in range(0, len(data), 7):
            part = data[at : at + 7]
            message = Message(direction, "ApplicationData", part, len(part) + 22, 1, "application")
            carrier.tell(story, Event(0.0, direction, part), message)
    return story


def test_kept_and_shown_again(tmp_path: Path) -> None:
    with EphemeralBroker(wss=True) as broker:
        files = broker.device("sensor-1")
        target = Target.parse(f"wss://127.0.0.1:{broker.port_of('wss')}")
        recording = recorder.run(Request(target, Identity(files.ca, files.cert, files.key)))
    recording.write(tmp_path / "kept.json")
    assert trace_of(Recording.read(tmp_path / "kept.json")) == trace_of(recording)
