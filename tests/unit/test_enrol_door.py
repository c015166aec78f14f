"""Enrolment over HTTPS, with a stand-in for the data plane: what is answered, what is refused, what is bounded."""

import base64
import contextlib
import http.client
import io
import json
import socket
import ssl
import subprocess
from datetime import timedelta

import fake_engine
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from sealmq.broker import control, door
from sealmq.broker.service import Service
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.errors import NotSo
from sealmq.pki import enrolment, profiles, requests, signing
from sealmq.pki.authority import Authority
from sealmq.pki.operations import device_add, device_revoke, device_token
from sealmq.pki.registry import Registry
from sealmq.testing import ThrowawayCA

EST = "/.well-known/est"
NOW = signing.utc_now()
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    return fake_engine.install(monkeypatch)


class Door:
    """A running service with its HTTPS door, and a client of it."""

    def __init__(self, service, log):
        self.service = service
        self.log = log
        self.host, port = service.urls()[-1].removeprefix("https://").split(":")
        self.port = int(port)

    def token(self, device_id="sensor-1", *, now=NOW):
        return device_token(*self.three(), id=device_id, new=True, now=now)["token"]

    def three(self):
        return self.service.folder, self.service.authority, self.service.registry

    def context(self, identity=None):
        context = ssl.create_default_context(cadata=self.service.authority.server_ca_pem().decode())
        if identity is not None:
            context.load_cert_chain(*identity)
        return context

    def ask(self, method, path, body=None, *, identity=None, headers=None):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=10, context=self.context(identity))
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    @contextlib.contextmanager
    def connection(self):
        """A TLS connection to write on by hand."""
        raw = socket.create_connection((self.host, self.port))
        with raw, self.context().wrap_socket(raw, server_hostname=self.host) as connection:
            yield connection

    def basic(self, device_id, token):
        return {"Authorization": "Basic " + base64.b64encode(f"{device_id}:{token}".encode()).decode()}

    def refused(self):
        """The last refusal as the broker remembers it."""
        return self.service.refusals.last(1)[0]


@pytest.fixture
def opened(tmp_path):
    """`opened(setting=value)`: a service on a data folder whose CA is 200 days old."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            data = tmp_path / "data"
            folder = DataFolder.create_or_open(data)
            if not folder.ca_dir.is_dir():
                Authority.create(folder, now=NOW - 200 * DAY)
            overrides = {"listen.https": "127.0.0.1:0", **{k.replace("__", "."): v for k, v in settings.items()}}
            log = io.StringIO()
            read = lambda: load(data / "sealmq.toml", overrides=overrides, environ={})  # noqa: E731
            return Door(stack.enter_context(Service(data, read, log_to=log)), log)

        yield start


@pytest.fixture
def at_door(opened):
    return opened()


def csr(common_name=None, *names, key=None):
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return requests.build(key or signing.new_key(), subject=x509.Name(subject), names=list(names))


def der(pem):
    return b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))


@pytest.fixture
def identity(tmp_path):
    """`identity(door, lifetime…)` enrols a device in the past and writes its pair; the files, certificate first."""

    def make(at_door, device_id="sensor-1", *, now=NOW):
        key = signing.new_key()
        token = at_door.token(device_id, now=now)
        _, authority, registry = at_door.three()
        request = csr(device_id, key=key)
        issued = enrolment.by_token(authority, registry, token=token, request=request, now=now)
        cert, key_file = tmp_path / f"{device_id}.pem", tmp_path / f"{device_id}.key"
        cert.write_bytes(issued.chain_pem)
        key_file.write_bytes(signing.key_pem(key))
        return cert, key_file

    return make


# --- EST --------------------------------------------------------------------------------------------------------------


def test_cacerts_is_one_line_of_base64_with_root_and_issuer(at_door):
    status, headers, body = at_door.ask("GET", f"{EST}/cacerts")
    assert (status, headers["Content-Transfer-Encoding"]) == (200, "base64")
    assert headers["Content-Type"].startswith("application/pkcs7-mime")
    assert b"\n" not in body
    found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    authority = at_door.service.authority
    assert set(found) == {authority.root.certificate, authority.device_issuer.certificate}


def test_csrattrs_asks_for_p256(at_door):
    status, _, body = at_door.ask("GET", f"{EST}/csrattrs")
    told = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=base64.b64decode(body), capture_output=True, check=True
    ).stdout.decode()
    assert status == 200
    for word in ("id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"):
        assert word in told


def test_simpleenroll_with_a_token_once(at_door):
    token = at_door.token()
    key = signing.new_key()
    who = at_door.basic("sensor-1", token)
    status, headers, body = at_door.ask("POST", f"{EST}/simpleenroll", der(csr("sensor-1", key=key)), headers=who)
    assert (status, headers["Content-Transfer-Encoding"]) == (200, "base64")
    (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert leaf.public_key() == key.public_key()
    status, headers, body = at_door.ask("POST", f"{EST}/simpleenroll", der(csr("sensor-1")), headers=who)
    assert (status, headers["Sealmq-Cause"]) == (401, "token-used")
    assert headers["WWW-Authenticate"].startswith("Basic ")
    message, mend = body.decode().splitlines()
    assert "used already" in message
    assert mend.startswith("mend: ")
    record = at_door.refused()
    assert (record["stage"], record["cause"], record["listener"]) == ("enrolment", "token-used", "https")
    assert token not in at_door.log.getvalue()
    assert at_door.service.status()["counts"]["certificates_issued"] == 1


@pytest.mark.parametrize("form", ["der", "lines", "pem", "binary"])
def test_a_request_is_taken_in_every_form(at_door, form):
    pem = csr()
    body = {
        "der": der(pem),
        "lines": b"\r\n".join(pem.splitlines()[1:-1]),
        "pem": pem,
        "binary": base64.b64decode(der(pem)),
    }[form]
    status, _, _ = at_door.ask("POST", f"{EST}/simpleenroll", body, headers=at_door.basic("sensor-1", at_door.token()))
    assert status == 200


def test_refusals_have_a_status_a_cause_and_a_record(at_door):
    token = at_door.token()
    old = at_door.token("sensor-2", now=NOW - 2 * DAY)
    mine = at_door.basic("sensor-1", token)
    cases = [
        ({}, csr(), 401, "token-missing"),
        ({"Authorization": "Digest x"}, csr(), 401, "token-missing"),
        ({"Authorization": "Basic %%%"}, csr(), 401, "token-missing"),
        (at_door.basic("sensor-1", "00" * 16), csr(), 401, "token-unknown"),
        (at_door.basic("sensor-2", old), csr(), 401, "token-expired"),
        (at_door.basic("sensor-2", token), csr(), 403, "token-other-device"),
        (mine, b"rubbish", 400, "request-invalid"),
        (mine, b"", 400, "request-invalid"),
        (mine, csr("sensor-2"), 400, "request-names"),
        (mine, csr("sensor-1", x509.DNSName("broker.example")), 400, "request-names"),
        (mine, b"A" * 200_000, 413, "request-too-large"),
    ]
    for headers, body, status, cause in cases:
        found, told, text = at_door.ask("POST", f"{EST}/simpleenroll", body, headers=headers)
        assert (found, told["Sealmq-Cause"]) == (status, cause)
        assert text.decode().count("\n") == 2
        assert at_door.refused()["cause"] == cause
    assert at_door.ask("POST", f"{EST}/simpleenroll", csr(), headers=mine)[0] == 200


def test_simplereenroll_needs_the_certificate(at_door, identity):
    status, headers, _ = at_door.ask("POST", f"{EST}/simplereenroll", csr())
    assert (status, headers["Sealmq-Cause"]) == (403, "certificate-missing")
    key = signing.new_key()
    status, _, body = at_door.ask("POST", f"{EST}/simplereenroll", csr("sensor-1", key=key), identity=identity(at_door))
    assert status == 200
    (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert leaf.public_key() == key.public_key()


def test_an_expired_certificate_gets_the_next_one_within_the_grace_and_nothing_after(opened, identity):
    at_door = opened(enrolment__grace="30d")
    pair = identity(at_door, now=NOW - 40 * DAY)
    status, _, _ = at_door.ask("POST", f"{EST}/simplereenroll", csr(), identity=pair)
    assert status == 200
    late = identity(at_door, "sensor-2", now=NOW - 61 * DAY)
    status, headers, _ = at_door.ask("POST", f"{EST}/simplereenroll", csr(), identity=late)
    assert (status, headers["Sealmq-Cause"]) == (403, "certificate-expired")


def test_a_revoked_device_is_refused_also_on_a_connection_that_was_open(at_door, identity):
    pair = identity(at_door)
    connection = http.client.HTTPSConnection(at_door.host, at_door.port, timeout=10, context=at_door.context(pair))
    with contextlib.closing(connection):
        connection.request("GET", "/renewal-info")
        assert connection.getresponse().read()
        control.call(at_door.service.folder, "device-revoke", {"id": "sensor-1"})
        connection.request("POST", "/enrol", body=csr())
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Sealmq-Cause"]) == (403, "device-revoked")


def test_a_certificate_of_nobody_we_know_ends_the_handshake(at_door, tmp_path):
    files = ThrowawayCA().issue_client("sensor-1").write(tmp_path / "foreign")
    with pytest.raises((ssl.SSLError, OSError)):
        at_door.ask("POST", f"{EST}/simplereenroll", csr(), identity=(files.cert, files.key))
    assert at_door.ask("GET", "/healthz")[0] == 200


def test_a_client_ca_of_the_users_opens_no_door_to_enrolment(opened, tmp_path):
    """Who may connect by MQTT with a certificate of another CA is not thereby let into the fleet's own."""
    foreign = ThrowawayCA()
    (tmp_path / "client-ca.pem").write_bytes(foreign.client_ca_pem)
    at_door = opened(tls__client_ca=str(tmp_path / "client-ca.pem"))
    files = foreign.issue_client("sensor-1").write(tmp_path / "foreign")
    with contextlib.suppress(ssl.SSLError, OSError):
        status, headers, _ = at_door.ask("POST", f"{EST}/simpleenroll", csr(), identity=(files.cert, files.key))
        assert (status, headers["Sealmq-Cause"]) == (403, "certificate-unknown")
    assert control.call(at_door.service.folder, "device-pending")["pending"] == []


def test_a_factory_device_waits_is_approved_and_enrols(opened, tmp_path):
    factory = signing.sign_ca(profiles.ROOT, fleet="factory", number=1, now=NOW - DAY)
    (tmp_path / "factory.pem").write_bytes(signing.certificate_pem(factory.certificate))
    at_door = opened(enrolment__factory_ca=str(tmp_path / "factory.pem"))
    key = signing.new_key()
    row = profiles.DEVICE_PROFILES["default"]
    leaf = signing.sign_leaf(
        row, issuer=factory, public_key=key.public_key(), common_name="sensor-9", names=[], now=NOW - DAY
    )
    pair = tmp_path / "idev.pem", tmp_path / "idev.key"
    pair[0].write_bytes(signing.certificate_pem(leaf))
    pair[1].write_bytes(signing.key_pem(key))
    status, headers, body = at_door.ask("POST", f"{EST}/simpleenroll", csr(), identity=pair)
    assert (status, headers["Retry-After"], headers["Sealmq-Cause"]) == (202, "60", "approval-waiting")
    assert b"sensor-9" in body
    (waiting,) = control.call(at_door.service.folder, "device-pending")["pending"]
    assert waiting["peer"].startswith("127.0.0.1:")
    control.call(at_door.service.folder, "device-approve", {"id": "sensor-9"})
    status, _, body = at_door.ask("POST", "/enrol", csr(), identity=pair)
    assert status == 200
    assert x509.load_pem_x509_certificates(body)[0].subject.rfc4514_string() == "CN=sensor-9"


# --- plain ------------------------------------------------------------------------------------------------------------


def test_enrol_takes_and_gives_pem(at_door):
    headers = {"Authorization": f"Bearer {at_door.token()}"}
    status, _, body = at_door.ask("POST", "/enrol", csr(), headers=headers)
    assert status == 200
    leaf, issuer = x509.load_pem_x509_certificates(body)
    leaf.verify_directly_issued_by(issuer)
    assert at_door.ask("GET", "/enrol")[0] == 405


def test_renewal_info_is_for_the_holder(at_door, identity):
    status, headers, _ = at_door.ask("GET", "/renewal-info")
    assert (status, headers["Sealmq-Cause"]) == (403, "certificate-missing")
    status, _, body = at_door.ask("GET", "/renewal-info", identity=identity(at_door))
    found = json.loads(body)
    assert (status, found["device"], found["mqtts_port"]) == (200, "sensor-1", 8883)
    assert found["window"]["start"] < found["window"]["end"] < found["not_after"]


def test_an_incident_pulls_every_window_forward(opened, identity):
    at_door = opened(identity__renew_issued_before=(NOW + timedelta(seconds=1)).isoformat())
    _, _, body = at_door.ask("GET", "/renewal-info", identity=identity(at_door))
    found = json.loads(body)
    assert found["window"]["start"] < (NOW + timedelta(hours=7)).isoformat()
    assert found["reason"].startswith("issued before")


def test_who_fetches_the_roots_with_a_certificate_has_them(at_door, identity):
    pair = identity(at_door)
    _, version = at_door.service.authority.bundle()
    assert at_door.service.registry.bundles.confirmed(version) == {}
    at_door.ask("GET", f"{EST}/cacerts")
    assert at_door.service.registry.bundles.confirmed(version) == {}
    at_door.ask("GET", f"{EST}/cacerts", identity=pair)
    assert list(at_door.service.registry.bundles.confirmed(version)) == ["sensor-1"]


def test_a_wrong_clock_is_our_fault_and_not_the_devices(at_door, monkeypatch):
    token = at_door.token()
    monkeypatch.setattr(signing, "utc_now", lambda: NOW - 3650 * DAY)
    status, headers, _ = at_door.ask("POST", "/enrol", csr(), headers={"Authorization": f"Bearer {token}"})
    assert (status, headers["Sealmq-Cause"]) == (503, "clock-wrong")


def test_a_full_disk_is_our_fault_and_spends_no_token(at_door):
    headers = {"Authorization": f"Bearer {at_door.token()}"}
    sqlite = at_door.service.registry._file._connection
    room = sqlite.execute("PRAGMA max_page_count").fetchone()[0]
    sqlite.execute("CREATE TABLE ballast (x)")
    sqlite.execute(
        "CREATE TRIGGER full BEFORE INSERT ON certificates BEGIN INSERT INTO ballast VALUES (randomblob(99999)); END"
    )
    sqlite.execute(f"PRAGMA max_page_count = {sqlite.execute('PRAGMA page_count').fetchone()[0]}")
    status, told, _ = at_door.ask("POST", "/enrol", csr(), headers=headers)
    assert (status, told["Sealmq-Cause"]) == (503, "disk-full")
    sqlite.execute(f"PRAGMA max_page_count = {room}")
    assert at_door.ask("POST", "/enrol", csr(), headers=headers)[0] == 200


# --- bounds -----------------------------------------------------------------------------------------------------------


def ends(connection):
    """Whether the other side closes within the test's patience."""
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"],
    ids=["nothing", "half-a-head", "half-a-body"],
)
def test_a_request_that_does_not_come_to_its_end_is_cut_off(opened, monkeypatch, beginning):
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.3)
    at_door = opened()
    with at_door.connection() as connection:
        connection.sendall(beginning)
        assert ends(connection)
    assert at_door.ask("GET", "/healthz")[0] == 200


def test_the_second_request_of_a_connection_has_a_deadline_too(opened, monkeypatch):
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.3)
    at_door = opened()
    with at_door.connection() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(4096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert ends(connection)


def test_a_handshake_that_does_not_come_to_its_end_is_cut_off(opened, monkeypatch):
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.3)
    at_door = opened()
    with socket.create_connection((at_door.host, at_door.port)) as connection:
        connection.sendall(b"\x16\x03\x01")
        assert ends(connection)


def test_one_address_cannot_take_every_connection(opened, monkeypatch):
    monkeypatch.setattr(door, "PER_ADDRESS", 3)
    at_door = opened()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((at_door.host, at_door.port))) for _ in range(3)]
        assert held
        with socket.create_connection((at_door.host, at_door.port)) as one_too_many:
            assert ends(one_too_many)
    for _ in range(1000):  # until the door has noticed that the three are gone
        with contextlib.suppress(ConnectionError):
            assert at_door.ask("GET", "/healthz")[0] == 200
            return
    pytest.fail("connections that ended are still counted")


def test_a_head_without_end_is_cut_off(at_door):
    with at_door.connection() as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * (2 * door.HEAD_BYTES))
        assert ends(connection)


# --- live: through the control socket ---------------------------------------------------------------------------------


def test_a_revocation_reaches_the_data_plane_and_every_configuration_after_it(at_door, identity, tmp_path):
    pair = identity(at_door)
    sha256 = at_door.service.registry.device("sensor-1").certificates[0].sha256
    found = control.call(at_door.service.folder, "device-revoke", {"id": "sensor-1", "reason": "key-compromise"})
    assert (found["sessions_closed"], found["already"]) == (2, False)
    assert 0 < found["milliseconds"] < 10_000
    node = fake_engine.Node.started[-1]
    assert node.revoked == [{"devices": ["sensor-1"], "certificates": [sha256]}]
    at_door.service.reload()
    assert node.reloaded[-1]["revoked"] == {"devices": ["sensor-1"], "certificates": [sha256]}
    status, _, crl = at_door.ask("GET", "/crl")
    assert status == 200
    (tmp_path / "crl.pem").write_bytes(crl + at_door.service.authority.client_ca_pem())
    verify = ["openssl", "verify", "-partial_chain", "-crl_check", "-CAfile", tmp_path / "crl.pem", pair[0]]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert done.returncode != 0
    assert "certificate revoked" in done.stdout + done.stderr
    assert "device sensor-1 is revoked (key-compromise); 2 sessions closed" in at_door.log.getvalue()


def test_retiring_purges_what_the_broker_keeps(at_door):
    at_door.token()
    found = control.call(at_door.service.folder, "device-retire", {"id": "sensor-1"})
    assert (found["sessions_purged"], found["retained_purged"]) == (1, 3)
    with pytest.raises(NotSo) as caught:
        control.call(at_door.service.folder, "device-add", {"id": "sensor-1"})
    assert caught.value.code == "device-retired"


def test_an_id_that_is_given_out_again_is_taken_off_the_deny_list(at_door):
    at_door.token()
    control.call(at_door.service.folder, "device-retire", {"id": "sensor-1"})
    control.call(at_door.service.folder, "device-add", {"id": "sensor-1", "reuse_retired": True})
    assert fake_engine.Node.started[-1].reloaded[-1]["revoked"]["devices"] == []


def test_what_was_revoked_while_no_broker_ran_is_refused_from_its_start(opened, tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    authority = Authority.create(folder, now=NOW - DAY)
    with Registry.open(folder) as registry:
        device_add(folder, authority, registry, id="sensor-1")
        device_revoke(folder, authority, registry, id="sensor-1")
    opened()
    config = fake_engine.Node.started[-1].config
    assert config["revoked"]["devices"] == ["sensor-1"]
    assert len(config["revoked"]["certificates"]) == 1


def test_a_connection_with_a_certificate_is_remembered(at_door, identity):
    identity(at_door)
    (record,) = at_door.service.registry.device("sensor-1").certificates
    event = {"event": "connected", "at": 0, "client_id": "sensor-1", "device": "sensor-1", "peer": "127.0.0.1:1"}
    node = fake_engine.Node.started[-1]
    node.events.put(json.dumps({**event, "certificate": {"sha256": record.sha256}}))
    at_door.service.__exit__(None, None, None)
    with Registry.open(at_door.service.folder) as registry:
        assert registry.certificate(record.sha256).first_seen_at is not None
