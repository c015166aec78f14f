"""Files of `sealmq cert` in the hands of openssl and GnuTLS, and theirs in ours: keys, requests, certificates, stores.

Knows nothing of how any of them is made.
"""

import json
import subprocess
import sys

import pytest

PASSPHRASE = "correct horse"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text(PASSPHRASE + "\n")
    (tmp_path / "words").chmod(0o600)
    return tmp_path


def run(*args, stdin=None, status=0):
    done = subprocess.run([*map(str, args)], capture_output=True, text=True, input=stdin, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def sealmq(*args, status=0):
    return run(sys.executable, "-m", "sealmq", "cert", *args, status=status)


def openssl(*args):
    return run("openssl", *args)


def certtool(*args, **more):
    return run("certtool", *args, **more)


KINDS = [("--type", "p256"), ("--type", "p384"), ("--type", "rsa", "--bits", "2048"), ("--type", "ed25519")]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.usefixtures("here")
def test_our_keys_and_requests_in_theirs(options):
    sealmq("key", *options)
    assert "Key is valid" in openssl("pkey", "-in", "key.pem", "-noout", "-check")
    assert "Public Key" in certtool("--key-info", "--infile", "key.pem")
    sealmq("csr", "--key", "key.pem", "--subject", "CN=sensor-1,O=Example", "--san", "a.example", "--out", "r.pem")
    text = openssl("req", "-in", "r.pem", "-noout", "-text", "-verify")
    assert "DNS:a.example" in text
    assert "Self signature: verified" in certtool("--crq-info", "--infile", "r.pem")


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.usefixtures("here")
def test_our_keys_under_a_passphrase_in_theirs(options):
    sealmq("key", *options, "--passphrase-file", "words")
    openssl("pkey", "-in", "key.pem", "-passin", "file:words", "-noout")
    certtool("--key-info", "--infile", "key.pem", "--password", PASSPHRASE)


@pytest.mark.parametrize(
    "algorithm",
    [
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("ED25519",),
    ],
)
@pytest.mark.parametrize("form", ["PEM", "DER"])
@pytest.mark.usefixtures("here")
def test_openssls_keys_and_requests_in_ours(algorithm, form):
    openssl("genpkey", "-algorithm", *algorithm, "-outform", form, "-out", "theirs.key")
    sealmq("csr", "--key", "theirs.key", "--subject", "CN=x", "--out", "ours.csr")
    openssl("req", "-in", "ours.csr", "-noout", "-verify")
    asked = ("-key", "theirs.key", "-keyform", form, "-subj", "/CN=x", "-addext", "subjectAltName=DNS:b.example")
    openssl("req", "-new", *asked, "-outform", form, "-out", "theirs.csr")
    _own_ca()
    ca = ("--ca-cert", "ca.pem", "--ca-key", "ca.key")
    sealmq("sign", "theirs.csr", *ca, "--names-of-request", "--out", "cert.pem")
    assert "OK" in openssl("verify", "-CAfile", "ca.pem", "-verify_hostname", "b.example", "cert.pem")
    assert "certificate is trusted" in certtool(
        "--verify", "--load-ca-certificate", "ca.pem", "--verify-hostname", "b.example", "--infile", "cert.pem"
    )


@pytest.mark.parametrize("form", [(), ("--outder",)])
def test_gnutls_keys_and_requests_in_ours(here, form):
    certtool("--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1", *form, "--outfile", "theirs.key")
    (here / "template").write_text('cn = "x"\ndns_name = "b.example"\n')
    load = ("--load-privkey", "theirs.key", *(("--inder",) if form else ()))
    certtool("--generate-request", *load, "--template", "template", *form, "--outfile", "theirs.csr")
    sealmq("csr", "--key", "theirs.key", "--subject", "CN=x")
    _own_ca()
    sealmq("sign", "theirs.csr", "--ca-cert", "ca.pem", "--ca-key", "ca.key", "--names-of-request", "--out", "c.pem")
    assert sealmq("verify", "c.pem", "--ca", "ca.pem", "--host", "b.example").startswith("valid for servers")


@pytest.mark.usefixtures("here")
def test_openssls_own_encrypted_forms_can_be_used():
    for cipher in (("-aes256",), ("-aes-128-cbc",)):
        openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *cipher, "-pass", "file:words",
            "-out", "theirs.key",
        )  # fmt: skip
        sealmq("csr", "--key", "theirs.key", "--subject", "CN=x", "--passphrase-file", "words")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", "traditional.key")
    sealmq("csr", "--key", "traditional.key", "--subject", "CN=x")


def test_a_ca_of_gnutls_signs_here_with_its_passphrase(here):
    certtool("--generate-privkey", "--key-type", "rsa", "--bits", "2048", "--pkcs8", "--password", PASSPHRASE,
             "--outfile", "ca.key")  # fmt: skip
    (here / "ca.key").chmod(0o600)
    (here / "template").write_text('cn = "their ca"\nca\ncert_signing_key\nexpiration_days = 90\n')
    certtool("--generate-self-signed", "--load-privkey", "ca.key", "--password", PASSPHRASE, "--template", "template",
             "--outfile", "ca.pem")  # fmt: skip
    sealmq("key")
    sealmq("csr", "--key", "key.pem", "--subject", "CN=x", "--out", "r.pem")
    ca = ("--ca-cert", "ca.pem", "--ca-key", "ca.key", "--ca-passphrase-file", "words")
    sealmq("sign", "r.pem", *ca, "--san", "b.example", "--out", "cert.pem")
    assert "OK" in openssl("verify", "-CAfile", "ca.pem", "-purpose", "sslserver", "cert.pem")
    sealmq("verify", "cert.pem", "--ca", "ca.pem", "--host", "b.example")


def test_stores_of_both_are_shown(here):
    _own_ca()
    sealmq("key")
    sealmq("csr", "--key", "key.pem", "--subject", "CN=x", "--out", "r.pem")
    sealmq("sign", "r.pem", "--ca-cert", "ca.pem", "--ca-key", "ca.key", "--san", "b.example", "--out", "cert.pem")
    openssl("pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-certfile", "ca.pem", "-passout",
            "file:words", "-out", "a.p12")  # fmt: skip
    certtool("--to-p12", "--load-certificate", "cert.pem", "--load-privkey", "key.pem", "--p12-name", "x", "--password",
             PASSPHRASE, "--outder", "--outfile", "b.p12")  # fmt: skip
    for store in ("a.p12", "b.p12"):
        objects = json.loads(sealmq("show", store, "--passphrase-file", "words", "--json"))["objects"]
        assert {one["kind"] for one in objects} == {"key", "certificate"}, store
        assert not [o for one in objects for o in one["oddities"] if o["slug"] == "key-mismatch"]
        assert "give it with --passphrase-file" in sealmq("show", store, status=1)
        (here / "wrong").write_text("wrong\n")
        (here / "wrong").chmod(0o600)
        assert "does not open it" in sealmq("show", store, "--passphrase-file", "wrong", status=1)
    openssl("crl2pkcs7", "-nocrl", "-certfile", "cert.pem", "-certfile", "ca.pem", "-out", "c.p7b")
    openssl("crl2pkcs7", "-nocrl", "-certfile", "cert.pem", "-outform", "DER", "-out", "d.p7b")
    assert sealmq("show", "c.p7b").count(": certificate") == 2
    assert sealmq("show", "d.p7b").count(": certificate") == 1


def test_revocation_lists_of_both_are_shown_and_heeded(here):
    _own_ca()
    sealmq("key")
    sealmq("csr", "--key", "key.pem", "--subject", "CN=x", "--out", "r.pem")
    sealmq("sign", "r.pem", "--ca-cert", "ca.pem", "--ca-key", "ca.key", "--san", "b.example", "--out", "cert.pem")
    sealmq("verify", "cert.pem", "--ca", "ca.pem")
    (here / "template").write_text("crl_next_update = 3\ncrl_number = 7\n")
    certtool("--generate-crl", "--load-ca-privkey", "ca.key", "--load-ca-certificate", "ca.pem", "--load-certificate",
             "cert.pem", "--template", "template", "--outfile", "gnutls.crl")  # fmt: skip
    (here / "index.txt").write_text("")
    (here / "number").write_text("1000\n")
    (here / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=3\n"
    )
    files = ("-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key")
    openssl("ca", *files, "-revoke", "cert.pem", "-crl_reason", "keyCompromise")
    openssl("ca", *files, "-gencrl", "-out", "openssl.crl")
    openssl("crl", "-in", "openssl.crl", "-outform", "DER", "-out", "openssl.der")
    for file in ("gnutls.crl", "openssl.crl", "openssl.der"):
        assert "entries    1" in sealmq("show", file)
        assert "its issuer revoked it" in sealmq("verify", "cert.pem", "--ca", "ca.pem", "--crl", file, status=1)
    assert "(keyCompromise)" in sealmq("show", "openssl.crl")


def _own_ca():
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
            "/CN=their ca", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
