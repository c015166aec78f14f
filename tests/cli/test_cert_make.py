"""`sealmq cert key`, `csr` and `sign`: what is typed and what comes out. Knows nothing of how certificates are made."""

import json
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certchains import CLIENT, Plan, key, make, pem
from sealmq.cli.app import run
from sealmq.cli.folder import perform
from sealmq.datafolder import DataFolder
from sealmq.pki.keys import pkcs8_pem
from sealmq.testing import ThrowawayCA


@pytest.fixture
def sealmq(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = run([*map(str, args)])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def own_ca(tmp_path):
    """A CA of the user's own in two files."""
    (tmp_path / "ca.pem").write_bytes(pem(make(Plan("own ca", number=60)).root))
    (tmp_path / "ca.key").write_bytes(pkcs8_pem(key("p256", 60)))
    (tmp_path / "ca.key").chmod(0o600)
    return "--ca-cert", tmp_path / "ca.pem", "--ca-key", tmp_path / "ca.key"


def leaf_of(text):
    return x509.load_pem_x509_certificate(text.encode() if isinstance(text, str) else text)


def names_of(certificate):
    return [str(one.value) for one in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), ec.EllipticCurvePrivateKey),
        (("--type", "p384"), ec.EllipticCurvePrivateKey),
        (("--type", "ed25519"), ed25519.Ed25519PrivateKey),
        (("--type", "rsa", "--bits", "2048"), rsa.RSAPrivateKey),
    ],
)
def test_a_key_is_pkcs8_and_nobody_else_can_read_it(sealmq, tmp_path, options, kind):
    status, out, err = sealmq("cert", "key", *options)
    assert (status, err) == (0, "")
    path = tmp_path / "key.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert isinstance(serialization.load_pem_private_key(path.read_bytes(), None), kind)
    assert "PRIVATE KEY--" not in out
    assert f"cert csr --key {path}" in out


def test_a_key_is_never_replaced_unasked(sealmq, tmp_path):
    assert sealmq("cert", "key")[0] == 0
    before = (tmp_path / "key.pem").read_bytes()
    status, _, err = sealmq("cert", "key")
    assert status == 2
    assert "exists already" in err
    assert (tmp_path / "key.pem").read_bytes() == before
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")
    assert sealmq("cert", "key", "--out", "link.pem")[0] == 2
    assert sealmq("cert", "key", "--force")[0] == 0
    assert (tmp_path / "key.pem").read_bytes() != before


def test_a_passphrase_from_its_file(sealmq, tmp_path):
    (tmp_path / "words").write_text("correct horse\nsecond line\n")
    (tmp_path / "words").chmod(0o600)
    status, out, err = sealmq("cert", "key", "--passphrase-file", "words", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["is_encrypted"] is True
    data = (tmp_path / "key.pem").read_bytes()
    assert data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    serialization.load_pem_private_key(data, b"correct horse")
    assert sealmq("cert", "csr", "--key", "key.pem", "--san", "a.example")[0] == 2
    assert sealmq("cert", "csr", "--key", "key.pem", "--san", "a.example", "--passphrase-file", "words")[0] == 0
    (tmp_path / "words").write_text("wrong\n")
    status, out, err = sealmq("cert", "csr", "--key", "key.pem", "--san", "a.example", "--passphrase-file", "words")
    assert (status, out) == (2, "")
    assert "passphrase does not open key file key.pem" in err
    (tmp_path / "words").chmod(0o644)
    assert "others on this machine can read words" in sealmq("cert", "show", "key.pem", "--passphrase-file", "words")[2]


def test_a_request_carries_the_names(sealmq):
    sealmq("cert", "key")
    args = (
        "--subject",
        "/O=Example/CN=broker",
        "--san",
        "broker.example",
        "--san",
        "192.0.2.7",
        "--san",
        "URI:urn:x:y",
    )
    status, out, err = sealmq("cert", "csr", "--key", "key.pem", *args)
    assert (status, err) == (0, "")
    request = x509.load_pem_x509_csr(out.encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=broker,O=Example"
    assert names_of(request) == ["broker.example", "192.0.2.7", "urn:x:y"]
    found = json.loads(sealmq("cert", "csr", "--key", "key.pem", *args, "--out", "r.pem", "--json")[1])
    assert found["names"] == ["DNS:broker.example", "IP:192.0.2.7", "URI:urn:x:y"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("csr", "--key", "key.pem"), "would have no name"),
        (("csr", "--key", "key.pem", "--subject", "sensor-1"), "subject 'sensor-1'"),
        (("csr", "--key", "key.pem", "--subject", "XY=sensor-1"), "subject 'XY=sensor-1'"),
        (("csr", "--key", "key.pem", "--subject", "/XY=1"), "the part XY is not known"),
        (("csr", "--key", "key.pem", "--san", "DNS:192.0.2.7"), "is an address"),
        (("csr", "--key", "key.pem", "--san", "IP:broker"), "alternative name 'IP:broker'"),
        (("csr", "--key", "key.pem", "--san", "URI:broker"), "has no scheme"),
        (("csr", "--key", "key.pem", "--san", "bro ker"), "neither a host name"),
        (("csr", "--key", "nothing.pem", "--san", "a"), "nothing.pem does not exist"),
        (("csr", "--key", "words", "--san", "a"), "holds no private key"),
        (("key", "--type", "dsa"), "key type 'dsa'"),
        (("key", "--bits", "2048", "--out", "b.pem"), "no choice of bits"),
        (("key", "--type", "rsa", "--bits", "1024", "--out", "b.pem"), "1024 bits"),
        (("sign", "words", "--profile", "root"), "profile 'root'"),
        (("sign", "words", "--ca-cert", "x"), "belong together"),
        (("sign", "words", "--profile", "client"), "as devices of its registry"),
        (("sign", "words", "--device", "a", "--days", "3"), "decided by the profile"),
        (("sign", "words", "--device", "a", "--ca-cert", "x", "--ca-key", "y"), "CA of the data folder"),
    ],
)
def test_wrong_usage(sealmq, tmp_path, args, said):
    (tmp_path / "words").write_text("words")
    sealmq("cert", "key")
    status, out, err = sealmq("cert", *args)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert not (tmp_path / "b.pem").exists()
    assert not (tmp_path / "sealmq-data").exists()


def request(sealmq, *args):
    sealmq("cert", "key", "--force")
    assert sealmq("cert", "csr", "--key", "key.pem", "--out", "request.pem", "--force", *args)[0] == 0
    return "request.pem"


def test_an_own_ca_signs_what_is_said_and_nothing_of_the_request(sealmq, own_ca):
    asked = request(sealmq, "--subject", "CN=evil", "--san", "evil.example")
    status, out, err = sealmq("cert", "sign", asked, *own_ca, "--san", "broker.example", "--days", "7")
    assert (status, err) == (0, "")
    leaf = leaf_of(out)
    assert names_of(leaf) == ["broker.example"]
    assert list(leaf.subject) == []
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 7
    assert out.count("BEGIN CERTIFICATE") == 1  # who trusts a root has it
    assert names_of(leaf_of(sealmq("cert", "sign", asked, *own_ca, "--names-of-request")[1])) == ["evil.example"]


def test_without_names_nothing_is_signed(sealmq, own_ca):
    status, out, err = sealmq("cert", "sign", request(sealmq, "--san", "a.example"), *own_ca)
    assert (status, out) == (2, "")
    assert "no name" in err
    assert "--names-of-request" in err


def test_a_ca_that_may_not_issue_this_is_found_out_before_the_file_is_written(sealmq, tmp_path, own_ca):
    asked = request(sealmq, "--san", "a.example")
    for plan, said in (
        (Plan("own ca", number=60, ca=False), "no CA"),
        (Plan("own ca", number=60, purposes=(CLIENT,)), "for clients"),
        (Plan("own ca", number=60, usages=("crl_sign",)), "keyCertSign"),
    ):
        (tmp_path / "ca.pem").write_bytes(pem(make(plan).root))
        status, _, err = sealmq("cert", "sign", asked, *own_ca, "--san", "a.example", "--out", "cert.pem")
        assert status == 1
        assert "would not verify" in err
        assert said in err
    (tmp_path / "ca.pem").write_bytes(pem(make(Plan("own ca", number=61)).root))
    status, _, err = sealmq("cert", "sign", asked, *own_ca, "--san", "a.example", "--out", "cert.pem")
    assert status == 2
    assert "does not belong" in err
    assert not (tmp_path / "cert.pem").exists()


def test_a_refused_request_ends_with_status_1(sealmq, tmp_path, own_ca):
    asked = tmp_path / request(sealmq, "--san", "a.example")
    data = x509.load_pem_x509_csr(asked.read_bytes()).public_bytes(serialization.Encoding.DER)
    asked.write_bytes(data[:-4] + bytes(4))
    status, out, err = sealmq("cert", "sign", asked, *own_ca, "--san", "a.example")
    assert (status, out) == (1, "")
    assert err.startswith("error: certificate request ")


def test_the_ca_of_the_data_folder_signs_servers(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1")
    asked = request(sealmq, "--san", "broker.example")
    status, out, err = sealmq("cert", "sign", asked, "--san", "broker.example", "--out", "cert.pem")
    assert (status, err) == (0, "")
    assert "valid until" in out
    assert sealmq("cert", "verify", "cert.pem", "--host", "broker.example")[0] == 0
    status, _, err = sealmq("cert", "sign", asked, "--san", "URI:urn:x:y")
    assert status == 2
    assert "host names and addresses" in err
    status, _, err = sealmq("cert", "sign", asked, "--san", "a.example", "--days", "4000")
    assert status == 2
    assert "4000 days" in err
    assert (tmp_path / "cert.pem").stat().st_mode & 0o777 == 0o644


def test_the_ca_of_the_data_folder_signs_devices_of_the_registry(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1")
    fleet = DataFolder.open(tmp_path / "sealmq-data").fleet
    asked = request(sealmq, "--subject", "CN=somebody-else")
    out = sealmq("cert", "sign", asked, "--profile", "client", "--device", "sensor-1")[1]
    assert names_of(leaf_of(out)) == [f"spiffe://{fleet}/device/sensor-1"]
    assert leaf_of(out).subject.rfc4514_string() == "CN=sensor-1"
    shown = json.loads(sealmq("device", "show", "sensor-1", "--json")[1])
    assert f"{leaf_of(out).serial_number:x}" in {one["serial"] for one in shown["certificates"]}
    status, _, err = sealmq("cert", "sign", asked, "--device", "sensor-2")
    assert status == 1
    assert "sensor-2" in err


def test_verify_says_each_step_and_ends_with_its_verdict(sealmq, tmp_path):
    files = ThrowawayCA().issue_server("broker.example").write(tmp_path / "server")
    status, out, err = sealmq("cert", "verify", files.cert, "--host", "broker.example", "--ca", tmp_path / "root.pem")
    assert status == 2  # no such file
    (tmp_path / "root.pem").write_bytes(ThrowawayCA().root_pem)
    status, out, err = sealmq("cert", "verify", files.cert, "--host", "broker.example", "--ca", tmp_path / "root.pem")
    assert status == 1
    assert out.startswith("NOT VALID for servers under the name broker.example")
    assert "mend: " in out
    assert err.startswith("error: certificate ")
    assert len(err.splitlines()) == 2


def test_verify_against_the_data_folder_at_any_time(sealmq, tmp_path):
    status, _, err = sealmq("cert", "verify", "cert.pem")
    assert status == 2
    sealmq("device", "add", "sensor-1")
    cert = tmp_path / "sealmq-data" / "devices" / "sensor-1" / "cert.pem"
    status, out, err = sealmq("cert", "verify", cert)
    assert (status, err) == (0, "")
    assert out.startswith("valid for clients at ")
    found = json.loads(sealmq("cert", "verify", cert, "--at", "2000-01-01", "--json")[1])
    assert found["valid"] is False
    assert {step["fault"] for step in found["paths"][0]["steps"]} == {None, "certificate-not-yet-valid"}
    assert found["at"] == "2000-01-01T00:00:00Z"
    assert sealmq("cert", "verify", cert, "--purpose", "server")[0] == 1
    assert sealmq("cert", "verify", cert, "--purpose", "both")[0] == 2
    assert sealmq("cert", "verify", cert, "--at", "tomorrow")[0] == 2


def test_verify_without_anything_to_trust(sealmq, tmp_path):
    files = ThrowawayCA().issue_server().write(tmp_path / "server")
    status, _, err = sealmq("cert", "verify", files.cert)
    assert status == 2
    assert "nothing is trusted" in err
    assert not (tmp_path / "sealmq-data").exists()


def test_verify_heeds_revocation_lists_of_the_data_folder(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1")
    cert = tmp_path / "sealmq-data" / "devices" / "sensor-1" / "cert.pem"
    assert sealmq("cert", "verify", cert)[0] == 0
    perform(tmp_path / "sealmq-data", "device-revoke", {"id": "sensor-1"})
    status, out, _ = sealmq("cert", "verify", cert)
    assert status == 1
    assert "revoked" in out
