"""The registry: remembered, whole, brought up to date, refused when newer. Knows nothing of keys."""

import dataclasses
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest

from sealmq.datafolder import DataFolder
from sealmq.errors import DataFolderError, Environment, NotSo
from sealmq.pki.registry import (
    SCHEMA_VERSION,
    CertificateRecord,
    CertificateStatus,
    DeviceStatus,
    Registry,
    schema,
)

NOW = datetime(2026, 11, 20, 20, 33, tzinfo=UTC)
RECORD = CertificateRecord("2a", "sensor-1", "abcd", NOW, NOW + timedelta(days=30), "ff" * 32, NOW)


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


@pytest.fixture
def registry(folder):
    with Registry.open(folder) as registry:
        yield registry


def test_what_is_recorded_is_found_after_reopening(folder):
    later = dataclasses.replace(RECORD, serial="2b", sha256="ee" * 32, not_after=NOW + timedelta(days=60))
    with Registry.open(folder) as registry:
        registry.add_device("sensor-1", profile="default", now=NOW)
        registry.add_device("a-first", profile="sleepy", now=NOW)
        registry.record_certificate(RECORD)
        registry.record_certificate(later)
    with Registry.open(folder) as registry:
        device = registry.device("sensor-1")
        assert (device.profile, device.status, device.created_at) == ("default", "active", NOW)
        assert device.certificates == (later, RECORD)
        assert [found.id for found in registry.devices()] == ["a-first", "sensor-1"]
        assert registry.devices()[1] == device


def test_unknown_and_taken_ids(registry):
    with pytest.raises(NotSo) as caught:
        registry.device("sensor-1")
    assert (caught.value.code, caught.value.exit_status) == ("device-unknown", 1)
    registry.add_device("sensor-1", profile="default", now=NOW)
    with pytest.raises(NotSo) as caught:
        registry.add_device("sensor-1", profile="short", now=NOW)
    assert caught.value.code == "device-exists"
    assert registry.device("sensor-1").profile == "default"


def test_a_transaction_is_all_or_nothing(registry):
    class HalfwayError(Exception):
        pass

    def half():
        with registry.transaction():
            registry.add_device("sensor-1", profile="default", now=NOW)
            registry.record_certificate(RECORD)
            raise HalfwayError

    with pytest.raises(HalfwayError):
        half()
    assert registry.devices() == []


def test_a_certificate_needs_its_device_and_is_recorded_once(registry):
    with pytest.raises(sqlite3.IntegrityError):
        registry.record_certificate(RECORD)
    registry.add_device("sensor-1", profile="default", now=NOW)
    registry.record_certificate(RECORD)
    with pytest.raises(sqlite3.IntegrityError):
        registry.record_certificate(dataclasses.replace(RECORD, sha256="00" * 32))


def test_durable_and_private(folder, registry):
    registry.add_device("sensor-1", profile="default", now=NOW)
    pragma = registry._file._connection.execute
    assert pragma("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert pragma("PRAGMA synchronous").fetchone()[0] == 2
    files = list(folder.path.glob("registry.sqlite3*"))
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_newer_schema_is_refused_and_untouched(folder, registry):
    registry.close()
    with sqlite3.connect(folder.registry_path) as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    before = folder.registry_path.read_bytes()
    with pytest.raises(DataFolderError) as caught:
        Registry.open(folder)
    assert caught.value.code == "registry-newer"
    assert f"schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}" in caught.value.message
    assert folder.registry_path.read_bytes() == before


def test_a_damaged_file_is_named(folder):
    folder.registry_path.write_bytes(b"this was never a database, " * 100)
    with pytest.raises(DataFolderError) as caught:
        Registry.open(folder)
    assert caught.value.code == "registry-damaged"


def test_a_full_disk_is_named_and_nothing_is_half_recorded(registry):
    registry.add_device("sensor-1", profile="default", now=NOW)
    pages = registry._file._connection.execute("PRAGMA page_count").fetchone()[0]
    registry._file._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk

    def fill():
        with registry.transaction():
            for number in range(1000):
                registry.add_device(f"device-{number}", profile="default", now=NOW)

    with pytest.raises(Environment) as caught:
        fill()
    assert caught.value.code == "disk-full"
    assert [device.id for device in registry.devices()] == ["sensor-1"]


def test_threads_share_one_registry(registry):
    def add(number):
        for index in range(10):
            registry.add_device(f"d-{number}-{index}", profile="default", now=NOW)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.devices()) == 40


def test_two_processes_may_open_it_at_once(folder):
    with Registry.open(folder) as one, Registry.open(folder) as two:
        one.add_device("sensor-1", profile="default", now=NOW)
        assert two.device("sensor-1").id == "sensor-1"


def first_schema(folder, *, devices):
    """A registry as the first version left it, with one certificate per device."""
    raw = sqlite3.connect(folder.registry_path, isolation_level=None)
    for statement in schema.MIGRATIONS[0].split(";\n"):
        raw.execute(statement)
    for number, device in enumerate(devices):
        raw.execute("INSERT INTO devices VALUES (?, 'default', 'active', 1000)", (device,))
        values = (f"{number:x}", device, "abcd", 1000, 2000, f"{number:064x}", 1000, "active")
        raw.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    raw.execute("PRAGMA user_version = 1")
    raw.close()


def test_a_registry_of_the_first_schema_is_taken_along_and_a_copy_kept(folder):
    first_schema(folder, devices=["a", "b"])
    with Registry.open(folder) as registry:
        assert [(one.id, one.status, one.groups, len(one.certificates)) for one in registry.devices()] == [
            ("a", "active", (), 1),
            ("b", "active", (), 1),
        ]
        registry.put_status("a", DeviceStatus.REVOKED, now=NOW, reason="lost")
    kept = folder.path / "registry.v1.sqlite"
    assert kept.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(kept) as raw:
        assert raw.execute("PRAGMA user_version").fetchone()[0] == 1
        assert raw.execute("SELECT id, status FROM devices ORDER BY id").fetchall() == [
            ("a", "active"),
            ("b", "active"),
        ]
    raw.close()
    with Registry.open(folder) as registry:
        assert (registry.device("a").status, registry.device("a").reason) == ("revoked", "lost")


def test_a_new_registry_keeps_no_copy(folder):
    Registry.open(folder).close()
    assert not list(folder.path.glob("registry.v*"))


def test_a_migration_that_fails_half_way_changes_nothing(folder, monkeypatch):
    first_schema(folder, devices=["a"])
    broken = (*schema.MIGRATIONS[:-1], schema.MIGRATIONS[-1] + "CREATE TABLE devices (id TEXT);\n")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError):
            Registry.open(folder)
    with sqlite3.connect(folder.registry_path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone()[0] == 1
        assert raw.execute("SELECT count(*) FROM sqlite_master WHERE name = 'tokens'").fetchone()[0] == 0
    raw.close()
    with Registry.open(folder) as registry:
        assert [one.id for one in registry.devices()] == ["a"]


def test_two_that_migrate_at_once_do_it_once(folder):
    first_schema(folder, devices=["a"])
    opened = []

    def work():
        with Registry.open(folder) as registry:
            opened.append([one.id for one in registry.devices()])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [["a"]] * 4
    assert [path.name for path in folder.path.glob("*registry.v*")] == ["registry.v1.sqlite"]


def test_the_first_sight_of_a_later_certificate_supersedes_the_earlier_one(registry):
    later = dataclasses.replace(RECORD, serial="2b", sha256="ee" * 32, created_at=NOW + timedelta(days=20))
    registry.add_device("sensor-1", profile="default", now=NOW)
    registry.record_certificate(RECORD)
    registry.record_certificate(later)
    assert registry.certificates_seen({RECORD.sha256: NOW}) == []
    moment = NOW + timedelta(days=20, hours=1)
    assert [one.serial for one in registry.certificates_seen({later.sha256: moment})] == ["2a"]
    assert registry.certificates_seen({later.sha256: moment + timedelta(hours=1), "00" * 32: moment}) == []
    old, new = registry.certificate(RECORD.sha256), registry.certificate(later.sha256)
    assert (old.status, new.status) == (CertificateStatus.SUPERSEDED, CertificateStatus.ACTIVE)
    assert (new.first_seen_at, new.last_seen_at) == (moment, moment + timedelta(hours=1))


def test_two_of_one_second_that_are_seen_together_leave_the_later_one(registry):
    later = dataclasses.replace(RECORD, serial="2b", sha256="ee" * 32)
    registry.add_device("sensor-1", profile="default", now=NOW)
    registry.record_certificate(RECORD)
    registry.record_certificate(later)
    registry.certificates_seen({RECORD.sha256: NOW, later.sha256: NOW})
    assert [registry.certificate(one.sha256).status for one in (RECORD, later)] == ["superseded", "active"]


def test_an_earlier_certificate_that_is_seen_late_supersedes_nothing(registry):
    later = dataclasses.replace(RECORD, serial="2b", sha256="ee" * 32, created_at=NOW + timedelta(days=20))
    registry.add_device("sensor-1", profile="default", now=NOW)
    registry.record_certificate(RECORD)
    registry.record_certificate(later)
    assert registry.certificates_seen({RECORD.sha256: NOW + timedelta(days=21)}) == []
    assert registry.certificate(later.sha256).status == "active"


def test_a_retired_id_is_given_out_only_when_asked_for(registry):
    registry.add_device("sensor-1", profile="default", now=NOW, groups=["roof", "all"])
    assert registry.device("sensor-1").groups == ("all", "roof")
    registry.put_status("sensor-1", DeviceStatus.RETIRED, now=NOW)
    with pytest.raises(NotSo) as caught:
        registry.add_device("sensor-1", profile="default", now=NOW)
    assert caught.value.code == "device-retired"
    revived = registry.revive_device("sensor-1", profile="short", now=NOW)
    assert (revived.status, revived.profile, revived.groups) == ("pending", "short", ())
    with pytest.raises(NotSo) as caught:
        registry.revive_device("sensor-1", profile="short", now=NOW)
    assert caught.value.code == "device-exists"


def test_who_holds_which_bundle(registry):
    registry.add_device("sensor-1", profile="default", now=NOW)
    registry.bundles.confirm("sensor-1", 3, at=NOW)
    registry.bundles.confirm("sensor-1", 3, at=NOW + timedelta(hours=1))
    assert registry.bundles.confirmed(2) == {"sensor-1": NOW}
    assert registry.bundles.confirmed(4) == {}
