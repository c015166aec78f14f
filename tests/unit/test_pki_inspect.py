"""Reading files of certificates and finding what is odd. Knows nothing of trust."""

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealmq.errors import Environment, NotSo, UsageError
from sealmq.pki import signing
from sealmq.pki.certfiles import LARGEST_FILE
from sealmq.pki.descriptions import (
    CertificateDescription,
    CrlDescription,
    KeyDescription,
    RequestDescription,
    Unreadable,
    as_json,
)
from sealmq.pki.inspect import inspect_files
from sealmq.testing import Fault, ThrowawayCA

NOW = signing.utc_now()
PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module")
def ca():
    return ThrowawayCA(now=NOW)


def slugs(item):
    return {oddity.slug for oddity in item.oddities}


def make(tmp_path, *, days=30, key=None, signed_by=None, issuer="CN=other", ca=None, names=None, more=(), start=NOW):
    """A certificate of any shape, written to a file."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "made")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name.from_rfc4514_string(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for value, critical in more:
        builder = builder.add_extension(value, critical=critical)
    signer = signed_by or key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    path = tmp_path / "made.pem"
    path.write_bytes(builder.sign(signer, algorithm).public_bytes(PEM))
    return path


USAGE = (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False)
DNS = [x509.DNSName("broker.example")]


def test_a_good_pair_has_nothing_odd(ca, tmp_path):
    files = ca.issue_client("sensor-1").write(tmp_path / "device")
    leaf, issuer, key, root = inspect_files([files.cert, files.key, files.ca], now=NOW)
    assert [slugs(item) for item in (leaf, issuer, key)] == [set(), set(), set()]
    assert isinstance(leaf, CertificateDescription)
    assert (leaf.subject, leaf.issuer) == ("CN=sensor-1", "CN=fleet-test Devices 1")
    assert leaf.names == ("URI:spiffe://fleet-test/device/sensor-1",)
    assert (leaf.extended_key_usage, leaf.key_usage) == (("clientAuth",), ("digitalSignature",))
    assert (leaf.key, leaf.signature, leaf.is_ca, leaf.path_length) == ("P-256", "ECDSA SHA-256", False, None)
    assert leaf.authority_key_identifier == issuer.subject_key_identifier
    assert isinstance(key, KeyDescription)
    assert key.spki_sha256 == leaf.spki_sha256
    assert [leaf.position, issuer.position, key.position] == [1, 2, 1]
    assert (issuer.is_ca, issuer.path_length, root.path_length) == (True, 0, 2)


def test_what_it_says_agrees_with_openssl(ca, tmp_path):
    files = ca.issue_server("broker.example", "192.0.2.7").write(tmp_path / "server")
    item = inspect_files([files.cert], now=NOW)[0]
    command = ["openssl", "x509", "-in", files.cert, "-noout", "-serial", "-fingerprint", "-sha256"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.lower().replace(":", "")
    assert item.sha256 in told
    assert int(item.serial, 16) == int(told.split("serial=")[1].split()[0], 16)
    assert item.names == ("DNS:broker.example", "IP:192.0.2.7")


@pytest.mark.parametrize(
    ("fault", "slug"),
    [
        (Fault.EXPIRED, "expired"),
        (Fault.NOT_YET_VALID, "not-yet-valid"),
        (Fault.COMMON_NAME_ONLY, "cn-without-san"),
    ],
)
def test_faults_of_a_leaf(ca, tmp_path, fault, slug):
    files = ca.issue_server(fault=fault).write(tmp_path / "server")
    assert slugs(inspect_files([files.cert], now=NOW)[0]) == {slug}


def test_expired_and_not_yet_valid_depend_on_the_clock_given(ca, tmp_path):
    files = ca.issue_client().write(tmp_path / "device")
    leaf = inspect_files([files.cert], now=NOW + timedelta(days=33))[0]
    assert [oddity.what for oddity in leaf.oddities] == ["it expired 3 days ago"]
    assert slugs(inspect_files([files.cert], now=NOW - timedelta(days=1))[0]) == {"not-yet-valid"}


@pytest.mark.parametrize(
    ("shape", "slug"),
    [
        ({"days": 3650, "names": DNS, "more": [USAGE]}, "validity-too-long"),
        ({"names": DNS}, "no-extended-key-usage"),
        ({"names": DNS, "ca": True, "more": [USAGE]}, "ca-as-leaf"),
        ({"names": [x509.DNSName("192.0.2.7")], "more": [USAGE]}, "address-as-dns"),
        (
            {"ca": True, "more": [(x509.NameConstraints([x509.DNSName("example")], None), True)]},
            "critical-name-constraints",
        ),
        (
            {"ca": True, "more": [(x509.NameConstraints([x509.UniformResourceIdentifier("x")], None), False)]},
            "uri-name-constraints",
        ),
        ({"ca": True, "key": ed25519.Ed25519PrivateKey.generate()}, "edwards-ca"),
    ],
)
def test_odd_shapes(tmp_path, shape, slug):
    (item,) = inspect_files([make(tmp_path, **shape)], now=NOW)
    assert slugs(item) == {slug}
    oddity = item.oddities[0]
    assert all((oddity.what, oddity.why, oddity.mend))


def test_small_keys_and_sha1_by_openssl(tmp_path):
    """pyca refuses to make these, so openssl does."""
    root, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    make_root = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "root.key"]
    request = ["openssl", "req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", tmp_path / "leaf.key"]
    sign = [
        "openssl",
        "x509",
        "-req",
        "-sha1",
        "-in",
        tmp_path / "leaf.csr",
        "-CA",
        root,
        "-CAkey",
        tmp_path / "root.key",
    ]
    for command in (
        [*make_root, "-out", root, "-subj", "/CN=root"],
        [*request, "-out", tmp_path / "leaf.csr", "-subj", "/CN=leaf"],
        [*sign, "-CAcreateserial", "-out", leaf],
    ):
        subprocess.run(command, capture_output=True, check=True)
    (item,) = inspect_files([leaf])
    assert slugs(item) >= {"rsa-too-small", "weak-signature", "cn-without-san"}
    assert item.key == "RSA 1024"


def test_a_key_of_another_certificate(ca, tmp_path):
    one, two = ca.issue_client("a").write(tmp_path / "a"), ca.issue_client("b").write(tmp_path / "b")
    *_, key = inspect_files([one.cert, two.key], now=NOW)
    assert slugs(key) == {"key-mismatch"}
    (alone,) = inspect_files([two.key], now=NOW)
    assert slugs(alone) == set()


def test_an_exposed_key(ca, tmp_path):
    files = ca.issue_client().write(tmp_path / "device")
    files.key.chmod(0o640)
    assert slugs(inspect_files([files.key], now=NOW)[0]) == {"key-exposed"}


def test_a_chain_out_of_order(ca, tmp_path):
    issued = ca.issue_client()
    path = tmp_path / "chain.pem"
    path.write_bytes(signing.certificate_pem(issued.certificate) + ca.root_pem)
    assert slugs(inspect_files([path], now=NOW)[0]) == {"chain-order"}


def test_a_ca_bundle_is_no_chain_out_of_order(ca, tmp_path):
    path = tmp_path / "bundle.pem"
    path.write_bytes(ca.client_ca_pem + ThrowawayCA(fleet="other").root_pem)
    assert [slugs(item) for item in inspect_files([path], now=NOW)] == [set(), set(), set()]


def test_der_requests_lists_and_protected_keys(ca, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sensor-1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(NOW - timedelta(days=3))
        .next_update(NOW - timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    protected = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"passphrase")
    )
    contents = {
        "leaf.der": ca.issue_client().certificate.public_bytes(serialization.Encoding.DER),
        "request.pem": request.public_bytes(PEM),
        "request.der": request.public_bytes(serialization.Encoding.DER),
        "crl.pem": crl.public_bytes(PEM),
        "key.pem": protected,
        "public.pem": key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    }
    for file, content in contents.items():
        (tmp_path / file).write_bytes(content)
        (tmp_path / file).chmod(0o600)
    leaf, pem, der, revoked, private, public = inspect_files([tmp_path / file for file in contents], now=NOW)
    assert isinstance(leaf, CertificateDescription)
    assert isinstance(pem, RequestDescription)
    assert (pem.subject, pem.spki_sha256) == ("CN=sensor-1", der.spki_sha256)
    assert isinstance(revoked, CrlDescription)
    assert slugs(revoked) == {"crl-stale"}
    assert (private.is_encrypted, private.is_private, private.key) == (True, True, "")
    assert (public.is_private, public.key, public.spki_sha256) == (False, "P-256", pem.spki_sha256)


def test_a_broken_block_does_not_hide_the_others(ca, tmp_path):
    path = tmp_path / "mixed.pem"
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    path.write_bytes(b"some words\n" + broken + ca.root_pem)
    bad, good = inspect_files([path], now=NOW)
    assert isinstance(bad, Unreadable)
    assert bad.reason
    assert isinstance(good, CertificateDescription)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x30\x03\x02\x01", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_without_any_of_it(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotSo) as caught:
        inspect_files([tmp_path / "file"])
    assert caught.value.code == "nothing-recognised"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(Environment) as caught:
        inspect_files([tmp_path / "none"])
    assert caught.value.code == "file-missing"
    with pytest.raises(Environment):
        inspect_files([tmp_path])
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(UsageError):
        inspect_files([tmp_path / "large"])


def test_json_has_no_key_and_every_field(ca, tmp_path):
    files = ca.issue_client().write(tmp_path / "device")
    leaf, _, key = (as_json(item) for item in inspect_files([files.cert, files.key], now=NOW))
    assert (leaf["kind"], key["kind"], leaf["file"]) == ("certificate", "key", str(files.cert))
    assert set(key) == {
        *("kind", "file", "position", "key", "spki_sha256", "is_private", "is_encrypted", "oddities"),
    }
    assert leaf["not_after"] == (NOW + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_an_rsa_leaf_of_2048_bits_is_not_odd(tmp_path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (item,) = inspect_files([make(tmp_path, key=key, names=DNS, more=[USAGE])], now=NOW)
    assert (item.key, item.signature, slugs(item)) == ("RSA 2048", "RSA SHA-256", set())
