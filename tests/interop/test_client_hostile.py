"""A server that means harm: whatever it sends, the client ends with one sentence, in time, in bounds, without a secret.

The packets are those of tests/vectors, good and bad ones alike.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sealmq import _engine
from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.errors import NotSo, PeerFault, SealmqError
from sealmq.testing import ThrowawayCA
from sealmq.testing.ca import Fault
from sealmq.tls import ClientCertificate, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VECTORS = Path(__file__).parents[1] / "vectors"
CONNACK = {"5.0": bytes.fromhex("2003000000"), "3.1.1": bytes.fromhex("20020000")}
SECRET = "correct horse battery staple"


def vectors() -> list[tuple[str, str, bytes]]:
    found = []
    for name in ("connect", "publish", "session", "subscribe"):
        for vector in tomllib.loads((VECTORS / f"{name}.toml").read_text())["vector"]:
            lines = (line.partition("#")[0] for line in vector["hex"].splitlines())
            found.append((vector["name"], vector["version"], bytes.fromhex(" ".join(lines))))
    return found


@pytest.fixture(scope="module")
def ca() -> ThrowawayCA:
    return ThrowawayCA()


class Server:
    """One script for every connection; what a client said after the handshake is in `heard`."""

    def __init__(self, context: ssl.SSLContext | None, play: Callable[[socket.socket], None]) -> None:
        self._context, self._play = context, play
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            raw.settimeout(5)
            with contextlib.suppress(OSError), raw:
                if self._context is None:
                    self._play(raw)
                    continue
                with self._context.wrap_socket(raw, server_side=True) as channel:
                    self._play(channel)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def serve(ca, tmp_path) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(play, *, fault: Fault | None = None, tls: bool = True) -> Server:
        files = ca.issue_server("localhost", "127.0.0.1", fault=fault).write(tmp_path / f"tls-{len(running)}")
        context = (
            server_context(certificate=files.cert, key=files.key, client_certificate=ClientCertificate.NONE)
            if fault is None
            else plain_context(files)
        )
        running.append(Server(context if tls else None, play))
        return running[-1]

    yield start
    for one in running:
        one.close()


def plain_context(files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


def connect(ca, server, version="5.0", **options) -> Connection:
    given = {"timeout": 5.0, "client_id": "x", "version": version, **options}
    return Connection.open(Target.parse(f"mqtts://localhost:{server.port}"), Identity(ca=ca.root_pem), **given)


def outcome(ca, server, version) -> None:
    """The client ends; what it raises is one of ours."""
    began = time.monotonic()
    with contextlib.suppress(SealmqError), connect(ca, server, version) as connection:
        for _ in connection.messages(timeout=3):
            pass
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("moment", ["before CONNACK", "after CONNACK"])
def test_every_packet_of_the_vectors(ca, serve, moment):
    every = vectors()
    assert len(every) > 300
    script: list[bytes] = []

    def play(channel):
        channel.recv(4096)
        channel.sendall(script[0])

    server = serve(play)
    for _, version, packet in every[:: 3 if moment == "before CONNACK" else 1]:
        script[:] = [packet if moment == "before CONNACK" else CONNACK[version] + packet]
        outcome(ca, server, version)


def test_connack_before_connect_ends_it_or_is_taken(ca, serve):
    def play(channel):
        channel.sendall(CONNACK["5.0"] * 2)
        channel.recv(4096)

    with pytest.raises(PeerFault, match="second CONNACK"):
        connect(ca, serve(play)).next_message(timeout=3)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        ("30ffffff7f", "exceeds the limit"),  # 256 MiB announced
        ("30ffffffff01", "variable byte integer"),
        ("90020001", "server broke MQTT"),  # SUBACK cut short by its own length
        ("300400012300", "topic"),  # a wildcard in a topic name
    ],
)
def test_lying_lengths(ca, serve, packet, words):
    def play(channel):
        channel.recv(4096)
        channel.sendall(CONNACK["5.0"] + bytes.fromhex(packet))
        channel.recv(4096)

    with pytest.raises(PeerFault) as ended:
        connect(ca, serve(play)).next_message(timeout=3)
    assert words in ended.value.message


def test_endless_messages_are_not_read(ca, serve):
    """Nobody takes them: the server is left to wait, and what is kept stays in its bounds."""
    sent, stuck = 0, threading.Event()
    message = bytes.fromhex("30c3080001740000")[:-1] + b"x" * 1087

    def play(channel):
        nonlocal sent
        channel.recv(4096)
        channel.sendall(CONNACK["3.1.1"])
        channel.settimeout(1)
        block = message * 64
        try:
            while sent < 1 << 28:
                channel.sendall(block)
                sent += len(block)
        except TimeoutError:
            stuck.set()

    with connect(ca, serve(play), "3.1.1", bounds={"inbox_bytes": 1 << 20}) as connection:
        assert stuck.wait(20)
        assert sent < 16 << 20  # the bound, and what the sockets of both sides hold
        assert connection.next_message(timeout=1).topic == "t"


def test_a_server_that_drips_wins_no_time(ca, serve):
    def play(raw):
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(b"\x16")
                if raw.recv(1) == b"":
                    return

    began = time.monotonic()
    with pytest.raises(NotSo):
        connect(ca, serve(play, tls=False), timeout=0.5)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.OTHER_CA, Fault.WRONG_NAME])
def test_no_secret_leaves_before_the_server_is_verified(ca, serve, fault):
    heard, over = [], threading.Event()

    def play(channel):
        try:
            heard.append(channel.recv(4096))
        finally:
            over.set()

    server = serve(play, fault=fault)
    with pytest.raises(NotSo) as refused:
        connect(ca, server, username="me", password=SECRET)
    assert refused.value.code.startswith("tls-")
    over.wait(0.5)
    assert not any(heard)


def test_a_redirect_is_not_followed(ca, serve):
    """DISCONNECT 0x9D with a server reference: told, and no more."""
    reference = b"localhost:1883"
    properties = bytes([0x1C, 0, len(reference)]) + reference
    packet = bytes([0xE0, 2 + len(properties), 0x9D, len(properties)]) + properties

    def play(channel):
        channel.recv(4096)
        channel.sendall(CONNACK["5.0"] + packet)
        channel.recv(4096)

    with pytest.raises(NotSo) as ended:
        connect(ca, serve(play)).next_message(timeout=3)
    assert ended.value.code == "closed"
    assert "moved" in ended.value.message


def test_topic_aliases_that_were_not_offered_or_not_set(ca, serve):
    for publish, words in (
        ("30080001740323ffff78", "not offered"),
        ("30070000032300 0178".replace(" ", ""), "not set"),
    ):

        def play(channel, publish=publish):
            channel.recv(4096)
            channel.sendall(CONNACK["5.0"] + bytes.fromhex(publish))
            channel.recv(4096)

        with pytest.raises(PeerFault) as ended:
            connect(ca, serve(play)).next_message(timeout=3)
        assert words in ended.value.message


def test_an_end_that_comes_together_with_a_result_is_told_too():
    """Or whoever watches the descriptor never hears of it: the data plane itself, so that both are there at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(CONNACK["5.0"])
                peer.recv(4096)
                peer.sendall(bytes.fromhex("40020001"))  # PUBACK

        threading.Thread(target=play, daemon=True).start()
        config = {"scheme": "mqtt", "allow_plaintext": True, "host": "127.0.0.1", "port": listening.getsockname()[1]}
        config |= {"version": "5.0", "client_id": "x", "keep_alive": 60, "clean_start": True, "timeout_ms": 5000}
        engine = _engine.Client.open(json.dumps(config), None)
        assert engine.connack(5000)
        ticket = engine.publish("t", b"x", 1, False, None)
        engine.flush()
        while engine.closing() is None:
            select.select([engine.fileno()], [], [], 5)
        assert engine.poll(0, 0) == ([], [(ticket, b"\0")])
        assert select.select([engine.fileno()], [], [], 0)[0]
        with pytest.raises(_engine.EngineError, match="closed"):
            engine.poll(0, 0)
