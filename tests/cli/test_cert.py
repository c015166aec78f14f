"""`sealmq cert show`: what is typed and what comes out. Knows nothing of how certificates are parsed."""

import json
import subprocess

import pytest

from sealmq.cli.app import run
from sealmq.testing import Fault, ThrowawayCA


@pytest.fixture
def sealmq(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = run([*map(str, args)])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def device(tmp_path):
    return ThrowawayCA().issue_client("sensor-1").write(tmp_path / "device")


def test_a_chain_and_its_key(sealmq, device, tmp_path):
    status, out, err = sealmq("cert", "show", device.cert, device.key)
    assert (status, err) == (0, "")
    assert f"{device.cert} #1: certificate\n" in out
    assert f"{device.cert} #2: certificate of an issuing CA, path length 0" in out
    assert f"{device.key} #1: private key" in out
    for words in ("CN=sensor-1", "URI:spiffe://fleet-test/device/sensor-1", "clientAuth", "P-256", "valid until"):
        assert words in out
    assert "odd" not in out
    assert "PRIVATE KEY" not in out
    assert not (tmp_path / "sealmq-data").exists()


def test_oddities_come_with_why_and_mend(sealmq, tmp_path):
    files = ThrowawayCA().issue_server(fault=Fault.EXPIRED).write(tmp_path / "server")
    status, out, _ = sealmq("cert", "show", files.cert)
    assert status == 0
    assert "  odd (expired): it expired 1 day ago" in out
    assert "    why:  " in out
    assert "    mend: " in out
    assert "(expired 1 day ago)" in out


def test_json(sealmq, device):
    found = json.loads(sealmq("cert", "show", device.cert, device.key, "--json")[1])["objects"]
    assert [one["kind"] for one in found] == ["certificate", "certificate", "key"]
    assert found[0]["spki_sha256"] == found[2]["spki_sha256"]
    assert "PRIVATE" not in json.dumps(found)


def test_what_openssl_makes_can_be_shown(sealmq, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    names = ["-subj", "/CN=broker.example", "-addext", "subjectAltName=DNS:broker.example", "-days", "3650"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    status, out, _ = sealmq("cert", "show", certificate)
    assert status == 0
    assert "odd (ca-as-leaf)" in out
    assert "RSA 2048" in out


def test_a_name_cannot_steer_the_terminal(sealmq, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-keyout", key, "-out", certificate, "-subj", "/CN=\x1b[2Jgone"], check=True, capture_output=True
    )
    out = sealmq("cert", "show", certificate)[1]
    assert "\x1b" not in out
    assert "[2Jgone" in out


@pytest.mark.parametrize(("content", "expected"), [(None, 2), (b"nothing of it", 1)])
def test_files_that_hold_nothing(sealmq, tmp_path, content, expected):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    status, out, err = sealmq("cert", "show", tmp_path / "file")
    assert (status, out) == (expected, "")
    assert err.startswith("error: ")
    assert "\nmend: " in err


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_store_that_stays_shut_is_no_success(sealmq, device, tmp_path, form):
    store, words, wrong = tmp_path / "b.p12", tmp_path / "words", tmp_path / "wrong"
    for path, text in ((words, "correct horse\n"), (wrong, "wrong horse\n")):
        path.write_text(text)
        path.chmod(0o600)
    pair = ["-in", device.cert, "-inkey", device.key]
    subprocess.run(["openssl", "pkcs12", "-export", *pair, "-passout", f"file:{words}", "-out", store], check=True)
    status, out, err = sealmq("cert", "show", store, device.cert, *form)
    assert status == 1
    assert err == (
        f"error: PKCS #12 store in {store} cannot be read: it is under a passphrase, or damaged\n"
        "mend: write the passphrase into the first line of a file, and give it with --passphrase-file FILE\n"
    )
    assert "CN=sensor-1" in out
    status, _, err = sealmq("cert", "show", store, "--passphrase-file", wrong, *form)
    assert status == 1
    assert "the passphrase does not open it" in err
    status, out, err = sealmq("cert", "show", store, "--passphrase-file", words, *form)
    assert (status, err) == (0, "")
    assert "CN=sensor-1" in out


def test_what_is_damaged_is_no_success_and_hides_nothing(sealmq, device, tmp_path):
    (tmp_path / "mixed.pem").write_bytes(
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + device.cert.read_bytes()
    )
    status, out, err = sealmq("cert", "show", tmp_path / "mixed.pem")
    assert status == 1
    assert f"error: CERTIFICATE in {tmp_path}/mixed.pem cannot be read: " in err
    assert "CN=sensor-1" in out


def test_no_file_is_wrong_usage(sealmq):
    status, _, err = sealmq("cert", "show")
    assert status == 2
    assert err.startswith("error: ")
