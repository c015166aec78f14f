"""Enrolment over HTTPS: what is answered and what is refused. Knows nothing of connections."""

import base64
import contextlib
import http.client
import json
import ssl
import subprocess
from datetime import timedelta
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from enrol_door import DAY, NOW, csr, der

from sealmq.broker import control
from sealmq.pki import profiles, signing
from sealmq.testing import ThrowawayCA

EST = "/.well-known/est"


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


def test_a_renewal_by_a_certificate_that_was_replaced_is_told(at_door, identity):
    """It may be the copy of a key that somebody has."""
    files, (_, _, registry) = identity(at_door), at_door.three()
    (old,) = registry.device("sensor-1").certificates
    assert at_door.ask("POST", "/enrol", csr("sensor-1"), identity=files)[0] == 200
    assert "fell-back" not in at_door.log.getvalue()
    later = next(one for one in registry.device("sensor-1").certificates if one.sha256 != old.sha256)
    registry.certificates_seen({later.sha256: NOW})
    assert at_door.ask("POST", "/enrol", csr("sensor-1"), identity=files)[0] == 200
    assert (
        f"fell-back: device sensor-1 renews with a certificate that it had replaced device=sensor-1 sha256={old.sha256}"
        in (at_door.log.getvalue())
    )


def test_what_a_killed_broker_left_half_written_is_removed(opened, tmp_path):
    """A key may be in it, of a CA whose key was destroyed since."""
    opened().service.__exit__(None, None, None)
    ca, server = tmp_path / "data" / "ca", tmp_path / "data" / "server"
    (ca / ".root.key.0123456789ab.partial").write_bytes(b"key")
    (server / ".new.0123456789ab.partial").mkdir()
    opened()
    assert [*ca.glob(".*"), *server.glob(".*")] == []


def test_an_answer_says_when_it_was_given(at_door, monkeypatch):
    """No clock ticks for it while nobody asks."""
    for moment in (NOW, NOW + DAY):
        monkeypatch.setattr("sealmq.broker.door.formatdate", lambda at=moment, **given: format_datetime(at, **given))
        _, headers, _ = at_door.ask("GET", "/healthz")
        assert headers.get_all("Date") == [format_datetime(moment, usegmt=True)]
