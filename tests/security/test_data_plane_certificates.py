"""Certificates in the data plane: by name, on a CRL, told of when somebody connects, and at their end."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from data_plane import BareNode, Caller
from raw_mqtt import CONNACK, DISCONNECT, V5, V311, Wire, client_context, connect

from sealmq._engine import EngineError
from sealmq.pki import profiles, signing
from sealmq.testing import ThrowawayCA

DAY = timedelta(days=1)


# --- names --------------------------------------------------------------------------------------------------------


def identity(issued):
    return {"certificate_chain_pem": issued.cert_pem.decode(), "private_key_pem": issued.key_pem.decode()}


def shown(node, files, name):
    """The DNS names and addresses in the certificate that the node shows to a client that asks for `name`."""
    context = client_context(files)
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", node.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        leaf = x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_the_certificate_for_the_name_that_is_asked_for(tmp_path):
    ca = ThrowawayCA()
    also = [identity(ca.issue_server(*names)) for names in (["one.test", "two.test"], ["three.test"], ["one.test"])]
    with BareNode(tmp_path, ca=ca, tls={"also": also}) as node:
        files = node.device("a")
        default = ["localhost"]
        for name, expected in [
            ("one.test", ["one.test", "two.test"]),
            ("TWO.test", ["one.test", "two.test"]),
            ("three.test", ["three.test"]),
            ("localhost", default),
            ("four.test", default),
            ("x.one.test", default),
            (None, default),
        ]:
            assert shown(node, files, name) == expected, name
        node.reload(tls={"also": also[1:2]})
        assert shown(node, files, "one.test") == default
        assert shown(node, files, "three.test") == ["three.test"]


def test_a_wildcard_stands_for_one_label(tmp_path):
    ca, key = ThrowawayCA(), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wild")])
    now = datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.wild.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    wild = {"certificate_chain_pem": leaf.public_bytes(encoding).decode(), "private_key_pem": pem.decode()}
    with BareNode(tmp_path, ca=ca, tls={"also": [wild]}) as node:
        files = node.device("a")
        (tmp_path / "wild.pem").write_text(wild["certificate_chain_pem"])
        for name, is_wild in [("a.wild.test", True), ("wild.test", False), ("b.a.wild.test", False)]:
            context = ssl.create_default_context(cafile=tmp_path / "wild.pem")
            context.load_verify_locations(files.ca)
            context.check_hostname = False
            context.load_cert_chain(files.cert, files.key)
            with (
                socket.create_connection(("127.0.0.1", node.port), 10) as plain,
                context.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                assert (wrapped.getpeercert()["subject"] == ((("commonName", "wild"),),)) is is_wild, name


def test_a_further_identity_that_does_not_fit_is_named(tmp_path):
    ca = ThrowawayCA()
    one, two = identity(ca.issue_server("one.test")), identity(ca.issue_server("two.test"))
    mixed = {**one, "private_key_pem": two["private_key_pem"]}
    with pytest.raises(EngineError) as caught:
        BareNode(tmp_path, ca=ca, tls={"also": [one, mixed]}).__enter__()
    assert caught.value.args[0] == "key-mismatch"
    assert "number 2 of tls.also" in caught.value.args[1]


# --- CRLs ---------------------------------------------------------------------------------------------------------


def crl(ca, *certificates, next_update=DAY, issuer=None):
    """A CRL of the CA for devices, or of another, PEM."""
    signer = issuer or ca._devices
    now = datetime.now(UTC)
    entries = [x509.RevokedCertificateBuilder(one.serial_number, now - DAY).build() for one in certificates]
    builder = x509.CertificateRevocationListBuilder(
        signer.certificate.subject, now - 3 * DAY, now + next_update, [], entries
    )
    builder = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.certificate.public_key()), critical=False
    )
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def leaf(files):
    return x509.load_pem_x509_certificate(files.cert.read_bytes())


@pytest.mark.parametrize("next_update", [DAY, -DAY], ids=["fresh", "stale"])
def test_who_is_on_a_crl_is_refused_and_who_is_not_is_let_in(tmp_path, next_update):
    with BareNode(tmp_path) as node:
        bad, good = node.device("bad"), node.device("good")
        node.reload(tls={"client_crls_pem": crl(node.ca, leaf(bad), next_update=next_update)})
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)revoked|reset"):
            Wire.join(node.port, bad, "bad")
        record = node.event("refused", cause="revoked")
        assert (record["stage"], record["certificate"]["device"]) == ("certificate", "bad")
        Wire.join(node.port, good, "good").close()


def test_a_crl_of_somebody_else_says_nothing(tmp_path):
    with BareNode(tmp_path) as node:
        files = node.device("a")
        foreign = ThrowawayCA(fleet="elsewhere")
        node.reload(tls={"client_crls_pem": crl(foreign, leaf(files))})
        Wire.join(node.port, files, "a").close()


def test_a_ticket_does_not_pass_a_newer_crl(tmp_path):
    with BareNode(tmp_path) as node:
        bad, good = node.device("bad"), node.device("good")
        callers = {name: Caller(node, files) for name, files in (("bad", bad), ("good", good))}
        for name, caller in callers.items():
            caller.call(name)
        node.reload(tls={"client_crls_pem": crl(node.ca, leaf(bad))})
        assert callers["good"].call("good")[1]
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)revoked|reset"):
            callers["bad"].call("bad")


@pytest.mark.parametrize("text", ["nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_is_no_crl_is_an_error_at_start(tmp_path, text):
    with pytest.raises(EngineError) as caught:
        BareNode(tmp_path, tls={"client_crls_pem": text}).__enter__()
    assert caught.value.args[0] == "client-crl-invalid"


# --- who connected, and until when --------------------------------------------------------------------------------


def test_the_certificate_of_a_connection_is_told(tmp_path):
    with BareNode(tmp_path) as node:
        files = node.device("a")
        certificate = leaf(files)
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        caller = Caller(node, files)
        caller.call("a:1")
        caller.call("a:2")
        expected = {
            "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
            "not_before": int(certificate.not_valid_before_utc.timestamp()),
            "not_after": int(certificate.not_valid_after_utc.timestamp()),
            "issuer_key_id": issuer.key_identifier.hex(),
        }
        for client_id, is_resumed in (("a:1", False), ("a:2", True)):
            event = node.event("connected", client_id=client_id)
            assert int(event["certificate"].pop("serial"), 16) == certificate.serial_number
            assert event["certificate"] == expected
            assert (event["tls"]["resumed"], event["user"]) == (is_resumed, None)


@pytest.mark.parametrize("version", [V311, V5])
def test_a_session_ends_with_its_certificate(tmp_path, version):
    ca = ThrowawayCA()
    now = ca.now
    ca.now = signing.utc_now() + timedelta(seconds=2) - profiles.device_profile("default").lifetime
    short = ca.issue_client("short").write(tmp_path / "short")
    ca.now = now
    with (
        BareNode(tmp_path, ca=ca) as node,
        Wire.join(node.port, node.device("long"), "long") as other,
        Wire.join(node.port, short, "short", version=version) as wire,
    ):
        farewell = wire.rest()
        ended = datetime.now(UTC)
        assert ended > leaf(short).not_valid_after_utc
        assert ended < leaf(short).not_valid_after_utc + timedelta(seconds=5)
        if version == V5:
            [packet] = farewell
            assert (packet.kind, packet.body[0]) == (DISCONNECT, 0x87)
            assert packet.reason_string(1) == "client certificate has reached the end of its validity"
        else:
            assert farewell == []
        assert node.event("disconnected", client_id="short")["cause"] == "certificate-expired"
        other.round_trip()


def test_the_gate_lets_nobody_wait_past_the_end(tmp_path):
    """Handshake before the end, CONNECT after it."""
    ca = ThrowawayCA()
    now = ca.now
    ca.now = signing.utc_now() + timedelta(seconds=2) - profiles.device_profile("default").lifetime
    short = ca.issue_client("short").write(tmp_path / "short")
    ca.now = now
    end = leaf(short).not_valid_after_utc + timedelta(seconds=1)
    with BareNode(tmp_path, ca=ca) as node, Wire.open(node.port, short) as wire:
        while datetime.now(UTC) < end:
            Wire.join(node.port, node.device("other"), "other").close()
        wire.send(connect("short"))
        packets = wire.rest()
        assert [(packet.kind, packet.body[1]) for packet in packets] == [(CONNACK, 0x87)]
        assert node.event("refused", cause="certificate-expired")["client_id"] == "short"
