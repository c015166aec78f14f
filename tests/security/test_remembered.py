"""A chain that was verified before is not verified again: that lets nobody in who would be turned away without it.

Each test connects with the very certificate first, keeps no ticket, and knows nothing of how the memory works.
"""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from data_plane import BareNode, Caller

from sealmq.pki import profiles, signing
from sealmq.testing import ThrowawayCA

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def version(request):
    return request.param


@pytest.fixture
def node(tmp_path):
    with BareNode(tmp_path) as running:
        yield running


def call(node, files, name, version):
    """Connect with a full handshake: the reason code of the CONNACK."""
    answer, is_resumed = Caller(node, files, version).call(name)
    assert not is_resumed
    return answer.body[1]


def turned_away(node, files, name, version, cause):
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        call(node, files, name, version)
    record = node.event("refused", cause=cause)
    assert (record["stage"], record["certificate"]["device"]) == ("certificate", name)


def leaf(files):
    return x509.load_pem_x509_certificate(files.cert.read_bytes())


def short_lived(ca, name, directory, *, seconds=3):
    """A certificate that ends so soon."""
    now = ca.now
    ca.now = signing.utc_now() + timedelta(seconds=seconds) - profiles.device_profile("default").lifetime
    try:
        return ca.issue_client(name).write(directory)
    finally:
        ca.now = now


def test_it_is_remembered_and_gets_in_again(node, version):
    files = node.device("a")
    assert [call(node, files, "a", version) for _ in range(3)] == [0, 0, 0]
    assert json.loads(node.node.stats())["handshakes_full"] == 3


def test_a_device_that_was_revoked_since(node, version):
    files = node.device("a")
    assert call(node, files, "a", version) == 0
    node.revoke("a")
    turned_away(node, files, "a", version, "revoked")


def test_a_certificate_that_was_revoked_since(node, version):
    files = node.device("a")
    assert call(node, files, "a", version) == 0
    node.revoke(certificates=(leaf(files).fingerprint(hashes.SHA256()).hex(),))
    turned_away(node, files, "a", version, "revoked")


def test_a_certificate_that_is_on_a_list_that_came_since(node, version):
    files, issuer, now = node.device("a"), node.ca._devices, datetime.now(UTC)
    assert call(node, files, "a", version) == 0
    entry = x509.RevokedCertificateBuilder(leaf(files).serial_number, now - timedelta(days=1)).build()
    crl = (
        x509.CertificateRevocationListBuilder(
            issuer.certificate.subject, now - timedelta(days=1), now + timedelta(days=1), [], [entry]
        )
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.certificate.public_key()), critical=False
        )
        .sign(issuer.key, hashes.SHA256())
    )
    node.reload(tls={"client_crls_pem": crl.public_bytes(serialization.Encoding.PEM).decode()})
    turned_away(node, files, "a", version, "revoked")


def test_a_certificate_of_a_ca_that_was_removed_since(node, version):
    files = node.device("a")
    assert call(node, files, "a", version) == 0
    node.reload(tls={"client_ca_pem": ThrowawayCA(fleet=node.ca.fleet).client_ca_pem.decode()})
    turned_away(node, files, "a", version, "untrusted-issuer")
    node.reload()
    assert call(node, files, "a", version) == 0


def test_a_certificate_that_has_ended_since(tmp_path, version):
    ca = ThrowawayCA()
    with BareNode(tmp_path, ca=ca) as node:
        other, files = node.device("other"), short_lived(ca, "a", tmp_path / "a")
        end = leaf(files).not_valid_after_utc + timedelta(seconds=1)
        assert call(node, files, "a", version) == 0
        while datetime.now(UTC) < end:
            call(node, other, "other", version)
        turned_away(node, files, "a", version, "certificate-expired")


def test_a_certificate_of_another_ca_behind_the_same_intermediates(node, tmp_path, version):
    """What comes behind a leaf says nothing about the leaf."""
    good = node.device("a")
    bad = ThrowawayCA(fleet=node.ca.fleet).issue_client("a").write(tmp_path / "bad")
    issuer = signing.certificate_pem(node.ca._devices.certificate)
    for files in (good, bad):
        first = x509.load_pem_x509_certificates(files.cert.read_bytes())[0]
        files.cert.write_bytes(signing.certificate_pem(first) + issuer)
    bad.ca.write_bytes(good.ca.read_bytes())
    assert call(node, good, "a", version) == 0
    turned_away(node, bad, "a", version, "untrusted-issuer")


def test_a_fleet_that_was_renamed_since(node, version):
    """The identity is read anew: a device of the fleet as it was is no device of the one that is."""
    files = node.device("a")
    assert call(node, files, "a", version) == 0
    node.reload(fleet="elsewhere")
    assert call(node, files, "a", version) == 0x87
    assert node.event("refused", cause="certificate-foreign-fleet")["stage"] == "certificate"
