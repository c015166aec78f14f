"""openssl s_client and gnutls-cli as MQTT clients: a handshake of theirs, then a CONNECT written by hand."""

from __future__ import annotations

import re
import subprocess

import pytest

from programs import PATIENCE, Program, finished

CONNACK_V311 = bytes.fromhex("20020000")


def connect_packet(client_id: str, *, level: int) -> bytes:
    """CONNECT with clean start and a keep-alive of 60 s (section 3.1)."""
    name = client_id.encode()
    body = b"\x00\x04MQTT" + bytes([level, 0x02, 0, 60]) + (b"\x00" if level == 5 else b"")
    body += len(name).to_bytes(2, "big") + name
    return b"\x10" + bytes([len(body)]) + body


@pytest.fixture(params=["1.2", "1.3"])
def tls_version(request):
    return request.param


def exchange(words: list[object], packet: bytes) -> bytes:
    """Send `packet` through a TLS client and return what the broker answered until it has closed."""
    disconnect = bytes.fromhex("e000")
    done = subprocess.run(
        [str(word) for word in words], input=packet + disconnect, capture_output=True, timeout=PATIENCE
    )
    return done.stdout


def test_openssl_speaks_mqtt(broker, files, device, tls_version, version):
    words = ["openssl", "s_client", "-connect", f"localhost:{broker.port}", "-servername", "localhost"]
    words += ["-CAfile", files.ca, "-cert", files.cert, "-cert_chain", files.cert, "-key", files.key]
    words += ["-verify_return_error", "-verify_hostname", "localhost", "-quiet", f"-tls{tls_version.replace('.', '_')}"]
    answer = exchange(words, connect_packet(device, level=version))
    if version == 4:
        assert answer == CONNACK_V311
    else:
        assert (answer[0], answer[2:4]) == (0x20, b"\x00\x00")  # CONNACK: no session, success
    seen = broker.wait_event("connected", client_id=device)
    assert seen["tls"]["version"] == f"TLS {tls_version}"
    assert seen["protocol"] == ("5.0" if version == 5 else "3.1.1")
    assert broker.wait_event("disconnected", client_id=device)["cause"] == "client-disconnect"


def test_handshake_messages_in_many_small_records(broker, files, device, tls_version):
    """A client with little memory: its Certificate message is cut into records of 512 bytes."""
    words = ["openssl", "s_client", "-connect", f"localhost:{broker.port}", "-CAfile", files.ca, "-quiet"]
    words += ["-cert", files.cert, "-cert_chain", files.cert, "-key", files.key, "-max_send_frag", "512"]
    assert exchange([*words, f"-tls{tls_version.replace('.', '_')}"], connect_packet(device, level=4)) == CONNACK_V311


def test_openssl_says_what_was_negotiated(broker, files, tls_version):
    words = ["openssl", "s_client", "-connect", f"localhost:{broker.port}", "-CAfile", files.ca, "-alpn", "mqtt"]
    words += ["-cert", files.cert, "-key", files.key, f"-tls{tls_version.replace('.', '_')}", "-brief"]
    done = finished(*words, stdin="")
    said = done.stdout + done.stderr
    assert "Verification: OK" in said
    assert f"Protocol version: TLSv{tls_version}" in said
    assert re.search(r"Ciphersuite: .*(GCM|CHACHA20)", said)


def test_openssl_sees_the_whole_chain_and_alpn(broker, files):
    words = ["openssl", "s_client", "-connect", f"localhost:{broker.port}", "-CAfile", files.ca, "-showcerts"]
    done = finished(*words, "-cert", files.cert, "-key", files.key, "-alpn", "mqtt", stdin="")
    assert "Verify return code: 0 (ok)" in done.stdout
    assert "ALPN protocol: mqtt" in done.stdout
    assert done.stdout.count("BEGIN CERTIFICATE") >= 2  # the leaf and its issuing CA; the root the client has


@pytest.mark.parametrize("priority", ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"])
def test_gnutls_speaks_mqtt(broker, files, device, priority, version):
    words = ["gnutls-cli", "--port", broker.port, "--x509cafile", files.ca, "--x509certfile", files.cert]
    words += ["--x509keyfile", files.key, "--priority", priority, "--logfile", "/dev/null", "localhost"]
    answer = exchange(words, connect_packet(device, level=version))
    if version == 4:
        assert answer == CONNACK_V311
    else:
        assert (answer[0], answer[2:4]) == (0x20, b"\x00\x00")
    tls = broker.wait_event("connected", client_id=device)["tls"]
    assert tls["version"] == f"TLS {priority[-3:]}"


def test_gnutls_verifies_the_name(broker, files):
    words = ["gnutls-cli", "--port", broker.port, "--x509cafile", files.ca, "--x509certfile", files.cert]
    words += ["--x509keyfile", files.key, "--verify-hostname", "broker.example", "localhost"]
    done = finished(*words, stdin="")
    assert done.returncode != 0
    assert "does not match" in done.stdout


def test_an_established_s_client_gets_messages(broker, files, device):
    """What a person sees who types at `openssl s_client`: bytes of MQTT both ways on one connection."""
    words = ["openssl", "s_client", "-connect", f"localhost:{broker.port}", "-CAfile", files.ca, "-quiet"]
    topic = f"devices/{device}/x".encode()
    subscribe = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x00"
    publish = len(topic).to_bytes(2, "big") + topic + b"line by hand\n"
    with Program(*words, "-cert", files.cert, "-key", files.key) as client:
        client.send(connect_packet(device, level=4))
        client.send(b"\x82" + bytes([len(subscribe)]) + subscribe)
        client.send(b"\x30" + bytes([len(publish)]) + publish)
        client.expect(r"line by hand$")
        client.send(b"\xe0\x00")
        client.wait()
