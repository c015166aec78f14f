"""A certificate that is not valid now: is it the certificate, or the clock of this machine?

No clock is set here. A clock that is behind is a world that is ahead, so certificates, lists and servers are dated.
"""

import contextlib
import dataclasses
import http.server
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sealmq import trace
from sealmq.trace.build import trace_of
from sealmq.trace.causes import clocks
from sealmq.trace.identity import Identity
from sealmq.trace.live import clockprobe, recorder
from sealmq.trace.model import Trace
from sealmq.trace.request import Request
from sealmq.trace.target import Target

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAMES = x509.SubjectAlternativeName([x509.DNSName("localhost")])
Validity = tuple[timedelta, timedelta]
OLD, NOW_ON, LATER, PAST = (-400 * DAY, 400 * DAY), (-DAY, DAY), (9 * DAY, 99 * DAY), (-99 * DAY, -9 * DAY)


class Issued:
    """A server's certificate of a root, both with dates of their own; `ca` is the root, with a CRL if there is one."""

    def __init__(self, directory: Path, *, root: Validity, leaf: Validity, crl: timedelta | None = None) -> None:
        keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("root", "broker")]
        made = []
        for which, (begin, end) in enumerate((root, leaf)):
            builder = (
                x509.CertificateBuilder()
                .subject_name(names[which])
                .issuer_name(names[0])
                .public_key(keys[which].public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(NOW + begin)
                .not_valid_after(NOW + end)
                .add_extension(x509.BasicConstraints(ca=which == 0, path_length=None), critical=True)
            )
            if which:
                builder = builder.add_extension(NAMES, critical=False)
            made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        if crl is not None:
            dated = x509.CertificateRevocationListBuilder().issuer_name(names[0]).last_update(NOW + crl)
            signed = dated.next_update(NOW + crl + 2 * DAY).sign(keys[0], hashes.SHA256())
            made[0] += signed.public_bytes(serialization.Encoding.PEM)
        self.ca, self.cert, self.key = (directory / name for name in ("root.pem", "broker.pem", "broker.key"))
        self.ca.write_bytes(made[0])
        self.cert.write_bytes(made[1])
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.key.write_bytes(keys[1].private_bytes(*form))


def looked_at(files: Issued, *, ca: Path | None = None) -> Trace:
    with servers.s_server(files, "-tls1_3") as (url, _):
        return trace.record(url.replace("127.0.0.1", "localhost"), ca=ca or files.ca)


@contextlib.contextmanager
def https(files: Issued, *, ahead: timedelta) -> Iterator[str]:
    """A web server whose clock is ahead of ours by so much; its URL."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            del timestamp
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def log_message(self, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


# --- signed times at hand ------------------------------------------------------------------------------------------


def test_a_certificate_for_later_of_a_ca_of_old_is_the_certificate(tmp_path: Path) -> None:
    seen = looked_at(Issued(tmp_path, root=OLD, leaf=LATER))
    assert (seen.cause, seen.stopped_by) == ("certificate-not-yet-valid", "here")


def test_a_trusted_ca_that_does_not_exist_yet_is_the_clock(tmp_path: Path) -> None:
    seen = looked_at(Issued(tmp_path, root=(8 * DAY, 400 * DAY), leaf=LATER))
    assert (seen.cause, seen.stopped_by) == ("clock-wrong-here", "here")
    assert "Clock of this machine is at least 7 days behind" in seen.summary  # and some hours, which are not shown
    assert "a CA that is trusted here exists since" in seen.evidence
    assert "verify code 9" in seen.evidence


def test_a_revocation_list_of_the_future_is_the_clock(tmp_path: Path) -> None:
    seen = looked_at(Issued(tmp_path, root=OLD, leaf=LATER, crl=10 * DAY))
    assert (seen.cause, "a revocation list here was signed on" in seen.evidence) == ("clock-wrong-here", True)
    assert "verify code 11" in seen.evidence  # the list is looked at before the certificate


def test_a_list_of_yesterday_says_nothing(tmp_path: Path) -> None:
    assert looked_at(Issued(tmp_path, root=OLD, leaf=LATER, crl=-DAY)).cause == "certificate-not-yet-valid"


def test_a_clock_before_this_release_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "RELEASED", NOW + 30 * DAY)
    seen = looked_at(Issued(tmp_path, root=OLD, leaf=LATER))
    assert (seen.cause, "this sealmq was released on" in seen.evidence) == ("clock-wrong-here", True)
    expired = looked_at(Issued(tmp_path, root=OLD, leaf=PAST))
    assert expired.cause == "certificate-expired"  # a clock that is behind makes nothing expire


def test_the_release_is_in_the_past() -> None:
    assert datetime.now(UTC) > clocks.RELEASED


def test_a_recording_made_by_a_clock_of_1970(tmp_path: Path) -> None:
    """A virtual clock: the same recording as a machine would have made it that has no battery."""
    files = Issued(tmp_path, root=OLD, leaf=LATER)
    with servers.s_server(files) as (url, _):
        recording = recorder.run(Request(Target.parse(url.replace("127.0.0.1", "localhost")), Identity(files.ca)))
    conditions = dataclasses.replace(recording.conditions, started="1970-01-01T00:03:00+00:00")
    seen = trace_of(dataclasses.replace(recording, conditions=conditions))
    assert seen.cause == "clock-wrong-here"
    assert "behind (1970-01-01 00:03 UTC)" in seen.summary


# --- the server's own clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaf", "ahead", "cause", "words"),
    [
        (LATER, 20 * DAY, "clock-wrong-here", "behind"),
        (PAST, -20 * DAY, "clock-wrong-here", "20 days ahead"),
        (LATER, 0 * DAY, "certificate-not-yet-valid", ""),
        (PAST, 0 * DAY, "certificate-expired", ""),
        (PAST, 20 * DAY, "certificate-expired", ""),  # a wrong clock there explains nothing
        (LATER, -20 * DAY, "certificate-not-yet-valid", ""),
    ],
)
def test_the_date_of_a_web_server(tmp_path: Path, leaf: Validity, ahead: timedelta, cause: str, words: str) -> None:
    files = Issued(tmp_path, root=OLD, leaf=leaf)
    with https(files, ahead=ahead) as url:
        seen = trace.record(url, ca=files.ca)
    assert (seen.cause, seen.stopped_by) == (cause, "here"), seen.evidence
    assert words in seen.summary
    assert ("Date header" in seen.evidence) == (cause == "clock-wrong-here" or not ahead)
    assert ("agrees with this one" in seen.evidence) == (not ahead)


@pytest.mark.parametrize(("is_time", "cause"), [(True, "clock-wrong-here"), (False, "certificate-expired")])
def test_the_time_in_the_server_random_of_old_stacks(tmp_path: Path, is_time: bool, cause: str) -> None:
    """mbedTLS and others put their time there (RFC 5246, 7.4.1.3); those that do not are not taken for one."""
    files = Issued(tmp_path, root=OLD, leaf=PAST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    seen_before = threading.Event()

    def answer(connection: socket.socket) -> None:
        if not seen_before.is_set():
            seen_before.set()
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(connection, server_side=True).close()
            return
        connection.recv(65536)
        when = struct.pack(">I", int((NOW - 20 * DAY).timestamp())) if is_time else secrets.token_bytes(4)
        body = b"\x03\x03" + when + secrets.token_bytes(28) + b"\x00\xc0\x2b\x00"
        message = b"\x02" + len(body).to_bytes(3, "big") + body
        connection.sendall(b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message)
        connection.recv(65536)

    with servers.raw(answer) as url:
        seen = trace.record(url.replace("127.0.0.1", "localhost"), ca=files.ca)
    assert seen.cause == cause, seen.evidence
    assert ("server random of TLS 1.2" in seen.evidence) == is_time


def test_nobody_is_asked_when_the_dates_are_right(tmp_path: Path) -> None:
    files = Issued(tmp_path, root=OLD, leaf=NOW_ON)
    with servers.s_server(files) as (url, _):
        for name in ("localhost", "127.0.0.1"):  # accepted, and refused for its name
            target = Target.parse(url.replace("127.0.0.1", name))
            recording = recorder.run(Request(target, Identity(files.ca)))
            assert not [event for event in recording.connections[0] if event.kind == "probe"]


def test_a_server_that_is_silent_then_costs_two_seconds_at_most(tmp_path: Path) -> None:
    files = Issued(tmp_path, root=OLD, leaf=PAST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    first = threading.Event()

    def answer(connection: socket.socket) -> None:
        if not first.is_set():
            first.set()
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(connection, server_side=True).close()
            return
        while connection.recv(65536):
            pass

    with servers.raw(answer, scheme="https") as url:
        target = Target.parse(url.replace("127.0.0.1", "localhost"))
        recording = recorder.run(Request(target, Identity(files.ca)))
    clock = [event.facts for event in recording.connections[0] if event.kind == "probe"]
    assert clock == [{"part": "clock", "answered": False, "by": "server random of TLS 1.2", "time": ""}]
    assert trace_of(recording).cause == "certificate-expired"
    assert clockprobe.SECONDS <= 2
