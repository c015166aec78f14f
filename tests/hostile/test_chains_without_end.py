"""More certificates than anybody needs: to look for a path through all of them takes seconds, and none need be signed.

Eight of the same name on each of six levels, each as if issued by the next level, none by a trusted CA: a library that
tries them all checks no signature and counts none against its bound.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from programs import Program, run_sealmq
from sealmq.testing import EphemeralBroker, ThrowawayCA
from security import raw_mqtt

LEVELS, WIDTH = 6, 8
MOST = 5  # beside the leaf
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
    """PEM; signed with `KEY`, whoever the issuer is."""
    subject_name, issuer_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer_name, subject_name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    signed = builder.add_extension(extension, critical=True).sign(KEY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def leaf(purpose: x509.ObjectIdentifier) -> bytes:
    return certificate("sensor-1", "level 0", KEY, x509.ExtendedKeyUsage([purpose]))


def levels() -> list[bytes]:
    ca = x509.BasicConstraints(ca=True, path_length=None)
    return [
        certificate(f"level {level}", f"level {level + 1}", ec.generate_private_key(ec.SECP256R1()), ca)
        for level in range(LEVELS)
        for _ in range(WIDTH)
    ]


@pytest.fixture
def files(tmp_path):
    """Writes a chain and its key; their paths."""

    def write(*chain: bytes):
        (tmp_path / "chain.pem").write_bytes(b"".join(chain))
        key = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "key.pem").write_bytes(key)
        return tmp_path / "chain.pem", tmp_path / "key.pem"

    return write


@pytest.mark.parametrize(
    ("count", "cause"),
    [(MOST, "untrusted-issuer"), (MOST + 1, "certificate-chain-too-long"), (None, "certificate-chain-too-long")],
)
def test_of_a_client(files, count, cause):
    chain, key = files(leaf(ExtendedKeyUsageOID.CLIENT_AUTH), *levels()[:count])
    with EphemeralBroker() as broker:
        good = broker.device("good")
        context = raw_mqtt.client_context(None, ca=good.ca)
        context.load_cert_chain(chain, key)
        with raw_mqtt.Wire.join(broker.port, good, "good") as inside:
            with pytest.raises((ssl.SSLError, ConnectionError)), raw_mqtt.dial(broker.port, context) as refused:
                refused.recv(1)  # in TLS 1.3 the client thinks that it is done
            record = broker.wait_event("refused", cause=cause)
            inside.round_trip()
    assert record["stage"] == "certificate"
    assert record["mend"]


def test_of_a_client_that_sends_along_what_is_right(tmp_path):
    """The chain of a device with everything up to the root, and of the broker's CA too."""
    ca = ThrowawayCA()
    made = ca.issue_client("sensor-1").write(tmp_path)
    made.cert.write_bytes(made.cert.read_bytes() + ca.root_pem + made.ca.read_bytes())
    with EphemeralBroker(ca=ca) as broker:
        context = raw_mqtt.client_context(made, ca=broker.device("other").ca)
        with raw_mqtt.Wire.open(broker.port, made, context=context) as wire:
            wire.send(raw_mqtt.connect("sensor-1"))
            assert wire.packet().body[1] == 0


def test_of_a_server(files, tmp_path):
    chain, key = files(leaf(ExtendedKeyUsageOID.SERVER_AUTH), *levels())
    own = ThrowawayCA().issue_client("sensor-1").write(tmp_path / "own")
    words = ["-cert", chain, "-cert_chain", chain, "-key", key]
    with Program("openssl", "s_server", "-accept", "127.0.0.1:0", *words) as running:
        port = running.expect(r"^ACCEPT 127\.0\.0\.1:(\d+)").group(1)
        who = ["--cafile", own.ca, "--cert", own.cert, "--key", own.key]
        done = run_sealmq("pub", f"mqtts://localhost:{port}", "-t", "t", "-m", "m", *who)
        running.expect("alert|error")
    assert done.returncode == 1
    assert "server certificate comes with 49 others, and 5 are looked at" in done.stderr
    assert "mend: the server should send" in done.stderr
