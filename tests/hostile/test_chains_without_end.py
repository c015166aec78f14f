"""More certificates than anybody needs: to look for a path through all of them takes seconds, and none need be signed.

Eight of the same name on each of six levels, each as if issued by the next level, none by a trusted CA: a library that
tries them all checks no signature and counts none against its bound.
"""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from programs import Program, run_sealmq
from sealmq.pki.der import SEQUENCE, children, element, wrap
from sealmq.testing import EphemeralBroker, ThrowawayCA
from security import raw_mqtt

LEVELS, WIDTH = 6, 8
LONGEST = 1024  # bytes of a name that is put into words
KEY = ec.generate_private_key(ec.SECP256R1())
CA = x509.BasicConstraints(ca=True, path_length=None)
LARGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"), b"\x05\x00" * 3000)


def certificate(subject: str, issuer: str, *extensions: x509.ExtensionType, own_key: bool = True) -> bytes:
    """PEM; signed with `KEY`, whoever the issuer is."""
    subject_name, issuer_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
    return signed(subject_name, issuer_name, *extensions, own_key=own_key)


def signed(subject: x509.Name, issuer: x509.Name, *extensions: x509.ExtensionType, own_key: bool = True) -> bytes:
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1()) if own_key else KEY
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def leaf(purpose: x509.ObjectIdentifier) -> bytes:
    return certificate("sensor-1", "level 0", x509.ExtendedKeyUsage([purpose]), own_key=False)


def levels(width: int = WIDTH) -> list[bytes]:
    return [certificate(f"level {level}", f"level {level + 1}", CA) for level in range(LEVELS) for _ in range(width)]


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
    ("others", "words"),
    [
        (levels(1)[:5], None),
        (levels(1), "comes with 6 others, 5 are allowed"),
        (levels(), "comes with 48 others, 5 are allowed"),
        ([certificate("level 0", "level 0", CA) for _ in range(2)] + levels(1)[1:4], None),
        ([certificate("level 0", "level 0", CA) for _ in range(3)], "more than 2 certificates of the same subject"),
        ([certificate(f"level {n}", "level 1", CA, LARGE) for n in range(3)], "bytes, 16384 are allowed"),
    ],
    ids=["five", "six", "eight on each level", "two alike", "three alike", "large"],
)
def test_of_a_client(files, others, words):
    chain, key = files(leaf(ExtendedKeyUsageOID.CLIENT_AUTH), *others)
    record = refused(chain, key)
    assert record["cause"] == ("certificate-chain-too-long" if words else "untrusted-issuer")
    assert (words or "not issued by a CA") in record["summary"]
    assert record["certificate"]["subject"] == "CN=sensor-1"


def test_of_a_client_whose_own_is_large_already(files):
    """It is not read, for the record either: there could be anything in it."""
    chain, key = files(certificate("sensor-1", "level 0", LARGE, own_key=False))
    assert refused(chain, key)["cause"] == "untrusted-issuer"
    huge = x509.UnrecognizedExtension(LARGE.oid, LARGE.value * 4)
    chain, key = files(certificate("sensor-1", "level 0", huge, own_key=False))
    record = refused(chain, key)
    assert record["cause"] == "certificate-chain-too-long"
    assert record["certificate"] is None


@pytest.mark.parametrize("size", [100, 15_000])
def test_of_a_client_with_a_name_that_takes_long_to_read(files, size):
    """The number of an attribute type has no bound, and to print one takes time by the square of its length."""
    chain, key = files(named_by_number(leaf(ExtendedKeyUsageOID.CLIENT_AUTH), size))
    record = refused(chain, key)
    if size > LONGEST:
        assert record["certificate"]["subject"] == f"(a name of {size + 20} bytes)"
    assert len(json.dumps(record)) < 4096


def named_by_number(pem: bytes, size: int) -> bytes:
    """That certificate for a subject whose attribute type has a number of so many bytes."""
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    whole = element(der, 0)
    assert whole is not None
    tbs, *rest = children(der, whole)
    fields = [der[one.start : one.end] for one in children(der, tbs)]
    number = wrap(0x06, b"\x2b" + b"\x81" * (size - 1) + b"\x01")
    fields[5] = wrap(SEQUENCE, wrap(0x31, wrap(SEQUENCE, number + wrap(0x0C, b"x"))))
    body = wrap(SEQUENCE, b"".join(fields)) + b"".join(der[one.start : one.end] for one in rest)
    return ssl.DER_cert_to_PEM_cert(wrap(SEQUENCE, body)).encode()


def refused(chain, key):
    """The record of a client that shows these; somebody else is served as before."""
    with EphemeralBroker() as broker:
        good = broker.device("good")
        context = raw_mqtt.client_context(None, ca=good.ca)
        context.load_cert_chain(chain, key)
        with raw_mqtt.Wire.join(broker.port, good, "good") as inside:
            with pytest.raises((ssl.SSLError, ConnectionError)), raw_mqtt.dial(broker.port, context) as wire:
                wire.recv(1)  # in TLS 1.3 the client thinks that it is done
            record = broker.wait_event("refused", stage="certificate")
            inside.round_trip()
    assert record["mend"]
    return record


def test_of_a_client_that_sends_along_what_is_right(tmp_path):
    """The chain of a device with everything up to the root, and the root once more."""
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
    assert "server certificate comes with 49 others, 5 are allowed" in done.stderr
    assert "mend: the server should send" in done.stderr
