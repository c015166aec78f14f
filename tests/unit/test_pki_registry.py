"""The registry: remembered, whole, refused when newer. Knows nothing of keys."""

import dataclasses
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest

from sealmq.datafolder import DataFolder
from sealmq.errors import DataFolderError, Environment, NotSo
from sealmq.pki.registry import CertificateRecord, Registry

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
    pragma = registry._connection.execute
    assert pragma("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert pragma("PRAGMA synchronous").fetchone()[0] == 2
    files = list(folder.path.glob("registry.sqlite3*"))
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_newer_schema_is_refused_and_untouched(folder, registry):
    registry.close()
    with sqlite3.connect(folder.registry_path) as raw:
        raw.execute("PRAGMA user_version = 2")
    raw.close()
    before = folder.registry_path.read_bytes()
    with pytest.raises(DataFolderError) as caught:
        Registry.open(folder)
    assert caught.value.code == "registry-newer"
    assert "schema 2, this one knows 1" in caught.value.message
    assert folder.registry_path.read_bytes() == before


def test_a_damaged_file_is_named(folder):
    folder.registry_path.write_bytes(b"this was never a database, " * 100)
    with pytest.raises(DataFolderError) as caught:
        Registry.open(folder)
    assert caught.value.code == "registry-damaged"


def test_a_full_disk_is_named_and_nothing_is_half_recorded(registry):
    registry.add_device("sensor-1", profile="default", now=NOW)
    pages = registry._connection.execute("PRAGMA page_count").fetchone()[0]
    registry._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk

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
