"""What can be done with a data folder's identities. Knows nothing of the command line and of sockets."""

import hashlib
import inspect
import json
import sqlite3
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tiny_disk import tiny_disk

from sealmq.datafolder import DataFolder
from sealmq.errors import Environment, NotSo, UsageError
from sealmq.pki import psk, signing
from sealmq.pki.authority import Authority
from sealmq.pki.operations import OPERATIONS, device_add, device_files, device_list, device_show
from sealmq.pki.registry import Approval, ApprovalState, Registry

NOW = signing.utc_now()


@pytest.fixture
def three(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with Registry.open(folder) as registry:
        yield folder, Authority.create(folder, now=NOW), registry


def test_device_add_writes_three_files_that_belong_together(three):
    folder, authority, registry = three
    made = device_add(*three, id="sensor-1", now=NOW)
    files = device_files(folder, "sensor-1")
    assert made["files"] == {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)}
    assert {path.name: path.stat().st_mode & 0o777 for path in files.cert.parent.iterdir()} == {
        "cert.pem": 0o644,
        "key.pem": 0o600,
        "ca.pem": 0o644,
    }
    assert files.cert.parent.stat().st_mode & 0o777 == 0o700
    leaf, issuer = x509.load_pem_x509_certificates(files.cert.read_bytes())
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    assert issuer == authority.device_issuer.certificate
    assert files.ca.read_bytes() == authority.root_pem
    (record,) = registry.device("sensor-1").certificates
    assert record.sha256 == hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()
    assert record.serial == f"{leaf.serial_number:x}"
    assert record.not_after == leaf.not_valid_after_utc == NOW + timedelta(days=30)
    command = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", files.ca, "-untrusted", files.cert, files.cert]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_device_add_elsewhere(three, tmp_path):
    folder, *_ = three
    made = device_add(*three, id="sensor-1", out=str(tmp_path / "deep" / "out"), now=NOW)
    assert made["files"]["key"] == str(tmp_path / "deep" / "out" / "sensor-1" / "key.pem")
    with pytest.raises(NotSo) as caught:
        device_files(folder, "sensor-1")
    assert caught.value.code == "device-files-missing"


def test_a_taken_id_changes_nothing(three, tmp_path):
    folder, _, registry = three
    device_add(*three, id="sensor-1", now=NOW)
    key = device_files(folder, "sensor-1").key.read_bytes()
    with pytest.raises(NotSo) as caught:
        device_add(*three, id="sensor-1", out=tmp_path / "out", now=NOW)
    assert caught.value.code == "device-exists"
    assert not (tmp_path / "out").exists()
    assert device_files(folder, "sensor-1").key.read_bytes() == key
    assert len(registry.device("sensor-1").certificates) == 1


@pytest.mark.parametrize("args", [{"id": "../escape"}, {"id": ""}, {"id": "ok", "profile": "forever"}])
def test_impossible_arguments_change_nothing(three, args):
    folder, _, registry = three
    with pytest.raises(UsageError):
        device_add(*three, **args)
    assert registry.devices() == []
    assert not folder.devices_dir.exists()


def test_files_in_the_way_are_kept_and_nothing_is_recorded(three, tmp_path):
    _, _, registry = three
    (tmp_path / "out" / "sensor-1").mkdir(parents=True)
    (tmp_path / "out" / "sensor-1" / "key.pem").write_bytes(b"the only copy")
    with pytest.raises(Environment) as caught:
        device_add(*three, id="sensor-1", out=tmp_path / "out")
    assert caught.value.code == "folder-exists"
    assert (tmp_path / "out" / "sensor-1" / "key.pem").read_bytes() == b"the only copy"
    assert registry.devices() == []


def test_a_full_disk_leaves_neither_files_nor_a_record(three, tmp_path):
    _, _, registry = three
    with tiny_disk(tmp_path / "disk") as disk:
        disk.fill()
        with pytest.raises(Environment) as caught:
            device_add(*three, id="sensor-1", out=disk.path)
        assert caught.value.code == "disk-full"
        assert [entry.name for entry in disk.path.iterdir()] in (["lost+found"], [])
        assert registry.devices() == []
        disk.empty()
        assert device_add(*three, id="sensor-1", out=disk.path)["id"] == "sensor-1"


def test_a_commit_that_fails_takes_the_files_back(three):
    folder, _, registry = three
    sqlite = registry._file._connection
    sqlite.execute("CREATE TABLE late (id TEXT REFERENCES devices (id) DEFERRABLE INITIALLY DEFERRED)")
    sqlite.execute("CREATE TRIGGER no AFTER INSERT ON certificates BEGIN INSERT INTO late VALUES ('nobody'); END")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        device_add(*three, id="sensor-1")
    assert registry.devices() == []
    assert list(folder.devices_dir.iterdir()) == []


def test_list_and_show_tell_the_time_left(three):
    device_add(*three, id="b", now=NOW)
    device_add(*three, id="a", profile="short", now=NOW)
    later = NOW + timedelta(days=2)
    listed = device_list(*three, now=later)["devices"]
    assert [(one["id"], one["profile"], one["status"]) for one in listed] == [
        ("a", "short", "active"),
        ("b", "default", "active"),
    ]
    assert [one["seconds_left"] for one in listed] == [-86_400, 28 * 86_400]
    shown = device_show(*three, id="b", now=later)
    assert shown["uri"] == f"spiffe://{three[0].fleet}/device/b"
    assert shown["lifetime_seconds"] == 30 * 86_400
    assert shown["certificates"][0]["status"] == "active"
    assert device_show(*three, id="a", now=later)["certificates"][0]["status"] == "expired"
    assert shown["certificates"][0]["not_after"] == (NOW + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_show_of_an_unknown_device(three):
    with pytest.raises(NotSo):
        device_show(*three, id="nobody")


def test_every_operation_on_devices_and_the_ca_speaks_json_and_gives_no_key_away(three):
    _, _, registry = three
    asked = Approval("aa" * 32, "from-the-factory", "CN=x", "CN=y", "192.0.2.7:1", ApprovalState.WAITING, NOW)
    registry.approvals.ask(asked, at_most=1)
    ids = dict.fromkeys(("device-approve", "device-deny"), "from-the-factory")
    ids |= dict.fromkeys(("device-revoke", "device-retire"), "other") | {"device-add-psk": "small"}
    device_add(*three, id="other")
    for verb, operation in OPERATIONS.items():
        if not verb.startswith(("device-", "ca-")):
            continue
        takes_id = "id" in inspect.signature(operation).parameters
        args = {"id": ids.get(verb, "sensor-1")} if takes_id else {"kind": "servers"} if verb == "ca-rotate" else {}
        text = json.dumps(operation(*three, **args))
        assert "PRIVATE KEY" not in text, verb
        assert not any(one.key in text for one in psk.load(three[0])), verb


def test_ca_show_agrees_with_openssl(three):
    shown = OPERATIONS["ca-show"](*three)
    assert [one["role"] for one in shown["authorities"]] == ["root", "devices", "servers"]
    for one in shown["authorities"]:
        command = ["openssl", "x509", "-in", one["file"], "-noout", "-fingerprint", "-sha256", "-serial"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.lower()
        assert one["sha256"] in told.replace(":", "")
        assert int(one["serial"], 16) == int(told.split("serial=")[1], 16)
        public = subprocess.run(
            ["openssl", "x509", "-in", one["file"], "-noout", "-pubkey"], capture_output=True, check=True
        ).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public, capture_output=True).stdout
        assert one["spki_sha256"] == hashlib.sha256(der).hexdigest()
