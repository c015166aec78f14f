"""Servers that mean harm: whatever they send, a trace ends soon, takes bounded memory, raises nothing and says what was
wrong."""

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.trace import render
from sealmq.trace.model import from_json, to_json
from sealmq.trace.request import Bounds
from sealmq.trace.story import MOST_STEPS

QUICK = Bounds(connect=2, handshake=1.0, mqtt=0.5, settle=0.2, close=0.2, whole=5, received=200_000, records=500)


def record(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind, 3, 3]) + (len(body) if length is None else length).to_bytes(2, "big") + body


def handshake(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3, "big") + body


def server_hello(extensions: bytes, length: int | None = None) -> bytes:
    listed = (len(extensions) if length is None else length).to_bytes(2, "big") + extensions
    return handshake(2, b"\x03\x03" + bytes(range(32)) + b"\x00" + b"\x13\x01" + b"\x00" + listed)


def in_records(data: bytes) -> bytes:
    return b"".join(record(22, data[at : at + 16_384]) for at in range(0, len(data), 16_384))


def once(data: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return serve


def endless(data: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(data)

    return serve


def drip(connection: socket.socket) -> None:
    connection.recv(65536)
    for byte in record(22, server_hello(b"\x00\x2b\x00\x02\x03\x04")):
        connection.sendall(bytes([byte]))
        try:
            connection.settimeout(0.05)
            if not connection.recv(1):
                return
        except TimeoutError:
            pass


NOISE = random.Random(7).randbytes(4096)  # noqa: S311 - the same noise in every run
TEN_THOUSAND = b"".join(number.to_bytes(2, "big") + b"\x00\x00" for number in range(1000, 11_000))


@pytest.mark.parametrize("client", ["python", "compiled", "shared key"])
@pytest.mark.parametrize(
    "answer",
    [
        once(NOISE),
        once(b"\x16" + NOISE),
        once(b"\x16\x03"),
        once(record(22, b"\x02\x00", 16_384)),
        once(record(22, b"", 0)),
        once(record(22, b"", 60_000)),
        once(record(22, handshake(2, b"", 16_777_215))),
        once(record(22, handshake(11, b"\x00\x00\x00"))),
        once(record(22, server_hello(b"\x00\x2b\x00\x02\x03\x04", 9))),
        once(record(22, server_hello(b"\x00\x2b\xff\xff\x03\x04"))),
        once(in_records(server_hello(TEN_THOUSAND))),
        once(record(22, server_hello(b"\x00\x2b\x00\x02\x03\x04") * 3)),
        once(record(23, NOISE[:1000])),
        once(record(21, b"\x02")),
        once(record(21, b"\xff\xff")),
        once(record(20, b"\x01") * 100),
        endless(record(22, b"\x00\x00\x00\x00")),  # HelloRequest, which a client passes over
        endless(record(21, b"\x01\x5a")),
        endless(record(20, b"\x01")),
        endless(NOISE),
        endless(record(22, handshake(11, bytes(16_000), 16_000_000))),
        drip,
    ],
    ids=lambda value: getattr(value, "__qualname__", "")[:8],
)
def test_bytes_that_mean_harm(
    answer: Callable[[socket.socket], object], client: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "psk.txt"
    key.write_text(f"sensor-1:{'ab' * 32}\n")
    how = {"python": {}, "compiled": {"post_quantum": True}, "shared key": {"psk": key}}[client]
    started = time.monotonic()
    with servers.raw(answer, scheme="mqtts+psk" if client == "shared key" else "mqtts") as url:
        seen = trace.record(url, bounds=QUICK, **how)
    assert time.monotonic() - started < 8
    assert seen.outcome == "failed"
    assert seen.cause not in (None, "unknown"), seen.steps[-1]
    assert seen.totals.received <= QUICK.received + 65_536
    assert len(seen.steps) <= MOST_STEPS
    assert from_json(to_json(seen)) == seen
    render.show(seen, verbose=True, explain=True)
    assert "FAILED" in capsys.readouterr().out


def test_a_certificate_of_sixty_kilobytes_is_read(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    files = servers.Certified(tmp_path, ec.generate_private_key(ec.SECP256R1()), names=3000)
    with servers.s_server(files, "-tls1_3") as (url, _):
        seen = trace.record(url, ca=files.ca)
    assert seen.outcome == "ok"
    assert seen.proofs.right == 3
    certificate = next(step for step in seen.steps if step.message == "Certificate")
    assert certificate.bytes > 50_000
    assert certificate.records >= 4
    assert len(certificate.says) < 300


def test_a_certificate_beyond_what_openssl_takes(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    files = servers.Certified(tmp_path, ec.generate_private_key(ec.SECP256R1()), names=8000)
    with servers.s_server(files, "-tls1_3") as (url, _):
        seen = trace.record(url, ca=files.ca)
    assert (seen.outcome, seen.stopped_by) == ("failed", "here")
    assert seen.not_done == ("no session key came into use",)


def test_names_of_a_peer_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with servers.raw(once(b"SSH-2.0-\x1b]0;gotcha\x07\x1b[2J\r\n")) as url:
        seen = trace.record(url, bounds=QUICK)
    render.show(seen, verbose=True)
    printed = capsys.readouterr().out
    assert seen.cause == "ssh"
    assert "\x1b]0;" not in printed
    assert "\x1b[2J" not in printed
