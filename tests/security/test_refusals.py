"""Owns the causes of a refusal up to the end of the handshake: a real client provokes each, its record is checked.

Refuses to know MQTT; what is refused once CONNECT has come is in `test_refused_connects`.
"""

import gc
import json
import os
import socket
import ssl
import struct
from dataclasses import replace

import paho.mqtt.client as paho
import pytest
import raw_mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from raw_mqtt import Wire
from stock_clients import gnutls_cli, mosquitto_pub, run, s_client

from sealmq.pki import profiles, signing
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA

BOTH = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


# --- certificates -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("fault", "cause", "alert", "words"),
    [
        (Fault.OTHER_CA, "untrusted-issuer", 48, "was not issued by a CA that this broker trusts"),
        (Fault.SELF_SIGNED, "untrusted-issuer", 48, "was not issued by a CA that this broker trusts"),
        (Fault.EXPIRED, "certificate-expired", 45, "has expired: valid from"),
        (Fault.NOT_YET_VALID, "certificate-not-yet-valid", 45, "is not valid yet: valid from"),
        (Fault.WRONG_USAGE, "certificate-wrong-purpose", 43, "extended key usage lacks clientAuth"),
    ],
    ids=lambda value: value.value if isinstance(value, Fault) else None,
)
def test_a_certificate_that_does_not_hold(broker, ca, refusal, tmp_path, version, fault, cause, alert, words):
    shown = ca.issue_client("sensor-1", fault=fault)
    ended = s_client(broker.port, version, files=shown.write(tmp_path / "client"), stdin=raw_mqtt.connect("sensor-1"))
    assert ended.alert == alert  # RFC 8446 section 6.2; in TLS 1.3 it comes after the client thinks it is done
    assert ended.status == 1
    record = refusal(broker, cause, stage="certificate")
    assert words in record["summary"]
    leaf = shown.certificate
    facts = record["certificate"]
    assert facts["subject"] == "CN=sensor-1"
    assert facts["issuer"] == leaf.issuer.rfc4514_string()
    assert int(facts["serial"], 16) == leaf.serial_number
    assert facts["not_before"] == f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert facts["not_after"] == f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert facts["device"] == "sensor-1"
    assert facts["serial"] in record["summary"]
    assert record["hello"]["versions"] == ["TLS 1.2" if version == "-tls1_2" else "TLS 1.3"]
    assert facts["serial"] in broker.log_text


def test_a_ca_of_another_name(broker, refusal, tmp_path):
    files = ThrowawayCA(fleet="fleet-other").issue_client("sensor-1").write(tmp_path / "client")
    ended = mosquitto_pub(broker.port, files=files, ca=broker.device("sensor-1").ca)
    assert ended.status != 0
    record = refusal(broker, "untrusted-issuer", stage="certificate")
    assert record["certificate"]["issuer"] == "CN=fleet-other Devices 1"
    assert "tls.client_ca" in record["mend"]


@BOTH
def test_no_client_certificate(broker, refusal, version):
    ended = s_client(broker.port, version, ca=broker.device("sensor-1").ca, stdin=raw_mqtt.connect("sensor-1"))
    assert ended.alert == 116  # certificate_required
    record = refusal(broker, "no-client-certificate", stage="certificate")
    assert record["certificate"] is None
    assert record["hello"]["ciphers"]
    assert "sealmq device add" in record["mend"]


def test_no_client_certificate_tells_mosquitto_pub(broker, refusal):
    ended = mosquitto_pub(broker.port, ca=broker.device("sensor-1").ca)
    assert ended.status != 0
    refusal(broker, "no-client-certificate", stage="certificate")


def test_no_client_certificate_tells_python(broker, refusal):
    context = raw_mqtt.client_context(None, ca=broker.device("sensor-1").ca)
    with (
        Wire.open(broker.port, None, context=context) as wire,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
    ):
        wire.packet()
    refusal(broker, "no-client-certificate", stage="certificate")


def test_no_client_certificate_tells_curl(broker, refusal):
    ca = broker.device("sensor-1").ca
    ended = run("curl", "-sS", "--max-time", "10", "--no-alpn", "--cacert", ca, f"https://127.0.0.1:{broker.port}/")
    assert (ended.status, "alert certificate required" in ended.text) == (56, True), ended.text
    refusal(broker, "no-client-certificate", stage="certificate")


def test_the_leaf_alone_is_enough_when_the_broker_knows_its_issuer(broker, ca, tmp_path):
    files = ca.issue_client("sensor-1", fault=Fault.MISSING_INTERMEDIATE).write(tmp_path / "client")
    Wire.join(broker.port, files, "sensor-1").close()
    assert broker.refusals() == []


def _chain_of_servers(ca):
    """A client certificate from the issuing CA for servers, which chains up to the same root."""
    return ca._servers, [ca._servers.certificate]


def _chain_of_a_device(ca):
    """A certificate that device sensor-9 signed with its own key."""
    device = ca.issue_client("sensor-9")
    key = serialization.load_pem_private_key(device.key_pem, None)
    return signing.Issuer(device.certificate, key), [device.certificate, ca._devices.certificate]


@pytest.mark.parametrize("issuer", [_chain_of_servers, _chain_of_a_device])
def test_an_issuer_that_may_not_issue_devices(broker, ca, refusal, tmp_path, issuer):
    signer, above = issuer(ca)
    key = signing.new_key()
    leaf = signing.sign_leaf(
        profiles.device_profile("default"),
        issuer=signer,
        public_key=key.public_key(),
        common_name="sensor-1",
        names=[x509.UniformResourceIdentifier("spiffe://fleet-test/device/sensor-1")],
        now=signing.utc_now(),
    )
    forged = replace(
        ca.issue_client(), cert_pem=signing.certificate_pem(leaf, *above), key_pem=signing.key_pem(key)
    ).write(tmp_path / "forged")
    ended = s_client(broker.port, "-tls1_3", files=forged, stdin=raw_mqtt.connect("sensor-1"))
    assert ended.alert is not None
    (record,) = [broker.wait_event("refused")]
    refusal(broker, record["cause"], stage="certificate")
    assert record["cause"] in ("certificate-wrong-purpose", "certificate-invalid", "untrusted-issuer")
    assert not [event for event in broker.events() if event.get("device") == "sensor-1"]


def test_the_certificate_of_the_broker_is_none_of_a_device(broker, ca, refusal, tmp_path):
    files = ca.issue_server().write(tmp_path / "server")
    shown = s_client(broker.port, files=files, ca=broker.device("x").ca, stdin=raw_mqtt.connect("fleet-test broker"))
    assert shown.alert == 43
    refusal(broker, "certificate-wrong-purpose", stage="certificate")


# --- what is not TLS ----------------------------------------------------------------------------------------------


def test_plaintext_mqtt(broker, refusal):
    ended = mosquitto_pub(broker.port)
    assert (ended.status != 0, "connection was lost" in ended.text) == (True, True), ended.text
    record = refusal(broker, "plaintext-mqtt", stage="client-hello")
    assert record["summary"] == "peer speaks MQTT without TLS"
    assert "mqtts://" in record["mend"]
    assert record["hello"] is None
    assert record["certificate"] is None


def test_plaintext_http(broker, refusal):
    ended = run("curl", "-sS", "--max-time", "10", f"http://127.0.0.1:{broker.port}/")
    assert ended.status == 52, ended.text  # empty reply
    record = refusal(broker, "plaintext-http", stage="client-hello")
    assert record["summary"] == "peer speaks HTTP without TLS"
    assert "https://" in record["mend"]


def test_ssh(broker, refusal):
    options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "UserKnownHostsFile=/dev/null")
    ended = run("ssh", *options, "-p", str(broker.port), "127.0.0.1", "true")
    assert ended.status == 255
    assert refusal(broker, "ssh", stage="client-hello")["summary"] == "peer speaks SSH"


def test_noise(broker, refusal):
    with socket.create_connection(("127.0.0.1", broker.port)) as peer:
        peer.sendall(b"\x00\x01\x02\x03 nothing anyone knows")
        assert peer.recv(100) == b""
    assert "00 01 02 03" in refusal(broker, "not-tls", stage="client-hello")["summary"]


def test_port_scan(broker, refusal):
    socket.create_connection(("127.0.0.1", broker.port)).close()
    record = refusal(broker, "port-scan", stage="tcp")
    assert "without sending anything" in record["summary"]
    assert record["hello"] is None


def test_half_a_client_hello_and_gone(broker, refusal):
    with socket.create_connection(("127.0.0.1", broker.port)) as peer:
        peer.sendall(_client_hello()[:100])
    record = refusal(broker, "client-hello-incomplete", stage="client-hello")
    assert "100 bytes" in record["summary"]


# --- nothing in common --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "name"), [("-tls1_1", "TLS 1.1"), ("-tls1", "TLS 1.0")])
def test_tls_version_too_old(broker, refusal, version, name):
    files = broker.device("sensor-1")
    ended = s_client(broker.port, version, "-cipher", "DEFAULT@SECLEVEL=0", files=files)
    assert (ended.status, ended.alert) == (1, 70)  # protocol_version
    record = refusal(broker, "tls-version-too-old", stage="handshake")
    assert record["summary"].startswith(f"client offers {name} at most")
    assert record["hello"]["versions"] == [name]
    assert "TLS 1.2 or 1.3" in record["mend"]
    assert record["certificate"] is None


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        (("-tls1_2", "-cipher", "AES128-SHA"), "TLS_RSA_WITH_AES_128_CBC_SHA"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"), "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
        (("-tls1_2", "-cipher", "AES128-GCM-SHA256"), "TLS_RSA_WITH_AES_128_GCM_SHA256"),
        (("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"), "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
        (("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"), "TLS_AES_128_CCM_8_SHA256"),
    ],
    ids=["rsa-cbc", "ecdhe-cbc", "rsa-key-exchange", "finite-field", "tls13-ccm8"],
)
def test_no_common_cipher(broker, refusal, options, offered):
    ended = s_client(broker.port, *options, files=broker.device("sensor-1"))
    assert (ended.status, ended.alert) == (1, 40)  # handshake_failure
    record = refusal(broker, "no-common-cipher", stage="handshake")
    assert record["summary"].endswith(f"only {offered}")
    assert record["hello"]["ciphers"][0] == offered
    assert "AES-GCM" in record["mend"]


@pytest.mark.parametrize(("version", "group"), [("-tls1_2", "X448"), ("-tls1_3", "P-521")])
def test_no_common_group(broker, refusal, version, group):
    ended = s_client(broker.port, version, "-groups", group, files=broker.device("sensor-1"))
    assert (ended.status, ended.alert) == (1, 40)
    record = refusal(broker, "no-common-group", stage="handshake")
    assert record["hello"]["groups"] == ["x448" if group == "X448" else "secp521r1"]
    assert "X25519 or P-256" in record["mend"]


def test_no_common_alpn(broker, refusal):
    ended = s_client(broker.port, "-alpn", "h2,http/1.1", files=broker.device("sensor-1"))
    assert (ended.status, ended.alert) == (1, 120)  # no_application_protocol, RFC 7301
    record = refusal(broker, "no-common-alpn", stage="handshake")
    assert record["hello"]["alpn"] == ["h2", "http/1.1"]
    assert "ALPN" in record["mend"]


def test_an_offer_without_end_is_not_kept_whole(broker, refusal):
    """Thousands of suites in one ClientHello: the record names the first of them."""
    suites = b"".join(struct.pack(">H", 0x6000 + n) for n in range(7000))
    body = b"\x03\x03" + bytes(32) + b"\x00" + struct.pack(">H", len(suites)) + suites + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3) + body
    with socket.create_connection(("127.0.0.1", broker.port)) as peer:
        peer.settimeout(raw_mqtt.SECONDS)
        peer.sendall(b"\x16\x03\x01" + struct.pack(">H", len(message)) + message)
        assert peer.recv(100)[5:] == b"\x02\x28"  # handshake_failure
    record = refusal(broker, "no-common-cipher", stage="handshake")
    assert len(record["hello"]["ciphers"]) == 64
    assert len(json.dumps(record)) < 10_000


# --- the client refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["openssl -tls1_2", "openssl -tls1_3", "mosquitto_pub", "python"])
def test_client_distrusts_broker(broker, refusal, tmp_path, client):
    files = broker.device("sensor-1")
    other = ThrowawayCA(fleet="fleet-other").issue_client().write(tmp_path / "other").ca
    if client == "python":
        with pytest.raises(ssl.SSLCertVerificationError):
            Wire.open(broker.port, files, context=_distrusting(files, other))
    elif client == "mosquitto_pub":
        assert "A TLS error occurred" in mosquitto_pub(broker.port, files=files, ca=other).text
    else:
        assert s_client(broker.port, client.split()[1], "-verify_return_error", files=files, ca=other).status == 1
    record = refusal(broker, "client-distrusts-broker", stage="handshake")
    assert "unknown_ca" in record["summary"]
    assert "sealmq ca export" in record["mend"]
    assert record["certificate"] is None
    assert record["hello"]["versions"]


def test_gnutls_does_not_say_what_it_dislikes(broker, refusal, tmp_path):
    other = ThrowawayCA(fleet="fleet-other").issue_client().write(tmp_path / "other").ca
    assert gnutls_cli(broker.port, files=broker.device("sensor-1"), ca=other).status == 1
    record = refusal(broker, "client-refused-broker-certificate", stage="handshake")
    assert "BadCertificate" in record["summary"]


def test_client_finds_another_name_in_the_certificate(broker, refusal):
    options = ("-verify_return_error", "-verify_hostname", "broker.example")
    ended = s_client(broker.port, *options, files=broker.device("sensor-1"))
    assert (ended.status, "hostname mismatch" in ended.text) == (1, True)
    record = refusal(broker, "client-refused-broker-certificate", stage="handshake")
    assert "tls.extra_names" in record["mend"]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves its socket to the collector
def test_paho_finds_another_name_in_the_certificate(refusal):
    with EphemeralBroker(ca=_NamedElsewhere()) as broker:
        files = broker.device("sensor-1")
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sensor-1")
        client.tls_set(files.ca, files.cert, files.key)
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            client.connect("127.0.0.1", broker.port)
        del client
        gc.collect()
        refusal(broker, "client-refused-broker-certificate", stage="handshake", witnessed=False)


def test_mosquitto_pub_finds_another_name_in_the_certificate(refusal):
    with EphemeralBroker(ca=_NamedElsewhere()) as broker:
        ended = mosquitto_pub(broker.port, files=broker.device("sensor-1"))
        assert (ended.status != 0, "A TLS error occurred" in ended.text) == (True, True), ended.text
        refusal(broker, "client-refused-broker-certificate", stage="handshake", witnessed=False)


def test_client_goes_in_the_middle_of_the_handshake(broker, refusal):
    with socket.create_connection(("127.0.0.1", broker.port)) as peer:
        peer.settimeout(raw_mqtt.SECONDS)
        peer.sendall(_client_hello())
        assert peer.recv(65536)[:1] == b"\x16"  # ServerHello
    record = refusal(broker, "closed-during-handshake", stage="handshake")
    assert "without an alert" in record["summary"]
    assert record["hello"]["server_name"] == "broker.example"


# --- stalled ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "stage", "words"),
    [
        (0, "client-hello", "peer sent 0 bytes"),
        (50, "client-hello", "peer sent 50 bytes"),
        (None, "handshake", "TLS handshake did not end"),
    ],
    ids=["silent", "half-client-hello", "after-server-hello"],
)
def test_handshake_stalled(ca, refusal, length, stage, words):
    with EphemeralBroker(ca=ca, limits={"handshake_timeout_ms": 300}) as broker:
        with socket.create_connection(("127.0.0.1", broker.port)) as peer:
            peer.settimeout(raw_mqtt.SECONDS)
            peer.sendall(_client_hello()[:length])
            while peer.recv(65536):  # until the broker has had enough
                pass
        record = refusal(broker, "handshake-stalled", stage=stage)
        assert words in record["summary"]
        assert "limits.handshake_timeout_ms" in record["summary"]
        assert (record["hello"] is None) == (stage == "client-hello")


def test_handshake_one_byte_at_a_time(ca, refusal):
    """Each byte arrives in time, the whole does not: the deadline is for the handshake and not for the next byte."""
    with EphemeralBroker(ca=ca, limits={"handshake_timeout_ms": 300}) as broker:
        with socket.create_connection(("127.0.0.1", broker.port)) as peer:
            peer.settimeout(0.05)  # the pause between two bytes, and the ear for the end
            sent = 0
            for byte in _client_hello():
                peer.send(bytes([byte]))
                sent += 1
                try:
                    if not peer.recv(1):
                        break
                except TimeoutError:
                    continue
            assert sent < 20
        record = refusal(broker, "handshake-stalled", stage="client-hello")
        assert 2 <= int(record["summary"].split()[2]) <= sent


# --- tools --------------------------------------------------------------------------------------------------------


class _NamedElsewhere(ThrowawayCA):
    """Its server certificates are for another host."""

    def issue_server(self, *hosts, fault=None):
        assert fault is None
        return super().issue_server(*hosts, fault=Fault.WRONG_NAME)


def _distrusting(files: raw_mqtt.Credentials, ca: os.PathLike[str]) -> ssl.SSLContext:
    context = raw_mqtt.client_context(None, ca=ca)
    context.load_cert_chain(files.cert, files.key)
    return context


def _client_hello() -> bytes:
    """The first flight of Python's TLS for broker.example."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="broker.example")
    with pytest.raises(ssl.SSLWantReadError):
        machine.do_handshake()
    return outgoing.read()
