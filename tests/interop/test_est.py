"""The life of a device with stock tools alone: curl, openssl, mosquitto's clients, and strongSwan's `pki`.

Knows nothing of Python clients; what is ours here is the broker and its command line.
"""

from __future__ import annotations

import json
import sys

import pytest

from programs import Program, finished, run_sealmq

EST = ".well-known/est"


class Broker(Program):
    """`sealmq up` on a data folder of its own, and what an operator and a device type."""

    def __init__(self, data, *args: object) -> None:
        self.data, self.place = data, data.parent
        words = ["--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", *args]
        super().__init__(sys.executable, "-m", "sealmq", *words)
        try:
            self.mqtts = self.expect(r"^ready mqtts://.*:(\d+)")[1]
            self.https = "https://localhost:" + self.expect(r"^ready https://.*:(\d+)")[1]
        except BaseException:
            self.close()
            raise

    def sealmq(self, *args: object):
        return run_sealmq("--data", self.data, *args)

    def told(self, *args: object) -> dict:
        done = self.sealmq(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def do(self, *words: object, stdin: str | None = None) -> str:
        """A stock tool that must succeed; what it printed."""
        done = finished(*words, stdin=stdin, cwd=self.place)
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def curl(self, path: str, *args: object) -> str:
        return self.do("curl", "-sS", "--fail-with-body", "--cacert", "ca.pem", *args, f"{self.https}/{path}")

    def status(self, path: str, *args: object) -> tuple[int, str]:
        """HTTP status and body of a request that may be refused."""
        words = ["curl", "-sS", "--cacert", "ca.pem", "-w", "\n%{http_code}", *args, f"{self.https}/{path}"]
        body, _, code = self.do(*words).rpartition("\n")
        return int(code), body

    def request(self, name: str, subject: str) -> str:
        """A key NAME.key and a request for it by openssl, in base64 as EST wants it, in NAME.b64."""
        curve = ["-pkeyopt", "ec_paramgen_curve:P-256"]
        self.do("openssl", "genpkey", "-algorithm", "EC", *curve, "-out", f"{name}.key")
        self.do(
            "openssl", "req", "-new", "-key", f"{name}.key", "-subj", subject, "-outform", "DER", "-out", f"{name}.csr"
        )
        self.do("openssl", "base64", "-in", f"{name}.csr", "-out", f"{name}.b64")
        return f"{name}.b64"

    def publish(self, name: str, topic: str, *more: object):
        who = ["--cafile", "ca.pem", "--cert", f"{name}.pem", "--key", f"{name}.key", "-i", f"dev-001:{name}"]
        words = ["mosquitto_pub", "-h", "localhost", "-p", self.mqtts, *who, "-t", topic, "-m", "21.5", "-q", "1"]
        return finished(*words, *more, cwd=self.place)


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "data") as running:
        yield running


def first_contact(broker, pin: str) -> None:
    """The CA over a connection that verifies nothing yet, and then the pin that came with the token."""
    broker.do("curl", "-sSk", "-o", "ca.pem", f"{broker.https}/ca.pem")
    public = broker.do("openssl", "x509", "-in", "ca.pem", "-noout", "-pubkey")
    (broker.place / "public.pem").write_text(public)
    broker.do("openssl", "pkey", "-pubin", "-in", "public.pem", "-outform", "DER", "-out", "public.der")
    assert broker.do("openssl", "dgst", "-sha256", "-r", "public.der").split()[0] == pin


def unpacked(broker, answer: str, name: str) -> None:
    """A certificate out of EST's answer, as NAME.pem, with the issuing CA behind it."""
    (broker.place / "answer.b64").write_text(answer)
    broker.do("openssl", "base64", "-d", "-A", "-in", "answer.b64", "-out", "answer.p7")
    leaf = broker.do("openssl", "pkcs7", "-inform", "DER", "-in", "answer.p7", "-print_certs")
    (broker.place / f"{name}.pem").write_text(leaf)


def test_the_life_of_a_device_with_stock_tools(broker):
    token = broker.told("device", "add", "dev-001", "--token", "--group", "roof")
    assert token["uri"].startswith("sealmq-enrol://localhost:")
    first_contact(broker, token["pin"])

    # it enrols, once
    body = broker.request("first", "/CN=dev-001")
    enrol = ["-u", f"dev-001:{token['token']}", "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{body}"]
    unpacked(broker, broker.curl(f"{EST}/simpleenroll", *enrol), "first")
    assert broker.status(f"{EST}/simpleenroll", *enrol)[0] == 401
    broker.do("openssl", "x509", "-in", "first.pem", "-noout", "-checkend", str(29 * 86_400))

    # it works
    assert broker.publish("first", "devices/dev-001/temperature").returncode == 0
    broker.expect("connected dev-001:first")

    # it asks when to renew, and renews with a new key, shown the old one
    own = ["--cert", "first.pem", "--key", "first.key"]
    window = json.loads(broker.curl("renewal-info", *own))["window"]
    assert window["start"] < window["end"]
    body = broker.request("second", "/CN=dev-001")
    unpacked(broker, broker.curl(f"{EST}/simplereenroll", *own, "--data-binary", f"@{body}"), "second")
    assert broker.publish("second", "devices/dev-001/temperature").returncode == 0
    broker.expect("superseded")
    certificates = broker.told("device", "show", "dev-001")["certificates"]
    assert sorted(one["status"] for one in certificates) == ["active", "superseded"]

    # it is thrown out while it listens
    who = ["--cafile", "ca.pem", "--cert", "second.pem", "--key", "second.key", "-i", "dev-001:sub", "-V", "5"]
    words = ["mosquitto_sub", "-h", "localhost", "-p", broker.mqtts, *who, "-t", "devices/dev-001/#"]
    with Program(*words, cwd=broker.place):
        broker.expect("connected dev-001:sub")
        revoked = broker.told("device", "revoke", "dev-001", "--reason", "key-compromise")
        assert revoked["sessions_closed"] == 1
        assert revoked["milliseconds"] < 1000
        broker.expect("disconnected dev-001:sub")
        assert broker.publish("second", "devices/dev-001/temperature").returncode != 0
    again = ["--cert", "second.pem", "--key", "second.key", "--data-binary", f"@{body}"]
    code, reason = broker.status(f"{EST}/simplereenroll", *again)
    assert (code, reason.splitlines()[0]) == (403, "device dev-001 is revoked")
    crl = broker.curl("crl")
    serial = broker.do("openssl", "x509", "-in", "second.pem", "-noout", "-serial").strip().partition("=")[2]
    listed = broker.do("openssl", "crl", "-noout", "-text", stdin=crl)
    assert serial.lstrip("0") in listed
    assert "Key Compromise" in listed

    # it is over
    assert broker.sealmq("device", "retire", "dev-001").returncode == 0
    refused = broker.sealmq("device", "add", "dev-001")
    assert refused.returncode == 1
    assert "is not given out again" in refused.stderr


def test_plain_enrolment_with_pem(broker):
    token = broker.told("device", "add", "dev-001", "--token")
    first_contact(broker, token["pin"])
    broker.request("plain", "/CN=dev-001")
    broker.do("openssl", "req", "-inform", "DER", "-in", "plain.csr", "-out", "plain.pem.csr")
    bearer = f"Authorization: Bearer {token['token']}"
    broker.curl("enrol", "-H", bearer, "--data-binary", "@plain.pem.csr", "-o", "plain.pem")
    assert broker.publish("plain", "devices/dev-001/temperature").returncode == 0


def test_strongswan_enrols_and_renews(broker):
    """With `pki` of Debian's strongswan-pki, which `make test` installs."""
    token = broker.told("device", "add", "dev-001", "--token")
    first_contact(broker, token["pin"])
    url = ["--url", broker.https, "--cacert", "ca.pem"]
    broker.do("pki", "--estca", *url, "--caout", "est-ca", "--outform", "pem")
    issuing = next(path.name for path in broker.place.glob("est-ca-*"))

    def request(name: str) -> None:
        for kind, words in {
            "key": ["--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"],
            "csr": ["--req", "--in", f"{name}.key", "--type", "ecdsa", "--dn", "CN=dev-001", "--outform", "pem"],
        }.items():
            (broker.place / f"{name}.{kind}").write_text(broker.do("pki", *words))

    trusted = [*url, "--cacert", issuing]
    request("swan")
    who = ["--userpass", f"dev-001:{token['token']}"]
    leaf = broker.do("pki", "--est", *trusted, *who, "--in", "swan.csr", "--outform", "pem")
    (broker.place / "swan.pem").write_text(leaf)
    assert broker.publish("swan", "devices/dev-001/temperature").returncode == 0

    request("swan2")
    who = ["--cert", "swan.pem", "--key", "swan.key"]
    leaf = broker.do("pki", "--est", *trusted, *who, "--in", "swan2.csr", "--outform", "pem")
    (broker.place / "swan2.pem").write_text(leaf)
    assert broker.publish("swan2", "devices/dev-001/temperature").returncode == 0
    broker.expect("superseded")
    assert "Traceback" not in broker.err
