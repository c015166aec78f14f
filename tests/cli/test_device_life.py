"""`sealmq device` after the making: tokens, renewal, revocation, retirement, approvals; and what `agent` takes."""

import json
import re
import socket

import pytest

from sealmq.cli.app import run
from sealmq.datafolder import DataFolder
from sealmq.errors import Environment
from sealmq.pki import revocation
from sealmq.pki.authority import Authority
from sealmq.pki.operations import device_files
from sealmq.pki.registry import Registry
from sealmq.pki.tokens import EnrolmentUri


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def sealmq(data, capsys):
    def call(*args):
        status = run(["--data", str(data), *map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


def told(sealmq, *args):
    status, out, err = sealmq(*args, "--json")
    assert status == 0, err
    return json.loads(out)


def test_a_token_is_printed_as_uri_and_qr_with_the_pin_of_the_ca(sealmq, data):
    status, out, err = sealmq("device", "add", "sensor-1", "--token", "--group", "roof")
    assert status == 0
    uri = EnrolmentUri.parse(re.search(r"^  (sealmq-enrol://\S+)$", out, re.MULTILINE)[1])
    assert (uri.host, uri.port, uri.device_id) == ("localhost", 8443, "sensor-1")
    folder = DataFolder.open(data)
    root = told(sealmq, "ca", "show")["authorities"][0]
    assert uri.pin == root["spki_sha256"]
    assert out.count("█") > 100
    assert f"agent --dir sensor-1 --enrol '{uri}'" in out
    assert f"Authorization: Bearer {uri.token}" in out
    assert "--https 0.0.0.0:8443" in err
    assert not folder.devices_dir.exists()
    shown = told(sealmq, "device", "show", "sensor-1")
    assert (shown["status"], shown["groups"], shown["certificates"]) == ("pending", ["roof"], [])


def test_the_url_of_a_token_is_the_operators(sealmq):
    made = told(sealmq, "device", "add", "sensor-1", "--token", "--url", "https://broker.example")
    assert made["uri"].startswith("sealmq-enrol://broker.example:443/?id=sensor-1&token=")
    again = told(sealmq, "device", "token", "sensor-1", "--url", "https://[2001:db8::1]:8443")
    assert again["uri"].startswith("sealmq-enrol://[2001:db8::1]:8443/")
    assert again["token"] != made["token"]
    assert set(again) == {"id", "profile", "token", "pin", "expires_at", "uri"}


@pytest.mark.parametrize(
    "args",
    [
        ["add", "s", "--token", "--out", "x"],
        ["add", "s", "--url", "https://h"],
        ["add", "s", "--token", "--url", "http://h"],
        ["add", "s", "--token", "--url", "https://h/path"],
        ["add", "s", "--token", "--url", "https://[::1"],
        ["add", "s", "--group", "a/b"],
        ["add", "s", "--token", "--profile", "forever"],
        ["revoke", "s", "--reason", "because"],
        ["retire", "a.b"],
        ["approve", "a/b"],
    ],
)
def test_wrong_usage_ends_with_2_and_makes_nothing(sealmq, data, args):
    status, out, err = sealmq("device", *args)
    assert (status, out) == (2, "")
    assert re.match(r"error: .*\nmend: ", err)
    assert not data.exists()


@pytest.mark.parametrize("verb", ["token", "renew", "revoke", "retire", "approve", "deny"])
def test_a_device_that_is_not_there_ends_with_1(sealmq, verb):
    sealmq("device", "add", "sensor-1")
    status, out, err = sealmq("device", verb, "nobody")
    assert (status, out) == (1, "")
    assert re.match(r"error: .*nobody.*\nmend: ", err)


def test_renew_puts_a_new_pair_in_place(sealmq, data):
    sealmq("device", "add", "sensor-1")
    files = device_files(DataFolder.open(data), "sensor-1")
    before = files.key.read_bytes(), files.cert.read_bytes()
    status, out, _ = sealmq("device", "renew", "sensor-1")
    assert status == 0
    assert str(files.cert) in out
    assert files.fit()
    assert files.key.read_bytes() != before[0]
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in files.cert.parent.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert len(told(sealmq, "device", "show", "sensor-1")["certificates"]) == 2


def test_renew_elsewhere_and_of_a_device_that_has_its_key_itself(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1", "--out", tmp_path / "out")
    assert sealmq("device", "renew", "sensor-1", "--out", tmp_path / "out")[0] == 0
    status, _, err = sealmq("device", "renew", "sensor-1")
    assert status == 1
    assert "sealmq device token sensor-1" in err
    told(sealmq, "device", "add", "sensor-2", "--token")
    assert sealmq("device", "renew", "sensor-2")[0] == 1


def test_a_renewal_that_fails_leaves_the_old_pair_and_no_record(sealmq, data, monkeypatch):
    from sealmq.pki import devicefiles

    def full(*_):
        raise Environment("disk is full", mend="free some space")

    sealmq("device", "add", "sensor-1")
    files = device_files(DataFolder.open(data), "sensor-1")
    before = files.key.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(devicefiles, "write_public", full)
        assert sealmq("device", "renew", "sensor-1")[0] == 2
    assert files.key.read_bytes() == before
    assert files.fit()
    assert len(told(sealmq, "device", "show", "sensor-1")["certificates"]) == 1
    assert not files.staged.key.exists()


def test_revoke_without_a_broker(sealmq, data):
    sealmq("device", "add", "sensor-1")
    status, out, _ = sealmq("device", "revoke", "sensor-1", "--reason", "key-compromise")
    assert status == 0
    assert re.fullmatch(r"device sensor-1 revoked \(key-compromise\): 0 sessions closed in \d+\.\d ms\n", out)
    assert (data / "ca" / "devices.crl.pem").is_file()
    shown = told(sealmq, "device", "show", "sensor-1")
    assert (shown["status"], shown["reason"]) == ("revoked", "key-compromise")
    assert [one["status"] for one in shown["certificates"]] == ["revoked"]
    again = told(sealmq, "device", "revoke", "sensor-1", "--reason", "superseded")
    assert (again["already"], again["reason"]) == (True, "key-compromise")
    for verb in ("token", "renew"):
        status, _, err = sealmq("device", verb, "sensor-1")
        assert status == 1
        assert "is revoked" in err


def test_a_full_disk_at_the_crl_keeps_nobody_from_revoking(sealmq, data, monkeypatch):
    def full(*_):
        raise Environment("disk is full", mend="free some space")

    sealmq("device", "add", "sensor-1")
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "write_public", full)
        status, out, err = sealmq("device", "revoke", "sensor-1")
    assert status == 0
    assert "revoked" in out
    assert "no room" in err
    with Registry.open(DataFolder.open(data)) as registry:
        assert revocation.denylist(registry)["devices"] == ["sensor-1"]


def test_retire_ends_an_id(sealmq, data):
    sealmq("device", "add", "sensor-1")
    status, out, _ = sealmq("device", "retire", "sensor-1")
    assert status == 0
    assert "retired" in out
    assert "its files here are removed" in out
    assert not (data / "devices" / "sensor-1").exists()
    status, _, err = sealmq("device", "add", "sensor-1")
    assert status == 1
    assert "--reuse-retired" in err
    assert sealmq("device", "retire", "sensor-1")[0] == 1
    assert sealmq("device", "add", "sensor-1", "--reuse-retired")[0] == 0
    shown = told(sealmq, "device", "show", "sensor-1")
    assert shown["status"] == "active"
    assert sorted(one["status"] for one in shown["certificates"]) == ["active", "revoked"]
    assert sealmq("device", "add", "sensor-2", "--reuse-retired")[0] == 1


def test_what_a_user_put_beside_the_files_stays(sealmq, data):
    sealmq("device", "add", "sensor-1")
    (data / "devices" / "sensor-1" / "notes.txt").write_text("mine")
    assert sealmq("device", "retire", "sensor-1")[0] == 0
    assert [path.name for path in (data / "devices" / "sensor-1").iterdir()] == ["notes.txt"]


def test_nobody_waits(sealmq, data):
    Authority.create(DataFolder.create_or_open(data))
    status, out, _ = sealmq("device", "pending")
    assert status == 0
    assert "enrolment.factory_ca" in out
    assert told(sealmq, "device", "pending") == {"pending": []}


@pytest.mark.parametrize(
    "args", [[], ["--enrol", "https://h"], ["--url", "ftp://h"], ["--enrol", "sealmq-enrol://h:1/?id=a&token=secret"]]
)
def test_an_agent_that_does_not_know_where_to(sealmq, tmp_path, args):
    status, out, err = sealmq("agent", "--dir", tmp_path / "d", *args)
    assert (status, out) == (2, "")
    assert re.match(r"error: .*\nmend: ", err)
    assert "secret" not in err


def test_an_agent_whose_server_is_not_there(sealmq, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    uri = EnrolmentUri("127.0.0.1", port, "sensor-1", "00" * 16, "00" * 32)
    status, _, err = sealmq("agent", "--dir", tmp_path / "d", "--enrol", uri, "--once")
    assert status == 1
    assert "cannot be reached" in err
    status, _, err = sealmq("agent", "--dir", tmp_path / "d", "--url", f"https://127.0.0.1:{port}", "--once")
    assert status == 1
    assert "--enrol" in err


def test_show_tells_of_a_certificate_that_was_not_seen_yet(sealmq, data):
    sealmq("device", "add", "sensor-1")
    with Registry.open(DataFolder.open(data)) as registry:
        (first,) = registry.device("sensor-1").certificates
        registry.certificates_seen({first.sha256: first.not_before})
    assert "not yet" not in sealmq("device", "show", "sensor-1")[1]
    sealmq("device", "renew", "sensor-1")
    new, old = told(sealmq, "device", "show", "sensor-1")["certificates"]
    assert (new["pending"], old["pending"]) == (True, False)
    out = sealmq("device", "show", "sensor-1")[1]
    assert f"pending   certificate {new['serial']} is not seen yet; the one before it is good until then\n" in out
    with Registry.open(DataFolder.open(data)) as registry:
        registry.certificates_seen({new["sha256"]: first.not_before})
    shown = told(sealmq, "device", "show", "sensor-1")["certificates"]
    assert [(one["status"], one["pending"]) for one in shown] == [("active", False), ("superseded", False)]
    assert "pending" not in sealmq("device", "show", "sensor-1")[1]
