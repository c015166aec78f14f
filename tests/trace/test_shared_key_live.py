"""`sealmq trace mqtts+psk://…`: connections with a pre-shared key, and every way in which they fail, each provoked.

The servers are our broker, Debian's mosquitto, `openssl s_server` and GnuTLS'.
"""

import contextlib
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers

from programs import finished, run_sealmq
from sealmq import trace
from sealmq.errors import ConfigError, UsageError
from sealmq.testing import EphemeralBroker
from sealmq.tls.presharedkey import Psk
from sealmq.trace.model import Trace, from_json
from sealmq.trace.request import Bounds
from sealmq.trace.tls import keylog
from sealmq.trace.tls.records import record_length

VERSIONS = ("1.2", "1.3")
SHORT = Bounds(handshake=1.0, mqtt=1.0)


@pytest.fixture(scope="module")
def broker() -> Iterator[EphemeralBroker]:
    with EphemeralBroker(psk=True) as running:
        yield running


@pytest.fixture
def url(broker: EphemeralBroker) -> str:
    return f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}"


def key_file(directory: Path, line: str) -> Path:
    file = directory / "psk.txt"
    file.write_text(f"{line}\n")
    return file


def of_broker(broker: EphemeralBroker, device: str = "small-1") -> Path:
    broker.device_psk(device)
    return broker.folder.devices_dir / device / "psk.txt"


def refused(seen: Trace, cause: str, by: str = "server") -> None:
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, by), seen.evidence
    assert "no CONNECT left this machine" in seen.not_done or not seen.url.startswith("mqtts")
    assert seen.mend


# --- what works ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_session_with_our_broker(broker: EphemeralBroker, url: str, version: str) -> None:
    seen = trace.record(url, psk=of_broker(broker), tls=version)
    assert (seen.outcome, seen.cause) == ("ok", None), seen.evidence
    assert (seen.tls.version, seen.tls.key_exchange, seen.tls.psk_identity) == (f"TLS {version}", "psk", "small-1")
    assert seen.tls.group == "P-256"
    assert (seen.proofs.right, seen.proofs.wrong, seen.proofs.unchecked) == (3 if version == "1.3" else 2, 0, 0)
    last = seen.steps[-1].state
    assert (last.shared_key, last.mqtt, last.client_certificate) == ("proven", "ended", "none")
    assert [step.message for step in seen.steps if step.who == "client"][-2:] == ["DISCONNECT", "Alert"]
    assert "a message was published and came back" in seen.summary


def test_a_key_that_was_made_anew_is_of_the_same_device(url: str, broker: EphemeralBroker) -> None:
    of_broker(broker, "small-2")
    renewed = run_sealmq("--data", broker.folder.path, "device", "renew", "small-2")
    assert renewed.returncode == 0, renewed.stderr
    done = run_sealmq("--data", broker.folder.path, "trace", url, "--as", "small-2", "--json")
    assert done.returncode == 0, done.stderr
    seen = from_json(json.loads(done.stdout))
    assert seen.tls.psk_identity == "small-2~2"
    assert any("client id small-2:trace" in step.says for step in seen.steps)


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_suites_can_be_chosen(broker: EphemeralBroker, url: str, suite: str) -> None:
    seen = trace.record(url, psk=of_broker(broker), tls="1.2", ciphers=f"{suite}:@SECLEVEL=0")
    assert seen.outcome == "ok"
    assert (seen.tls.group == "") == suite.startswith("PSK")


@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto(tmp_path: Path, version: str) -> None:
    line = f"sensor-1:{secrets.token_hex(32)}"
    with servers.mosquitto_psk(tmp_path, line) as url:
        seen = trace.record(url, psk=key_file(tmp_path, line), tls=version)
    assert (seen.outcome, seen.tls.key_exchange) == ("ok", "psk"), seen.evidence
    assert seen.proofs.wrong == seen.proofs.unchecked == 0
    if version == "1.2":
        exchange = next(step for step in seen.steps if step.message == "ServerKeyExchange")
        assert "hints at the key it wants: the plant" in exchange.says


@pytest.mark.parametrize("version", VERSIONS)
def test_gnutls(tmp_path: Path, version: str) -> None:
    line = f"sensor-1:{secrets.token_hex(32)}"
    with servers.gnutls_psk(tmp_path, line) as url:
        seen = trace.record(url, psk=key_file(tmp_path, line), tls=version)
    assert (seen.outcome, seen.tls.key_exchange) == ("ok", "psk"), seen.evidence


def test_by_the_command_of_a_device_kept_replayed_and_drawn(broker: EphemeralBroker, url: str, tmp_path: Path) -> None:
    line = of_broker(broker).read_text().strip()
    kept = {name: tmp_path / name for name in ("kept.json", "kept.pcapng", "page.html", "ladder.svg")}
    saving = ["--save", kept["kept.json"], "--save", kept["kept.pcapng"]]
    drawing = ["--html", kept["page.html"], "--svg", kept["ladder.svg"]]
    done = run_sealmq("--data", broker.folder.path, "trace", url, "--as", "small-1", *saving, *drawing, "--json")
    assert done.returncode == 0, done.stderr
    seen = from_json(json.loads(done.stdout))
    assert (seen.outcome, seen.tls.psk_identity) == ("ok", "small-1")
    again = run_sealmq("trace", "--replay", kept["kept.json"], "--json")
    assert again.stdout == done.stdout
    assert "pre-shared key proven" in kept["page.html"].read_text()
    key = line.partition(":")[2]
    for text in (done.stdout, done.stderr, *(path.read_bytes().decode("latin-1") for path in kept.values())):
        assert key not in text
    captured = kept["kept.pcapng"].read_bytes()
    assert bytes.fromhex(key) not in captured
    assert not any(label.encode() in captured for label in keylog.OWN)
    assert (kept["kept.json"].stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize("version", VERSIONS)
def test_tshark_reads_the_same(broker: EphemeralBroker, url: str, tmp_path: Path, version: str) -> None:
    kept, port = tmp_path / "kept.pcapng", broker.port_of("psk")
    of_broker(broker)
    words = ["trace", url, "--as", "small-1", "--tls", version, "--save", kept, "--json"]
    done = run_sealmq("--data", broker.folder.path, *words)
    steps = json.loads(done.stdout)["steps"]
    packets = [step["message"] for step in steps if step["message"] in ("CONNECT", "CONNACK", "SUBSCRIBE", "PUBLISH")]
    reading = ["tshark", "-r", kept, "-d", f"tcp.port=={port},tls", "-d", f"tls.port=={port},mqtt", "-Y", "mqtt"]
    read = finished(*reading, "-T", "fields", "-e", "_ws.col.Info").stdout.upper()
    assert packets == ["CONNECT", "CONNACK", "SUBSCRIBE", "PUBLISH", "PUBLISH"]
    for name, words in (("CONNECT", "CONNECT COMMAND"), ("CONNACK", "CONNECT ACK"), ("SUBSCRIBE", "SUBSCRIBE REQUEST")):
        assert read.count(words) == packets.count(name)
    assert read.count("PUBLISH MESSAGE") == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_broker_tells_the_same_handshake(broker: EphemeralBroker, url: str, version: str) -> None:
    from test_broker_side import armed

    of_broker(broker)
    with armed(broker, broker.folder.path, "--next", "--json") as waiting:
        while waiting.poll() is None:
            own = trace.record(url, psk=of_broker(broker), tls=version)
        seen = from_json(json.loads(waiting.out))
    assert (seen.outcome, seen.seat, seen.tls.psk_identity) == ("ok", "broker", "small-1")
    assert (seen.tls.cipher, seen.tls.group, seen.tls.key_exchange) == (own.tls.cipher, own.tls.group, "psk")
    assert seen.url.startswith("mqtts+psk://")
    assert seen.proofs.wrong == seen.proofs.unchecked == 0
    assert "it proved to have the pre-shared key of small-1" in seen.summary


def test_the_broker_says_which_it_was(broker: EphemeralBroker, url: str, tmp_path: Path) -> None:
    """What nobody can tell from outside stands in its own trace."""
    from test_broker_side import armed

    known = of_broker(broker).read_text().strip()
    for line, cause in (
        (f"stranger:{secrets.token_hex(32)}", "psk-unknown-identity"),
        (f"small-1:{secrets.token_hex(32)}", "psk-wrong-key"),
    ):
        with armed(broker, broker.folder.path, "--next", "--json") as waiting:
            while waiting.poll() is None:
                trace.record(url, psk=key_file(tmp_path, line), tls="1.2")
            seen = from_json(json.loads(waiting.out))
        assert (seen.outcome, seen.cause, seen.stopped_by, seen.seat) == ("failed", cause, "here", "broker")
        assert seen.tls.psk_identity == line.partition(":")[0]
        assert known.partition(":")[2] not in waiting.out


def test_beside_a_certificate(broker: EphemeralBroker, url: str) -> None:
    broker.device("sensor-1")
    words = ["--compare", broker.url, url, "--as", "sensor-1", "--psk-file", of_broker(broker), "--json"]
    done = run_sealmq("--data", broker.folder.path, "trace", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["first"]["key_exchange"], found["second"]["key_exchange"]) == ("key-agreement", "psk")
    received = next(row for row in found["rows"] if row["name"] == "bytes received in the handshake")
    assert received["difference"] < -800
    assert "client CertificateVerify" in found["only_first"]
    assert "Both sides knew a key beforehand" in found["summary"]


# --- who does not know the key ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_our_broker_makes_an_unknown_identity_and_a_wrong_key_one(
    broker: EphemeralBroker, url: str, tmp_path: Path, version: str
) -> None:
    key = of_broker(broker).read_text().strip().partition(":")[2]
    alerts = set()
    for line in (f"stranger:{key}", f"small-1:{secrets.token_hex(32)}"):
        seen = trace.record(url, psk=key_file(tmp_path, line), tls=version)
        refused(seen, "psk-refused")
        assert seen.tls.psk_identity == line.partition(":")[0]
        assert seen.steps[-1].state.shared_key == "refused"
        assert "sealmq log refusals" in seen.mend
        alerts.add(seen.evidence)
    assert len(alerts) == 1
    known = {event["cause"] for event in broker.refusals()}
    broker.wait_event("refused", cause="psk-unknown-identity")
    broker.wait_event("refused", cause="psk-wrong-key")
    assert known <= {"psk-unknown-identity", "psk-wrong-key"}


def test_a_revoked_device_is_refused_like_a_stranger() -> None:
    with EphemeralBroker(psk=True) as broker:
        file = of_broker(broker)
        assert run_sealmq("--data", broker.folder.path, "device", "revoke", "small-1").returncode == 0
        seen = trace.record(f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}", psk=file)
        broker.wait_event("refused", cause="revoked")
    refused(seen, "psk-refused")


@pytest.mark.parametrize(
    ("version", "line", "cause"),
    [
        ("1.2", "stranger:{key}", "psk-unknown-identity"),
        ("1.3", "stranger:{key}", "psk-unknown-identity"),
        ("1.2", "sensor-1:{other}", "psk-refused"),  # bad_record_mac: it could be hiding that it knows nobody
        ("1.3", "sensor-1:{other}", "psk-wrong-key"),  # a stranger gets another alert
    ],
)
def test_mosquitto_tells_them_apart_by_its_alerts(tmp_path: Path, version: str, line: str, cause: str) -> None:
    key, other = secrets.token_hex(32), secrets.token_hex(32)
    with servers.mosquitto_psk(tmp_path, f"sensor-1:{key}") as url:
        seen = trace.record(url, psk=key_file(tmp_path, line.format(key=key, other=other)), tls=version)
    refused(seen, cause)


@pytest.mark.parametrize(("version", "cause"), [("1.2", "psk-refused"), ("1.3", "psk-wrong-key")])
def test_openssl_with_another_key(tmp_path: Path, version: str, cause: str) -> None:
    with servers.s_server_psk(secrets.token_hex(32)) as port:
        file = key_file(tmp_path, f"sensor-1:{secrets.token_hex(32)}")
        refused(trace.record(f"tls+psk://127.0.0.1:{port}", psk=file, tls=version), cause)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["sensor-1", "stranger"])
def test_gnutls_hides_which_it_was(tmp_path: Path, version: str, name: str) -> None:
    with servers.gnutls_psk(tmp_path, f"sensor-1:{secrets.token_hex(32)}") as url:
        seen = trace.record(url, psk=key_file(tmp_path, f"{name}:{secrets.token_hex(32)}"), tls=version)
    refused(seen, "psk-refused")


def test_a_server_that_cannot_prove_the_key(tmp_path: Path) -> None:
    """It says that it takes the key, and what follows is not made with it."""

    def pretend(connection: socket.socket) -> None:
        hello = connection.recv(65536)
        session = hello[44 : 44 + hello[43]]
        # ServerHello with TLS_AES_128_GCM_SHA256, a share of P-256 (its base point, SEC 2) and key number 0
        point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162"
        share = bytes.fromhex(point + "bce33576b315ececbb6406837bf51f5")
        extensions = bytes.fromhex("002b00020304" + "00290002" + "0000") + b"\x00\x33\x00\x45\x00\x17\x00\x41" + share
        body = b"\x03\x03" + secrets.token_bytes(32) + bytes([len(session)]) + session + b"\x13\x01\x00"
        body += len(extensions).to_bytes(2, "big") + extensions
        message = b"\x02" + len(body).to_bytes(3, "big") + body
        connection.sendall(b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message)
        connection.sendall(b"\x17\x03\x03\x00\x40" + secrets.token_bytes(64))
        connection.recv(65536)

    with servers.raw(pretend, scheme="mqtts+psk") as url:
        seen = trace.record(url, psk=key_file(tmp_path, f"sensor-1:{secrets.token_hex(32)}"), tls="1.3", bounds=SHORT)
    refused(seen, "server-without-key", "here")
    assert seen.steps[-1].state.shared_key == "taken"


# --- keys and certificates at each other's doors ------------------------------------------------------------------


@pytest.mark.parametrize("version", [*VERSIONS, ""])
def test_a_certificate_at_our_listener_for_keys(broker: EphemeralBroker, version: str) -> None:
    files = broker.device("sensor-1")
    url = f"mqtts://127.0.0.1:{broker.port_of('psk')}"
    seen = trace.record(url, ca=files.ca, certificate=files.cert, key=files.key, tls=version)
    refused(seen, "no-pre-shared-key")
    assert seen.command == f"sealmq trace {url.replace('mqtts', 'mqtts+psk')} --psk-file FILE"
    assert "_PSK_" in seen.evidence
    broker.wait_event("refused", cause="no-pre-shared-key")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_at_the_listeners_of_others(tmp_path: Path, version: str) -> None:
    line = f"sensor-1:{secrets.token_hex(32)}"
    with contextlib.ExitStack() as stack:
        (tmp_path / "gnutls").mkdir()
        urls = [
            stack.enter_context(servers.mosquitto_psk(tmp_path, line)),
            stack.enter_context(servers.gnutls_psk(tmp_path / "gnutls", line)),
            f"tls+psk://127.0.0.1:{stack.enter_context(servers.s_server_psk(secrets.token_hex(32)))}",
        ]
        for url in urls:
            refused(trace.record(url.replace("+psk", ""), tls=version), "no-pre-shared-key")


@pytest.mark.parametrize("version", [*VERSIONS, ""])
def test_a_key_at_our_listener_for_certificates(broker: EphemeralBroker, version: str) -> None:
    seen = trace.record(f"mqtts+psk://127.0.0.1:{broker.port}", psk=of_broker(broker), tls=version)
    refused(seen, "certificate-instead-of-key", "server" if version == "1.2" else "here")
    assert seen.command == f"sealmq trace mqtts://127.0.0.1:{broker.port}"
    if version != "1.2":
        assert seen.steps[-1].state.shared_key == "passed over"
        assert seen.stopped_at == "certificate check"
        assert not seen.steps[-1].state.certificate.chain_and_name_accepted


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("serve", [servers.s_server, servers.gnutls])
def test_a_key_at_the_listeners_of_others(tmp_path: Path, version: str, serve: Callable) -> None:
    with serve(servers.rsa_2048(tmp_path)) as found:
        url = found if isinstance(found, str) else found[0]
        file = key_file(tmp_path, f"sensor-1:{secrets.token_hex(32)}")
        seen = trace.record(url.replace("tls:", "tls+psk:"), psk=file, tls=version)
    refused(seen, "certificate-instead-of-key", "server" if version == "1.2" else "here")


# --- silence at each step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stall_at_each_step(broker: EphemeralBroker, version: str) -> None:
    """A broker behind a relay that passes so many of its records on, and then none: no cut goes without a cause."""
    file = of_broker(broker)
    found = []
    for count in range(7):
        with servers.raw(_relay_of(broker.port_of("psk"), count), scheme="mqtts+psk") as url:
            seen = trace.record(url, psk=file, tls=version, bounds=Bounds(handshake=0.3, mqtt=0.3))
        found.append((seen.cause, seen.steps[-1].state.shared_key))
        assert seen.stopped_by == "server"
    if version == "1.3":  # ServerHello, ChangeCipherSpec, EncryptedExtensions, Finished, CONNACK, SUBACK
        taken = [("handshake-stalled", "taken")] * 3
        assert found[:4] == [("handshake-stalled", "shown"), *taken]
    else:  # ServerHello, ServerKeyExchange, ServerHelloDone, ChangeCipherSpec, Finished, CONNACK, SUBACK
        assert found[:3] == [("handshake-stalled", "none")] * 3
        assert found[3:5] == [("handshake-stalled", "shown"), ("handshake-stalled", "taken")]
    assert ("connack-stalled", "proven") in found


def _relay_of(port: int, count: int) -> Callable[[socket.socket], None]:
    def serve(client: socket.socket) -> None:
        import select

        left, rest = count, b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as server:
            while True:
                for one in select.select([client, server], [], [], 10)[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is client:
                        server.sendall(data)
                        continue
                    rest += data
                    while left and (size := record_length(rest)) is not None and size <= len(rest):
                        client.sendall(rest[:size])
                        left, rest = left - 1, rest[size:]

    return serve


# --- wrong usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["mqtts+psk://h"], "error: URL mqtts+psk://h:8884 is of a listener for pre-shared keys"),
        (["mqtts://h", "--psk-file", "psk.txt"], "error: pre-shared key does not go with the URL mqtts://h:8883"),
        (["mqtts+psk://h", "--psk-file", "psk.txt", "--cafile", "x"], "error: a pre-shared key and certificates"),
        (["mqtts+psk://h", "--psk-file", "psk.txt", "--as", "x"], "error: --as and --psk-file name two identities"),
        (["mqtts+psk://h", "--psk-file", "psk.txt", "--resume"], "error: --legacy, --post-quantum and --resume"),
        (["mqtts+psk://h", "--psk-file", "none.txt"], "error: file of a pre-shared key none.txt cannot be read"),
        (["mqtts+psk://h", "--psk-file", "two.txt"], "error: file of a pre-shared key two.txt holds 2 keys"),
        (["mqtts+psk://h", "--psk-file", "text.txt"], "error: pre-shared key of a is not hexadecimal digits"),
        (["mqtts+psk://h/topic", "--psk-file", "psk.txt"], "error: URL 'mqtts+psk://h/topic' has more than"),
        (["mqtts://h", "--post-quantum", "--tls", "1.2"], "error: --post-quantum takes TLS 1.3"),
    ],
)
def test_wrong_usage_is_one_line_and_a_mend(args: list[str], message: str, tmp_path: Path) -> None:
    for name, text in (("psk.txt", f"a:{'11' * 32}\n"), ("two.txt", "a:11\nb:22\n"), ("text.txt", "a:my secret\n")):
        (tmp_path / name).write_text(text)
    done = run_sealmq("trace", *args, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith(message)
    assert lines[1].startswith("mend: ")
    assert len(lines) == 2
    assert "secret" not in done.stderr
    assert "11" * 32 not in done.stderr


def test_a_device_without_a_key_is_said(broker: EphemeralBroker, url: str) -> None:
    broker.device("sensor-1")
    done = run_sealmq("--data", broker.folder.path, "trace", url, "--as", "sensor-1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: device sensor-1 has no pre-shared key in ")


def test_a_key_prints_without_itself(tmp_path: Path) -> None:
    file = key_file(tmp_path, f"sensor:1:{'ab' * 32}")
    found = Psk.read(file)
    assert (found.identity, found.key) == ("sensor:1", b"\xab" * 32)
    assert "ab" * 8 not in repr(found)
    several = key_file(tmp_path, f"# the plant\na:{'11' * 32}\nb:{'22' * 32}")
    assert Psk.read(several, identity="b").key == b"\x22" * 32
    for line in ("", "sensor-1", ":abcd", "sensor-1:", "sensor-1:abc", f"{'x' * 129}:abcd", "a\0b:abcd"):
        with pytest.raises(ConfigError) as caught:
            Psk.read(key_file(tmp_path, line))
        assert caught.value.code == "psk-invalid"
    with pytest.raises(ConfigError):  # shorter than the engine takes
        trace.record("mqtts+psk://127.0.0.1:1", psk=key_file(tmp_path, "sensor-1:abcd"))
    with pytest.raises(UsageError):
        trace.record("mqtts://127.0.0.1:1", psk=key_file(tmp_path, f"sensor-1:{'ab' * 32}"))
