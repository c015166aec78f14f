"""Contexts with the policy: real handshakes in memory, and files refused before one. Knows nothing of MQTT."""

import socket
import ssl
import warnings
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import serialization

from sealmq.errors import ConfigError, LocalMisuse
from sealmq.testing import Fault, ThrowawayCA
from sealmq.tls import ClientCertificate, client_context, policy, server_context


@pytest.fixture(scope="module")
def ca():
    return ThrowawayCA()


@dataclass
class Pair:
    client: ssl.SSLObject
    server: ssl.SSLObject


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> Pair:
    """Both sides of a handshake through two memory buffers each, until both are done; what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    pair = Pair(
        client.wrap_bio(to_client, to_server, server_side=False, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = [pair.client, pair.server]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return pair
    raise AssertionError("the handshake does not end")


@pytest.fixture
def device(ca, tmp_path):
    return ca.issue_client("sensor-1").write(tmp_path / "device")


@pytest.fixture
def broker(ca, tmp_path):
    return ca.issue_server().write(tmp_path / "broker")


@pytest.fixture
def server(broker):
    return server_context(certificate=broker.cert, key=broker.key, client_ca=broker.ca)


@pytest.fixture
def client(device):
    return client_context(ca=device.ca, certificate=device.cert, key=device.key)


def test_mutual_tls_13_by_default(client, server):
    pair = handshake(client, server)
    assert pair.client.version() == "TLSv1.3"
    subject = dict(entry[0] for entry in pair.server.getpeercert()["subject"])
    assert subject["commonName"] == "sensor-1"
    assert ("URI", "spiffe://fleet-test/device/sensor-1") in pair.server.getpeercert()["subjectAltName"]


def test_tls_12_still_works_with_aead_and_ephemeral_keys(client, server):
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    pair = handshake(client, server)
    assert pair.client.version() == "TLSv1.2"
    assert pair.client.cipher()[0] in policy.TLS12_CIPHERS


def test_nothing_but_the_policy_is_offered(client, server):
    for context in (client, server):
        offered = {cipher["name"] for cipher in context.get_ciphers()}
        assert offered == {*policy.TLS12_CIPHERS, *policy.TLS13_CIPHERS}
        assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def old_client(ca_file):
    context = ssl.create_default_context(cafile=ca_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_tls_11_is_refused(server, device):
    with pytest.raises(ssl.SSLError, match=r"(?i)version|unsupported"):
        handshake(old_client(device.ca), server)


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0", "AES128-GCM-SHA256:@SECLEVEL=0"])
def test_cbc_and_rsa_key_transport_are_refused(server, device, ciphers):
    context = ssl.create_default_context(cafile=device.ca)
    context.set_ciphers(ciphers)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)cipher|handshake failure"):
        handshake(context, server)


# --- who is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.EXPIRED, "certificate has expired"),
        (Fault.NOT_YET_VALID, "not yet valid"),
        (Fault.WRONG_USAGE, "unsuitable certificate purpose|unsupported certificate purpose"),
        (Fault.OTHER_CA, "certificate signature failure|unable to get local issuer"),
        (Fault.SELF_SIGNED, "self.signed certificate"),
        (Fault.MISSING_INTERMEDIATE, "unable to get local issuer"),
        (Fault.WRONG_NAME, "Hostname mismatch"),
        (Fault.COMMON_NAME_ONLY, "Hostname mismatch"),
    ],
)
def test_a_client_refuses_a_faulty_server(ca, client, tmp_path, fault, words):
    faulty = ca.issue_server("localhost", fault=fault).write(tmp_path / "faulty")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(faulty.cert, faulty.key)
    with pytest.raises(ssl.SSLCertVerificationError, match=words):
        handshake(client, server)


@pytest.mark.parametrize(
    "fault", [Fault.EXPIRED, Fault.NOT_YET_VALID, Fault.WRONG_USAGE, Fault.OTHER_CA, Fault.SELF_SIGNED]
)
def test_a_server_refuses_a_faulty_client(ca, server, device, tmp_path, fault):
    faulty = ca.issue_client("sensor-1", fault=fault).write(tmp_path / "faulty")
    client = ssl.create_default_context(cafile=device.ca)
    client.load_cert_chain(faulty.cert, faulty.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server)


def test_a_device_that_sends_its_leaf_alone_is_accepted(ca, server, tmp_path):
    alone = ca.issue_client("sensor-1", fault=Fault.MISSING_INTERMEDIATE).write(tmp_path / "alone")
    assert handshake(client_context(ca=alone.ca, certificate=alone.cert, key=alone.key), server).server.getpeercert()


def test_a_client_without_certificate(broker, device, server):
    bare = client_context(ca=device.ca)
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(bare, server)
    optional = server_context(
        certificate=broker.cert, key=broker.key, client_ca=broker.ca, client_certificate=ClientCertificate.OPTIONAL
    )
    assert handshake(bare, optional).server.getpeercert() is None
    without = server_context(certificate=broker.cert, key=broker.key, client_certificate=ClientCertificate.NONE)
    assert handshake(bare, without).client.version() == "TLSv1.3"


def test_optional_still_refuses_a_bad_certificate(ca, broker, device, tmp_path):
    optional = server_context(
        certificate=broker.cert, key=broker.key, client_ca=broker.ca, client_certificate=ClientCertificate.OPTIONAL
    )
    faulty = ca.issue_client(fault=Fault.OTHER_CA).write(tmp_path / "faulty")
    client = client_context(ca=device.ca, certificate=faulty.cert, key=faulty.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, optional)


def test_the_name_cannot_be_left_out(client):
    with socket.socket() as plain, pytest.raises(ValueError, match="server_hostname"):
        client.wrap_socket(plain)


def test_an_address_is_a_name_too(client, server):
    assert handshake(client, server, name="127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(client, server, name="192.0.2.7")


# --- files refused before a handshake ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.EXPIRED, "certificate-expired"),
        (Fault.NOT_YET_VALID, "certificate-not-yet-valid"),
        (Fault.WRONG_USAGE, "certificate-usage"),
    ],
)
def test_a_certificate_that_no_peer_would_accept(ca, device, broker, tmp_path, fault, code):
    mine = ca.issue_client(fault=fault).write(tmp_path / "mine")
    with pytest.raises(ConfigError) as caught:
        client_context(ca=device.ca, certificate=mine.cert, key=mine.key)
    assert (caught.value.code, bool(caught.value.mend)) == (code, True)
    assert str(mine.cert) in caught.value.message
    theirs = ca.issue_server(fault=fault).write(tmp_path / "theirs")
    with pytest.raises(ConfigError) as caught:
        server_context(certificate=theirs.cert, key=theirs.key, client_ca=broker.ca)
    assert caught.value.code == code


def test_a_key_of_another_certificate(ca, device, tmp_path):
    other = ca.issue_client("other").write(tmp_path / "other")
    with pytest.raises(ConfigError) as caught:
        client_context(ca=device.ca, certificate=device.cert, key=other.key)
    assert caught.value.code == "key-mismatch"
    assert str(other.key) in caught.value.message


def test_a_key_under_a_passphrase_is_named_and_not_asked_for(device):
    key = serialization.load_pem_private_key(device.key.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(b"passphrase")
    device.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
    with pytest.raises(ConfigError) as caught:
        client_context(ca=device.ca, certificate=device.cert, key=device.key)
    assert caught.value.code == "key-encrypted"


@pytest.mark.parametrize(
    ("which", "damage", "code"),
    [
        ("ca", "gone", "file-unreadable"),
        ("cert", "gone", "file-unreadable"),
        ("key", "gone", "file-unreadable"),
        ("ca", "garbage", "certificate-invalid"),
        ("cert", "garbage", "certificate-invalid"),
        ("key", "garbage", "key-invalid"),
        ("ca", "empty", "certificate-invalid"),
        ("key", "empty", "key-invalid"),
    ],
)
def test_files_that_are_missing_or_something_else(device, which, damage, code):
    path = getattr(device, which)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" if damage == "garbage" else b"")
    with pytest.raises(ConfigError) as caught:
        client_context(ca=device.ca, certificate=device.cert, key=device.key)
    assert (caught.value.code, bool(caught.value.mend)) == (code, True)
    assert str(path) in caught.value.message


def test_key_and_certificate_in_one_file(device, server):
    device.cert.write_bytes(device.cert.read_bytes() + device.key.read_bytes())
    assert handshake(client_context(ca=device.ca, certificate=device.cert), server)


def test_contradictions_are_the_callers_fault(device, broker):
    with pytest.raises(LocalMisuse):
        client_context(ca=device.ca, key=device.key)
    with pytest.raises(LocalMisuse):
        server_context(certificate=broker.cert, key=broker.key)
    with pytest.raises(LocalMisuse):
        server_context(
            certificate=broker.cert, key=broker.key, client_ca=broker.ca, client_certificate=ClientCertificate.NONE
        )


def test_an_issuing_ca_may_be_the_anchor(ca, client, broker, tmp_path):
    (tmp_path / "anchor.pem").write_bytes(
        ca.client_ca_pem.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    )
    server = server_context(certificate=broker.cert, key=broker.key, client_ca=tmp_path / "anchor.pem")
    assert handshake(client, server).server.getpeercert()
