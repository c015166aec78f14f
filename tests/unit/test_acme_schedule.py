"""When ACME is asked for the next certificate: a third left, the server's window, failures; on a virtual clock."""

import http.server
import io
import json
import random
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sealmq.broker import log, publicname
from sealmq.broker.publicname import LADDER, PublicName
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.errors import Environment, PeerFault
from sealmq.pki import acme, signing
from sealmq.pki.acme import jws, renewalinfo
from sealmq.pki.acme.server import AcmeServer, Answer, Refused, refusal
from sealmq.testing import ThrowawayCA
from sealmq.tls import client_context

NOW = signing.utc_now()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


# --- a directory that only suggests --------------------------------------------------------------------------------


@dataclass
class Suggesting:
    """An ACME server with nothing but a directory and renewal information; `window` is what it says."""

    url: str
    ca_file: object
    window: dict = field(default_factory=dict)
    retry_after: str = "3600"
    asked: list = field(default_factory=list)


@contextmanager
def suggesting(folder):
    files = ThrowawayCA().issue_server("localhost").write(folder / "own")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/dir":
                document = {"renewalInfo": f"{told.url.removesuffix('/dir')}/ari"}
            else:
                told.asked.append(self.path.removeprefix("/ari/"))
                document = {"suggestedWindow": told.window}
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Retry-After", told.retry_after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    told = Suggesting(f"https://localhost:{server.server_address[1]}/dir", files.ca)
    (folder / "dir-root.pem").write_bytes(files.ca.read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def directory(tmp_path):
    with suggesting(tmp_path) as told:
        yield told


# --- a public name whose orders are a stand-in ---------------------------------------------------------------------


class Rig:
    """A `PublicName`; `orders` has the time of each order, and `outcome` is what the next ones raise."""

    def __init__(self, folder, monkeypatch, **more):
        lines = {"names": ["broker.example"], "directory": "https://127.0.0.1:1/dir", **more}
        text = "\n".join(["[tls.acme]", *(f"{key} = {json.dumps(value)}" for key, value in lines.items())])
        (folder / "acme.toml").write_text(text)
        self.folder = DataFolder.create_or_open(folder / "data")
        self.settings = load(folder / "none", file=folder / "acme.toml", environ={})
        self.ca, self.log = ThrowawayCA(), io.StringIO()
        self.now, self.orders, self.outcome, self.replaced = NOW, [], None, []
        monkeypatch.setattr(acme, "obtain", self.obtain)
        self.again()

    def again(self):
        """As after a restart."""
        logger = log.make(level="info", form="text", stream=self.log)
        self.public = PublicName(self.folder, lambda: self.settings, logger, chance=random.Random(7))  # noqa: S311

    def obtain(self, _server, names, _challenge, *, replaces, sleep):
        assert sleep
        self.orders.append(self.now)
        self.replaced.append(replaces)
        if self.outcome is not None:
            raise self.outcome
        made = self.ca.issue_server(*names)
        return acme.Obtained(made.cert_pem, made.key_pem)

    def at(self, moment):
        self.now = moment
        self.public.tick(moment)
        return len(self.orders)


@pytest.fixture
def rig(tmp_path, monkeypatch):
    return Rig(tmp_path, monkeypatch)


def test_nothing_is_asked_without_names(tmp_path, monkeypatch):
    idle = Rig(tmp_path, monkeypatch, names=[])
    assert idle.at(NOW) == 0
    assert idle.public.identity(idle.settings) is None


def test_renewal_at_a_third_left(rig):
    assert rig.at(NOW) == 1
    assert rig.at(NOW + 19 * DAY) == 1
    assert rig.at(NOW + 20 * DAY + HOUR) == 2
    assert rig.replaced[0] is None
    assert rig.replaced[1].count(".") == 1


def test_the_ladder_after_failures_and_its_jitter(rig):
    rig.outcome = Environment("no way", mend="look")
    moment, count = NOW, 0
    for step in [*LADDER, LADDER[-1]]:
        count += 1
        assert rig.at(moment) == count
        assert rig.at(moment + step * 0.79) == count
        moment += step * 1.21
    rig.outcome = None
    assert rig.at(moment) == count + 1
    assert rig.public.identity(rig.settings) is not None


def test_the_ladder_holds_for_what_nobody_thought_of(rig):
    """Nonsense of a server used to be answered with another order every thirty seconds."""
    rig.outcome = AttributeError("'str' object has no attribute 'get'")
    assert rig.at(NOW) == 1
    assert rig.at(NOW + timedelta(seconds=30)) == 1
    assert "attempt 1, the next one is at" in rig.log.getvalue()


def test_the_ladder_holds_on_a_full_disk(rig, monkeypatch):
    """Each order gave a certificate that could not be kept, and the next one followed at once."""

    def full(*_args):
        raise Environment("disk is full", code="disk-full")

    with monkeypatch.context() as patch:
        patch.setattr(publicname, "write_private", full)
        rig.public._account_key = lambda: None
        assert rig.at(NOW) == 1
        assert rig.at(NOW + timedelta(seconds=30)) == 1
        assert rig.at(NOW + 2 * MINUTE) == 2
    assert rig.at(NOW + 6 * MINUTE) == 3
    assert rig.public.identity(rig.settings) is not None


def test_a_restart_does_not_forget_to_wait(rig):
    rig.outcome = Environment("no way")
    rig.at(NOW)
    rig.again()
    assert rig.at(NOW + timedelta(seconds=10)) == 1
    assert rig.at(NOW + 2 * MINUTE) == 2


def test_a_server_that_asks_to_wait_is_heeded(rig):
    rig.outcome = Refused("too many", mend="", code="acme-rateLimited", retry_after=5 * HOUR)
    assert rig.at(NOW) == 1
    assert rig.at(NOW + 4.9 * HOUR) == 1
    assert rig.at(NOW + 5.1 * HOUR) == 2


def test_a_note_from_another_clock_is_not_believed(rig):
    rig.outcome = Environment("no way")
    rig.at(NOW + 4000 * DAY)
    assert rig.at(NOW) == 2


def test_an_expired_a_foreign_and_a_damaged_certificate_are_not_shown(rig):
    rig.at(NOW)
    path = rig.folder.path / "acme" / "public.pem"
    good = path.read_bytes()
    old = ThrowawayCA(now=NOW - 90 * DAY).issue_server("broker.example")
    other = rig.ca.issue_server("elsewhere.example")
    mixed = rig.ca.issue_server("broker.example")
    for content in (
        old.key_pem + old.cert_pem,
        other.key_pem + other.cert_pem,
        other.key_pem + mixed.cert_pem,
        good[:400],
        b"",
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        assert rig.public.identity(rig.settings) is None
    path.write_bytes(good)
    assert rig.public.identity(rig.settings) is not None
    path.chmod(0o644)
    assert rig.public.identity(rig.settings) is None


def test_a_damaged_account_key_is_named(rig):
    (rig.folder.path / "acme").mkdir(mode=0o700)
    path = rig.folder.path / "acme" / "account.key"
    path.write_bytes(b"nothing")
    path.chmod(0o600)
    assert rig.at(NOW) == 0
    assert f"account key {path} is damaged" in rig.log.getvalue()


# --- the server's window -------------------------------------------------------------------------------------------


@pytest.fixture
def heeding(tmp_path, monkeypatch, directory):
    built = Rig(tmp_path, monkeypatch, directory=directory.url, ca_file=str(tmp_path / "dir-root.pem"))
    built.at(NOW)
    return built


def span(start, end):
    return {"start": start.isoformat(), "end": end.isoformat()}


def test_a_window_long_before_a_third_is_left_pulls_the_renewal_forward(heeding, directory):
    directory.window = span(NOW + 2 * DAY, NOW + 3 * DAY)
    assert heeding.at(NOW + DAY) == 1
    assert "server suggests to renew between" in heeding.log.getvalue()
    chosen = heeding.public._chosen
    assert NOW + 2 * DAY <= chosen <= NOW + 3 * DAY
    assert heeding.at(chosen - MINUTE) == 1
    assert heeding.at(chosen) == 2
    leaf = x509.load_pem_x509_certificate((heeding.folder.path / "acme" / "public.pem").read_bytes())
    assert directory.asked[0] == heeding.replaced[1] != renewalinfo.identifier(leaf)


def test_an_incident_moves_the_window_into_the_past_and_the_renewal_to_now(heeding, directory):
    directory.window = span(NOW + 19 * DAY, NOW + 20 * DAY)
    assert heeding.at(NOW + DAY) == 1
    directory.window = span(NOW - DAY, NOW)
    assert heeding.at(NOW + DAY + 59 * MINUTE) == 1  # asked again once Retry-After has passed, not before
    assert heeding.at(NOW + DAY + 61 * MINUTE) == 2


def test_a_window_that_comes_too_late_does_not_let_a_certificate_run_out(heeding, directory):
    directory.window = span(NOW + 29.9 * DAY, NOW + 29.95 * DAY)
    assert heeding.at(NOW + 25 * DAY) == 1  # later than a third, as the server wants it
    assert heeding.at(NOW + 28.6 * DAY) == 2  # a twentieth is left


@pytest.mark.parametrize("window", [{}, {"start": "x", "end": "y"}, span(NOW, NOW - DAY), {"start": "2026-01-01"}])
def test_a_window_that_is_none_falls_back_to_a_third_left(heeding, directory, window):
    directory.window = window
    assert heeding.at(NOW + 19 * DAY) == 1
    assert heeding.at(NOW + 20 * DAY + HOUR) == 2


def test_the_name_of_a_certificate_is_that_of_the_standard():
    """RFC 9773, section 4.1: the example's key identifier and serial."""
    key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4".lower())
    key = signing.new_key()
    name = x509.Name([])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x87654321)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    )
    from cryptography.hazmat.primitives import hashes

    certificate = built.sign(key, hashes.SHA256())
    assert renewalinfo.identifier(certificate) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


# --- words of the protocol -----------------------------------------------------------------------------------------


def test_the_signature_is_one_that_others_verify():
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    key = signing.new_key()
    sent = json.loads(jws.signed({"a": 1}, key=key, url="https://x.invalid/", nonce="n", account=None))

    def raw(part):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    head = json.loads(raw(sent["protected"]))
    assert (head["alg"], head["nonce"], head["url"], head["jwk"]["kty"]) == ("ES256", "n", "https://x.invalid/", "EC")
    signature = raw(sent["signature"])
    assert len(signature) == 64
    pair = utils.encode_dss_signature(*(int.from_bytes(half) for half in (signature[:32], signature[32:])))
    signed = f"{sent['protected']}.{sent['payload']}".encode()
    key.public_key().verify(pair, signed, ec.ECDSA(hashes.SHA256()))
    assert json.loads(raw(sent["payload"])) == {"a": 1}
    reading = json.loads(jws.signed(None, key=key, url="https://x.invalid/", nonce="n", account="https://x.invalid/1"))
    assert reading["payload"] == ""
    assert json.loads(raw(reading["protected"]))["kid"] == "https://x.invalid/1"


def test_a_refusal_names_the_sub_problems_and_forges_no_line():
    problem = {
        "type": "urn:ietf:params:acme:error:rejectedIdentifier",
        "detail": "some names\nerror: forged",
        "subproblems": [{"identifier": {"type": "dns", "value": "a.example"}, "detail": "forbidden."}],
    }
    found = refusal(problem, "order")
    assert found.code == "acme-rejectedIdentifier"
    assert found.message == "ACME server refused the order: some names error: forged; a.example: forbidden"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), ("999999999", 86_400), ("soon", None), ("", None), ("-5", None)],
)
def test_retry_after(header, seconds):
    wait = Answer(200, {"retry-after": header}, b"").retry_after()
    assert wait == (None if seconds is None else timedelta(seconds=seconds))


def test_retry_after_as_a_date():
    date = (datetime.now(UTC) + 100 * MINUTE).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert 99 * MINUTE < Answer(200, {"retry-after": date}, b"").retry_after() < 101 * MINUTE


@pytest.mark.parametrize("url", ["http://127.0.0.1/dir", "file:///etc/passwd", "https:///dir", "x"])
def test_only_https_is_spoken(url):
    from sealmq.errors import ConfigError

    server = AcmeServer(url, signing.new_key(), "", client_context(ca=None))
    with pytest.raises(ConfigError) as caught:
        server.url_of("newOrder")
    assert caught.value.code == "acme-directory"


def test_a_directory_without_what_is_needed(directory, tmp_path):
    server = AcmeServer(directory.url, signing.new_key(), "", client_context(ca=tmp_path / "dir-root.pem"))
    with pytest.raises(PeerFault) as caught:
        server.post("https://localhost:1/x", {})
    assert caught.value.code == "acme-directory"


def test_secrets_do_not_print():
    key = signing.new_key()
    server = AcmeServer("https://x.invalid/dir", key, "", client_context(ca=None))
    made = acme.Obtained(b"chain", signing.key_pem(key))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert secret.decode() not in f"{server!r} {made!r}"
    assert "EllipticCurve" not in repr(server)
