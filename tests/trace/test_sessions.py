"""Connections that are never made, handshakes that are changed on the way, and brokers that stop in the middle."""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from test_chains import a_ca, good, refused, shown

from sealmq import trace
from sealmq.trace.model import Trace
from sealmq.trace.request import Bounds

QUICK = Bounds(connect=0.5, handshake=2, mqtt=0.5, settle=0.5, close=0.2)
CONNACK = b"\x20\x03\x00\x00\x00"
SUBACK = b"\x90\x04\x00\x01\x00\x00"


def stopped(seen: Trace, cause: str, by: str) -> None:
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, by), (seen.cause, seen.evidence)
    assert seen.mend
    assert seen.evidence


# --- no connection ---------------------------------------------------------------------------------------------------


def test_a_listener_that_takes_no_more_connections() -> None:
    """Its queue is full, so the system drops what asks for another: nothing comes back, as behind a firewall."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((servers.HOST, 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        seen = trace.record(f"mqtts://{servers.HOST}:{listener.getsockname()[1]}", bounds=QUICK)
    stopped(seen, "connect-timeout", "network")
    assert "within 0.5 s" in seen.summary
    assert seen.not_done == ("no byte of TLS was sent", "no CONNECT left this machine")


def test_an_address_without_a_way_to_it() -> None:
    stopped(trace.record("mqtts://255.255.255.255", bounds=QUICK), "unreachable", "network")


# --- changed on the way ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def altered(url: str, change: Callable[[bytes], bytes]) -> Iterator[str]:
    """A way to the server at `url` on which the first bytes that it sends are changed."""
    host, _, port = url.partition("://")[2].rpartition(":")

    def serve(connection: socket.socket) -> None:
        with socket.create_connection((host, int(port))) as server, selectors.DefaultSelector() as ready:
            ready.register(connection, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, connection)
            is_first = True
            while True:
                for key, _ in ready.select(timeout=5):
                    part = key.fileobj.recv(65536)
                    if not part:
                        return
                    if key.fileobj is server and is_first:
                        part, is_first = change(part), False
                    key.data.sendall(part)

    with servers.raw(serve, scheme="tls") as way:
        yield way


def another_random(flight: bytes) -> bytes:
    """A ServerHello with one bit of its random another."""
    changed = bytearray(flight)
    changed[5 + 4 + 2 + 20] ^= 1
    return bytes(changed)


def test_a_server_hello_that_was_changed_on_the_way(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_2") as (url, _), altered(url, another_random) as way:
        seen = trace.record(way, ca=files.ca, bounds=QUICK)
    stopped(seen, "bad-proof", "here")
    assert "ServerKeyExchange" in seen.evidence
    assert seen.proofs.wrong == 1
    assert seen.not_done == ("no session key came into use",)


def test_a_record_that_was_changed_on_the_way(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3") as (url, _), altered(url, another_random) as way:
        seen = trace.record(way, ca=files.ca, bounds=QUICK)
    assert (seen.outcome, seen.stopped_by) == ("failed", "here")  # other keys: nothing after it can be read
    assert "bad_record_mac" in seen.evidence


def test_a_revocation_list_that_is_too_old(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    root = a_ca("root")
    then = datetime.now(UTC) - timedelta(days=9)
    builder = x509.CertificateRevocationListBuilder().issuer_name(root.subject).last_update(then)
    crl = builder.next_update(then + timedelta(days=1)).sign(root.key, hashes.SHA256())
    seen = shown(tmp_path, root, good(root), crl=crl.public_bytes(serialization.Encoding.PEM))
    refused(seen, "certificate-invalid", 12, "verify code 12")


# --- in the channel --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def behind_tls(
    tmp_path: Path, talk: Callable[[ssl.SSLSocket], object], scheme: str = "mqtts"
) -> Iterator[tuple[str, Path]]:
    """A server that talks so, once the handshake is done; its URL and what to trust."""
    files = servers.ecdsa(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            talk(channel)

    with servers.raw(serve, scheme=scheme) as url:
        yield url, files.ca


def answer(*parts: bytes, then: Callable[[ssl.SSLSocket], object]) -> Callable[[ssl.SSLSocket], object]:
    """Answer each packet with the next part, then do that."""

    def talk(channel: ssl.SSLSocket) -> None:
        for part in parts:
            channel.recv(4096)
            channel.sendall(part)
        channel.recv(4096)
        then(channel)

    return talk


def leave(channel: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        channel.unwrap()


def cut(channel: ssl.SSLSocket) -> None:
    channel.shutdown(socket.SHUT_RDWR)


def silence(channel: ssl.SSLSocket) -> None:
    while channel.recv(4096):
        pass


@pytest.mark.parametrize(
    ("talk", "cause"),
    [
        (answer(then=leave), "closed-before-connack"),
        (answer(then=cut), "closed-before-connack"),
        (answer(then=silence), "connack-stalled"),
        (answer(b"\x20\x02\x00\x01", then=leave), "unsupported-protocol-version"),
        (answer(b"\x20\x03\x00\x84\x00", then=leave), "unsupported-protocol-version"),
        (answer(b"\x20\x03\x00\x85\x00", then=leave), "client-id-mismatch"),
        (answer(b"\x20\x03\x00\x86\x00", then=leave), "bad-credentials"),
        (answer(b"\x20\x03\x00\x88\x00", then=leave), "connack"),
        (answer(CONNACK, then=leave), "closed-in-session"),
        (answer(CONNACK, then=cut), "closed-in-session"),
        (answer(CONNACK, then=silence), "session-stalled"),
        (answer(CONNACK, SUBACK, then=silence), "session-stalled"),
        (answer(CONNACK, b"\xe0\x02\x98\x00", then=leave), "disconnected"),
        (answer(CONNACK, b"\x00\x00", then=leave), "not-mqtt"),
    ],
)
def test_a_broker_that_stops(tmp_path: Path, talk: Callable[[ssl.SSLSocket], object], cause: str) -> None:
    with behind_tls(tmp_path, talk) as (url, ca):
        seen = trace.record(url, ca=ca, bounds=QUICK)
    stopped(seen, cause, "here" if cause == "not-mqtt" else "server")


def test_what_a_broker_says_of_its_reason_is_told(tmp_path: Path) -> None:
    said = b"device was revoked at noon"
    reason = b"\x1f" + len(said).to_bytes(2, "big") + said
    packet = b"\x98" + bytes([len(reason)]) + reason
    goodbye = b"\xe0" + bytes([len(packet)]) + packet
    with behind_tls(tmp_path, answer(CONNACK, goodbye, then=leave)) as (url, ca):
        seen = trace.record(url, ca=ca, bounds=QUICK)
    stopped(seen, "disconnected", "server")
    assert "administrative action, 'device was revoked at noon'" in seen.summary


def test_an_end_without_close_notify(tmp_path: Path) -> None:
    with behind_tls(tmp_path, cut, scheme="tls") as (url, ca):
        seen = trace.record(url, ca=ca, bounds=QUICK)
    stopped(seen, "cut-off", "server")
