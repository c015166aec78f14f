"""What connections tell about certificates. Knows nothing of the data plane: a test says what happened."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from sealmq.broker.facts import Facts
from sealmq.broker.sightings import Sightings
from sealmq.datafolder import DataFolder
from sealmq.pki.registry import CertificateRecord, Registry

NOW = datetime(2026, 11, 20, 20, 33, tzinfo=UTC)
OLD = CertificateRecord("2a", "sensor-1", "abcd", NOW, NOW + timedelta(days=30), "aa" * 32, NOW)
NEW = dataclasses.replace(OLD, serial="2b", sha256="bb" * 32, created_at=NOW + timedelta(days=20))


class Scene:
    """A registry with one device, and a clock that the test moves."""

    def __init__(self, registry, *, closes=False):
        self.now = NOW.timestamp()
        self.told = []
        self.closed = []
        self.sightings = Sightings(
            registry,
            tell=self.told.append,
            close=self._close,
            closes_clones=lambda: closes,
            clock=lambda: self.now,
        )

    def _close(self, device):
        self.closed.append(device)
        return 2

    def connected(self, address="192.0.2.1", *, client_id="sensor-1", sha256=OLD.sha256, port=1000):
        self.sightings.note(Facts([("connected", client_id, "sensor-1", f"{address}:{port}", sha256, "")]))

    def disconnected(self, address="192.0.2.1", *, client_id="sensor-1", port=1000):
        self.sightings.note(Facts([("disconnected", client_id, "sensor-1", f"{address}:{port}", "", "")]))

    def events(self):
        self.sightings.flush()
        told, self.told[:] = list(self.told), []
        return told


@pytest.fixture
def registry(tmp_path):
    with Registry.open(DataFolder.create_or_open(tmp_path / "data")) as registry:
        registry.add_device("sensor-1", profile="default", now=NOW)
        registry.record_certificate(OLD)
        registry.record_certificate(NEW)
        yield registry


@pytest.fixture
def scene(registry):
    return Scene(registry)


def test_the_first_handshake_with_a_later_certificate_supersedes_and_falling_back_is_told(scene, registry):
    scene.connected()
    assert scene.events() == []
    scene.disconnected()
    scene.connected(sha256=NEW.sha256)
    (event,) = scene.events()
    assert (event["event"], event["sha256"]) == ("superseded", OLD.sha256)
    assert registry.certificate(OLD.sha256).status == "superseded"
    scene.disconnected()
    scene.now += 1
    scene.connected()
    (event,) = scene.events()
    assert (event["event"], event["device"]) == ("fell-back", "sensor-1")
    assert event["mend"]


def test_reconnecting_all_the_time_is_not_writing_all_the_time(scene, registry):
    for _ in range(3):
        scene.connected()
        scene.disconnected()
        scene.events()
        scene.now += 60
    assert registry.certificate(OLD.sha256).last_seen_at == NOW
    scene.now += 3600
    scene.connected()
    scene.events()
    assert registry.certificate(OLD.sha256).last_seen_at == NOW + timedelta(seconds=3780)


def test_what_has_no_certificate_of_a_device_is_passed_over(scene):
    scene.sightings.note(Facts([("connected", "x", "", "a:1", "", ""), ("denied", "", "", "", "", "")]))
    assert scene.events() == []


def test_one_certificate_from_two_addresses_at_once_is_reported_once(scene):
    scene.connected("192.0.2.1")
    scene.connected("192.0.2.1", client_id="sensor-1:pub")
    assert scene.events() == []
    scene.connected("198.51.100.9", client_id="sensor-1:other")
    (event,) = scene.events()
    assert event["event"] == "cloned"
    assert event["addresses"] == ["192.0.2.1", "198.51.100.9"]
    assert event["client_ids"] == ["sensor-1", "sensor-1:other", "sensor-1:pub"]
    assert event["closed"] == 0
    scene.connected("198.51.100.9", client_id="sensor-1:third")
    assert scene.events() == []
    scene.now += 61
    scene.connected("198.51.100.9", client_id="sensor-1:fourth")
    assert [event["event"] for event in scene.events()] == ["cloned"]


def test_closing_clones_closes_the_device(registry):
    scene = Scene(registry, closes=True)
    scene.connected("192.0.2.1")
    scene.connected("198.51.100.9", client_id="sensor-1:other")
    (event,) = scene.events()
    assert (event["closed"], scene.closed) == (2, ["sensor-1"])


def test_a_device_that_moves_to_another_network_is_no_clone(scene):
    """The end of its old connection comes after the beginning of the new one, and must not end the new one."""
    scene.connected("192.0.2.1")
    scene.connected("198.51.100.9", port=2000)
    scene.disconnected("192.0.2.1")
    assert scene.events() == []
    scene.connected("198.51.100.9", client_id="sensor-1:pub", port=2001)
    assert scene.events() == []


def test_two_that_throw_each_other_out_are_clones(scene):
    addresses = ["192.0.2.1", "198.51.100.9"]
    for turn in range(3):
        scene.connected(addresses[turn % 2], port=turn)
        scene.now += 5
    assert scene.events() == []
    scene.connected(addresses[1], port=3)
    (event,) = scene.events()
    assert (event["event"], event["addresses"]) == ("cloned", addresses)


def test_a_device_that_moves_between_two_networks_all_day_is_no_clone(scene):
    for turn in range(10):
        scene.connected(["192.0.2.1", "198.51.100.9"][turn % 2], port=turn)
        scene.now += 1800
    assert scene.events() == []


def test_a_device_whose_end_was_lost_among_many_events_is_no_clone(registry):
    """Nobody may be thrown out for a connection of which nobody knows whether it is there."""
    scene = Scene(registry, closes=True)
    scene.connected("192.0.2.1")
    scene.sightings.note(Facts.told({"event": "lost", "count": 32768}))
    scene.connected("198.51.100.9", client_id="sensor-1:other")
    scene.disconnected("192.0.2.1")
    assert scene.events() == []
    scene.connected("192.0.2.1", client_id="sensor-1:third")
    assert [event["event"] for event in scene.events()] == ["cloned"]


def test_a_clock_that_was_ahead_keeps_nothing_from_being_told(scene):
    scene.connected("192.0.2.1")
    scene.connected("198.51.100.9", client_id="sensor-1:other")
    assert [event["event"] for event in scene.events()] == ["cloned"]
    scene.now -= 86_400
    scene.connected("198.51.100.9", client_id="sensor-1:third")
    assert [event["event"] for event in scene.events()] == ["cloned"]
    assert scene.sightings._written[OLD.sha256] == scene.now


def test_ipv6_addresses_and_ports(scene):
    scene.connected("[2001:db8::1]", port=1)
    scene.connected("[2001:db8::1]", client_id="sensor-1:pub", port=2)
    assert scene.events() == []


def test_what_is_quiet_is_forgotten(scene):
    scene.connected()
    scene.disconnected()
    scene.events()
    scene.now += 7200
    scene.events()
    assert not scene.sightings._written
    assert not scene.sightings._live
    assert not scene.sightings._addresses


def test_stopping_writes_what_is_left(registry):
    scene = Scene(registry)
    scene.sightings.start()
    scene.connected()
    scene.sightings.stop()
    assert registry.certificate(OLD.sha256).first_seen_at == NOW


def test_a_full_disk_loses_a_sighting_and_says_so(registry, monkeypatch):
    from sealmq.errors import Environment

    def full(_seen):
        raise Environment("disk is full", mend="free some space")

    scene = Scene(registry)
    monkeypatch.setattr(registry, "certificates_seen", full)
    scene.connected()
    scene.sightings.stop()
    assert [event["event"] for event in scene.told] == ["sightings-lost"]
