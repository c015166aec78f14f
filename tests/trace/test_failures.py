"""Why a connection failed: each cause provoked for real, and named with who stopped it, what did not happen, and a
mend."""

import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA
from sealmq.trace.causes.table import CAUSES
from sealmq.trace.model import Trace
from sealmq.trace.request import Bounds

QUICK = Bounds(connect=2, handshake=0.5, mqtt=0.5, settle=0.2, close=0.2)
TLS13 = "1.3"


def failed(seen: Trace, cause: str, by: str, at: str, *words: str) -> None:
    """It failed so, and everything that a person needs is said."""
    assert (seen.outcome, seen.cause) == ("failed", cause), (seen.cause, seen.evidence, seen.summary)
    assert (seen.stopped_by, seen.stopped_at) == (by, at)
    assert seen.evidence
    assert seen.mend
    assert seen.command
    assert seen.summary.endswith(".")
    for word in words:
        assert word in seen.summary
    if "CONNACK" not in [step.message for step in seen.steps]:
        assert seen.not_done


def test_every_row_of_the_table_reads_well() -> None:
    for slug, cause in CAUSES.items():
        assert slug == slug.lower()
        assert not cause.sentence.endswith(".")
        assert not cause.mend.endswith(".")
        first = cause.sentence[0]
        assert first == "{" or first.islower() or cause.sentence.split()[0].isupper()


# --- below TLS ------------------------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve() -> None:
    seen = trace.record("mqtts://no-such-host.invalid", bounds=QUICK)
    failed(seen, "dns", "network", "dns", "no-such-host.invalid")
    assert seen.not_done[-1] == "no CONNECT left this machine"


def test_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    seen = trace.record(f"mqtts://127.0.0.1:{port}", bounds=QUICK)
    failed(seen, "connection-refused", "server", "refused", f"127.0.0.1:{port}")


def heard(answer: bytes) -> Callable[[socket.socket], None]:
    """Take the ClientHello, answer so, close."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        if answer:
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)

    return serve


def reset(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(
    ("answer", "cause", "by", "at"),
    [
        (heard(b""), "closed-at-accept", "server", "eof"),
        (reset, "connection-reset", "server", "reset"),
        (silent, "handshake-stalled", "server", "timeout"),
        (heard(b"\x20\x02\x00\x01"), "plaintext-mqtt", "here", "NotTls"),
        (heard(b"\x20\x03\x00\x84\x00"), "plaintext-mqtt", "here", "NotTls"),
        (heard(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "plaintext-http", "here", "NotTls"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "ssh", "here", "NotTls"),
        (lambda connection: connection.sendall(b"220 mail ready\r\n"), "not-tls", "here", "NotTls"),
        (heard(b"\x15\x03\x03\x00\x02\x02\x28"), "handshake-failure", "server", "Alert"),
        (heard(b"\x15\x03\x03\x00\x02\x02\x46"), "tls-version-too-old", "server", "Alert"),
        (heard(b"\x15\x03\x03\x00\x02\x02\x70"), "unrecognized-name", "server", "Alert"),
        (heard(b"\x15\x03\x03\x00\x02\x02\x78"), "no-common-alpn", "server", "Alert"),
        (heard(b"\x15\x03\x03\x00\x02\x02\x50"), "peer-alert", "server", "Alert"),
    ],
)
def test_answers_that_are_no_handshake(answer: Callable[[socket.socket], object], cause: str, by: str, at: str) -> None:
    with servers.raw(answer) as url:
        seen = trace.record(url, bounds=QUICK)
    failed(seen, cause, by, at)
    assert seen.not_done == ("no session key came into use", "no CONNECT left this machine")


# --- versions and suites ----------------------------------------------------------------------------------------------


def test_versions_that_do_not_meet(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_2") as (url, _):
        seen = trace.record(url, ca=files.ca, tls=TLS13)
    failed(seen, "tls-version-too-old", "server", "Alert", "TLS 1.3", "it would speak TLS 1.2")
    assert seen.mend == "offer TLS 1.2 as well: leave --tls out"
    assert "--legacy" not in seen.command


OLD = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize("kind", ["openssl", "gnutls"])
@pytest.mark.parametrize(
    ("speaks", "offered", "would"),
    [
        ("1.1", "", "TLS 1.1"),
        ("1.1", "1.2", "TLS 1.1"),
        ("1.1", "1.3", "TLS 1.1"),
        ("1.2", "1.3", "TLS 1.2"),
        ("1.3", "1.2", "TLS 1.3"),
    ],
)
def test_a_server_of_one_version(tmp_path: Path, kind: str, speaks: str, offered: str, would: str) -> None:
    """OpenSSL says protocol_version, GnuTLS handshake_failure, and it is the same cause: asking again tells."""
    files = servers.rsa_2048(tmp_path)
    if kind == "gnutls":
        server = servers.gnutls(files, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{speaks}")
    else:
        server = servers.s_server(files, *({"1.1": OLD}.get(speaks) or (f"-tls{speaks.replace('.', '_')}",)))
    with server as found:
        seen = trace.record(found if isinstance(found, str) else found[0], ca=files.ca, tls=offered)
    failed(seen, "tls-version-too-old", "server", "Alert", f"it would speak {would}")
    assert f"goes on in {would}" in seen.evidence
    assert ("--legacy" in seen.command) == (speaks == "1.1")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("-cipher", "ECDHE-ECDSA-AES128-SHA"), "no-common-cipher"),
        (("-groups", "brainpoolP512r1"), "no-common-group"),
        (("-cipher", "ALL:@SECLEVEL=0", "-sigalgs", "ECDSA+SHA1"), "no-common-signature"),
    ],
)
def test_a_handshake_failure_is_probed(tmp_path: Path, options: tuple[str, ...], cause: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_2", *options) as (url, _):
        seen = trace.record(url, ca=files.ca)
    failed(seen, cause, "server", "Alert")
    assert "handshake_failure" in seen.evidence
    assert "in the ClientHello it goes on" in seen.evidence


# --- the server's certificate -----------------------------------------------------------------------------------------


def served(tmp_path: Path, ca: ThrowawayCA, fault: Fault | None, *options: str, host: str = "127.0.0.1") -> Trace:
    files = ca.issue_server(fault=fault).write(tmp_path / "server")
    anchors = tmp_path / "root.pem"
    anchors.write_bytes(ca.root_pem)
    with servers.s_server(files, "-cert_chain", files.cert, *options) as (url, _):
        return trace.record(url.replace("tls://", "mqtts://"), ca=anchors, server_name=host, bounds=QUICK)


@pytest.mark.parametrize("option", ["-tls1_3", "-tls1_2"])
@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [
        (Fault.EXPIRED, "certificate-expired", ("expired on", "1 day ago")),
        (Fault.NOT_YET_VALID, "certificate-not-yet-valid", ("is valid from",)),
        (Fault.WRONG_NAME, "wrong-host", ("elsewhere.invalid", "127.0.0.1")),
        (Fault.COMMON_NAME_ONLY, "common-name-only", ()),
        (Fault.SELF_SIGNED, "self-signed", ()),
        (Fault.OTHER_CA, "untrusted-issuer", ()),
        (Fault.WRONG_USAGE, "certificate-wrong-purpose", ("clientAuth",)),
    ],
)
def test_a_server_certificate_with_a_fault(
    tmp_path: Path, option: str, fault: Fault, cause: str, words: tuple[str, ...]
) -> None:
    seen = served(tmp_path, ThrowawayCA(), fault, option)
    failed(seen, cause, "here", "certificate check", *words)
    assert "verify code" in seen.evidence
    assert seen.command.endswith(" --cafile FILE")
    assert seen.tls.certificates  # the chain is there to be looked at, though it was refused
    state = seen.steps[-1].state
    assert state.certificate.chain_received
    assert not state.certificate.chain_and_name_accepted
    assert state.channel == "none"
    assert seen.not_done == ("no session key came into use", "no CONNECT left this machine")


def test_an_intermediate_that_was_not_sent(tmp_path: Path) -> None:
    ca = ThrowawayCA()
    files = ca.issue_server(fault=Fault.MISSING_INTERMEDIATE).write(tmp_path / "server")
    anchors = tmp_path / "root.pem"
    anchors.write_bytes(ca.root_pem)
    with servers.s_server(files, "-no-CAfile", "-no-CApath") as (url, _):
        seen = trace.record(url, ca=anchors, bounds=QUICK)
    failed(seen, "missing-intermediate", "here", "certificate check", "did not send the certificate of")


# --- the client's certificate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (None, "no-client-certificate"),
        (Fault.OTHER_CA, "untrusted-issuer"),
        (Fault.EXPIRED, "certificate-expired"),
    ],
)
def test_a_client_that_the_broker_refuses(tmp_path: Path, tls: str, fault: Fault | None, cause: str) -> None:
    ca = ThrowawayCA()
    with EphemeralBroker(ca=ca) as broker:
        good = broker.device("sensor-1")
        files = ca.issue_client("sensor-1", fault=fault).write(tmp_path / "client") if fault else None
        seen = trace.record(
            broker.url,
            ca=good.ca,
            certificate=files.cert if files else None,
            key=files.key if files else None,
            tls=tls,
            bounds=QUICK,
        )
        broker.wait_event("refused")
    failed(seen, cause, "server", "Alert")
    assert seen.command == f"sealmq trace {broker.url} --as ID"
    assert "CONNACK" not in [step.message for step in seen.steps]
    assert seen.steps[-1].state.client_certificate != "accepted"
    if tls == "1.3" and fault:
        assert "after this side had finished" in seen.evidence


# --- MQTT ------------------------------------------------------------------------------------------------------------


def test_a_client_id_that_the_broker_refuses() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, client_id="another")
        record = broker.wait_event("refused")
    assert record["cause"] == seen.cause
    words = ("does not take the client id another", record["summary"])
    failed(seen, "client-id-mismatch", "server", "CONNACK", *words)


def test_a_password_that_mosquitto_wants(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    for version, words in (("5.0", "not authorized (0x87)"), ("3.1.1", "not authorized (code 5)")):
        with servers.mosquitto(tmp_path, files, "allow_anonymous false") as url:
            seen = trace.record(url, ca=files.ca, mqtt=version)
        failed(seen, "connack", "server", "CONNACK", words)


def test_a_web_server_behind_tls(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-www") as (url, server):
        seen = trace.record(url.replace("tls", "mqtts"), ca=files.ca, bounds=QUICK)
        assert server
    assert seen.outcome == "failed"
    assert seen.cause in ("connack-stalled", "closed-before-connack", "not-mqtt")


def test_a_server_that_talks_on_when_all_is_said_has_done_nothing_wrong(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True) as channel:
            for _ in range(10_000):
                channel.sendall(b"and another thing")

    with servers.raw(serve, scheme="tls") as url:
        seen = trace.record(url, ca=files.ca, bounds=Bounds(settle=0.1, close=0.5, records=100_000))
    assert (seen.outcome, seen.cause) == ("ok", None), seen.evidence


def test_a_server_that_never_answers_the_connect(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files) as (url, _):
        seen = trace.record(url.replace("tls", "mqtts"), ca=files.ca, bounds=QUICK)
    failed(seen, "connack-stalled", "server", "timeout", "within 0.5 s")
    assert seen.not_done == ("no MQTT session began, nothing was published",)


def test_an_answer_that_is_no_mqtt(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            channel.recv(4096)
            channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            channel.recv(4096)

    with servers.raw(serve) as url:
        seen = trace.record(url, ca=files.ca, bounds=QUICK)
    failed(seen, "not-mqtt", "here", "not MQTT", "HTTP")
