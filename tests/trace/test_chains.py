"""Chains with one fault each, served by openssl s_server: the cause is named by OpenSSL's code and the certificate."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from programs import finished
from sealmq import trace
from sealmq.testing import EphemeralBroker
from sealmq.trace.model import Trace
from sealmq.trace.request import Bounds

QUICK = Bounds(connect=2, handshake=2, mqtt=0.5, settle=0.2, close=0.2)
NAMES = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
ELSEWHERE = x509.NameConstraints([x509.DNSName("elsewhere.invalid"), x509.IPAddress(ip_network("10.0.0.0/8"))], None)


@dataclass
class Made:
    """A certificate and its key."""

    name: str
    issuer: "Made | None" = None
    ca: x509.BasicConstraints = field(default_factory=lambda: x509.BasicConstraints(ca=False, path_length=None))
    more: tuple[tuple[Any, bool], ...] = ()
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        by = self.issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(by.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(self.ca, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
        )
        for extension, critical in self.more:
            builder = builder.add_extension(extension, critical)
        self.certificate = builder.sign(by.key, hashes.SHA256())

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def a_ca(name: str, issuer: Made | None = None, *, length: int | None = None, **more: Any) -> Made:
    return Made(name, issuer, x509.BasicConstraints(ca=True, path_length=length), **more)


def shown(tmp_path: Path, root: Made, *chain: Made, leaf: bytes = b"", crl: bytes = b"") -> Trace:
    """The trace of a server that shows this chain, leaf first, to one that trusts `root`."""
    (tmp_path / "leaf.pem").write_bytes(leaf or chain[0].pem)
    (tmp_path / "chain.pem").write_bytes(b"".join(made.pem for made in chain[1:]))
    anchors = tmp_path / "root.pem"
    anchors.write_bytes(root.pem + crl)
    key = tmp_path / "key.pem"
    key.write_bytes(
        chain[0].key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    files = SimpleNamespace(cert=tmp_path / "leaf.pem", key=key)
    extra = ("-cert_chain", tmp_path / "chain.pem") if len(chain) > 1 else ()
    with servers.s_server(files, "-no-CAfile", "-no-CApath", "-cipher", "ALL:@SECLEVEL=0", *extra) as (url, _):
        return trace.record(url.replace("tls://", "mqtts://"), ca=anchors, server_name="127.0.0.1", bounds=QUICK)


def refused(seen: Trace, cause: str, code: int, words: str = "") -> None:
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, "here"), (seen.cause, seen.evidence)
    assert seen.stopped_at == "certificate check"
    assert f"verify code {code}" in seen.evidence
    assert words in seen.summary
    assert seen.mend
    assert seen.not_done == ("no session key came into use", "no CONNECT left this machine")


def good(issuer: Made, **more: Any) -> Made:
    return Made("broker", issuer, more=((NAMES, False),), **more)


def test_a_good_chain_passes_so_that_each_fault_is_the_reason(tmp_path: Path) -> None:
    root = a_ca("root")
    middle = a_ca("middle", root, length=0)
    assert shown(tmp_path, root, good(middle), middle).cause == "connack-stalled"


def test_a_certificate_for_another_address(tmp_path: Path) -> None:
    root = a_ca("root")
    other = x509.SubjectAlternativeName([x509.IPAddress(ip_address("10.9.8.7"))])
    refused(shown(tmp_path, root, Made("broker", root, more=((other, False),))), "wrong-host", 64, "10.9.8.7")


def test_an_issuer_that_is_no_ca(tmp_path: Path) -> None:
    root = a_ca("root")
    middle = Made("middle", root)
    refused(shown(tmp_path, root, good(middle), middle), "not-a-ca", 79, "CN=middle")


def test_a_chain_longer_than_a_ca_allows(tmp_path: Path) -> None:
    root = a_ca("root")
    upper = a_ca("upper", root, length=0)
    lower = a_ca("lower", upper)
    refused(shown(tmp_path, root, good(lower), lower, upper), "path-length", 25)


def test_names_that_a_ca_may_not_issue_for(tmp_path: Path) -> None:
    root = a_ca("root")
    middle = a_ca("middle", root, more=((ELSEWHERE, True),))
    refused(shown(tmp_path, root, good(middle), middle), "name-constraint", 47, "127.0.0.1")


def test_a_key_that_is_too_short(tmp_path: Path) -> None:
    root = a_ca("root")
    leaf = good(root, key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - the fault
    refused(shown(tmp_path, root, leaf), "weak-key", 66)


def test_a_signature_with_a_broken_hash(tmp_path: Path) -> None:
    root = a_ca("root")
    leaf = good(root)
    for name, made in (("leaf", leaf), ("root", root)):
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (tmp_path / f"{name}.key").write_bytes(made.key.private_bytes(*form))
        (tmp_path / f"{name}.crt").write_bytes(made.pem)
    asked = ("openssl", "req", "-new", "-key", tmp_path / "leaf.key", "-subj", "/CN=broker")
    request = finished(*asked, "-addext", "subjectAltName=IP:127.0.0.1")
    by_root = ("-CA", tmp_path / "root.crt", "-CAkey", tmp_path / "root.key", "-copy_extensions", "copy")
    signed = finished("openssl", "x509", "-req", "-sha1", *by_root, stdin=request.stdout)
    assert signed.returncode == 0, signed.stderr
    refused(shown(tmp_path, root, leaf, leaf=signed.stdout.encode()), "weak-signature", 68)


def test_a_signature_that_is_wrong(tmp_path: Path) -> None:
    root = a_ca("root")
    leaf = good(root)
    der = bytearray(leaf.certificate.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    changed = x509.load_der_x509_certificate(bytes(der)).public_bytes(serialization.Encoding.PEM)
    refused(shown(tmp_path, root, leaf, leaf=changed), "certificate-bad-signature", 7, "CN=broker")


def test_a_critical_extension_that_nobody_knows(tmp_path: Path) -> None:
    root = a_ca("root")
    leaf = Made("broker", root, more=((NAMES, False), (UNKNOWN, True)))
    refused(shown(tmp_path, root, leaf), "unknown-critical-extension", 34)


@pytest.mark.parametrize("is_revoked", [True, False])
def test_a_certificate_on_the_revocation_list(tmp_path: Path, is_revoked: bool) -> None:
    root = a_ca("root")
    leaf = good(root)
    now = datetime.now(UTC)
    serial = leaf.certificate.serial_number if is_revoked else 1
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(root.subject).last_update(now - timedelta(hours=1))
    crl = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(entry).sign(root.key, hashes.SHA256())
    seen = shown(tmp_path, root, leaf, crl=crl.public_bytes(serialization.Encoding.PEM))
    if is_revoked:
        refused(seen, "revoked", 23, "CN=broker")
    else:
        assert seen.cause == "connack-stalled"


def test_a_name_that_the_server_does_not_know(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    options = ("-servername", "known.invalid", "-servername_fatal", "-cert2", files.cert, "-key2", files.key)
    with servers.s_server(files, *options) as (url, _):
        seen = trace.record(url, ca=files.ca, server_name="localhost", bounds=QUICK)
    assert (seen.cause, seen.stopped_by) == ("unrecognized-name", "server")


def test_a_protocol_that_the_broker_does_not_speak() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(
            broker.url, ca=files.ca, certificate=files.cert, key=files.key, protocols=("h2",), bounds=QUICK
        )
        record = broker.wait_event("refused")
    assert (seen.cause, seen.stopped_by) == ("no-common-alpn", "server")
    assert record["cause"] == seen.cause
