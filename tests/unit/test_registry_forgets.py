"""What the registry forgets of certificates that expired long ago, and what it keeps. Knows nothing of keys."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from enrol_door import DAY
from enrol_door import NOW as TODAY

from sealmq.datafolder import DataFolder
from sealmq.errors import NotSo
from sealmq.pki import revocation
from sealmq.pki.registry import CertificateRecord, DeviceStatus, Registry

NOW = datetime(2026, 11, 20, 20, 33, tzinfo=UTC)
OURS, GONE = "abcd", "0123"  # key ids of an issuing CA that is trusted, and of one that was replaced


@pytest.fixture
def registry(tmp_path):
    with Registry.open(DataFolder.create_or_open(tmp_path / "data")) as registry:
        yield registry


def record(number, device="sensor-1", *, issuer=OURS, **changes):
    """The certificate of day `number`, good for a day."""
    begin = NOW + number * DAY
    sha256 = f"{device}/{issuer}/{number}"
    made = CertificateRecord(f"{number:x}", device, issuer, begin, begin + DAY, sha256, begin)
    return dataclasses.replace(made, **changes)


def forget(registry, *, after_days, issuers=(OURS,)):
    return registry.forget_certificates(expired_before=NOW + after_days * DAY, issuers=issuers)


def numbers(registry, device="sensor-1"):
    return sorted(int(one.serial, 16) for one in registry.device(device).certificates)


def test_only_those_that_expired_before_that_time_and_all_of_them(registry, monkeypatch):
    from sealmq.pki.registry import devices

    monkeypatch.setattr(devices, "_FORGOTTEN_AT_ONCE", 7)
    registry.add_device("sensor-1", profile="short", now=NOW)
    for number in range(40):
        registry.record_certificate(record(number))
    assert forget(registry, after_days=30) == 29  # number 29 ends at that very time
    assert numbers(registry) == list(range(29, 40))
    assert forget(registry, after_days=30) == 0


def test_the_one_that_lasts_longest_stays_for_each_device(registry):
    for device, issuer in (("sensor-1", OURS), ("sensor-2", GONE)):
        registry.add_device(device, profile="short", now=NOW)
        for number in range(3):
            registry.record_certificate(record(number, device, issuer=issuer))
    registry.record_certificate(record(2, "sensor-2", serial="3", sha256="twin", created_at=NOW + 3 * DAY))
    assert forget(registry, after_days=1000) == 5
    assert (numbers(registry), numbers(registry, "sensor-2")) == ([2], [3])


def test_a_retired_id_is_never_forgotten(registry):
    registry.add_device("sensor-1", profile="short", now=NOW)
    for number in range(3):
        registry.record_certificate(record(number))
    registry.revoke_certificates("sensor-1", now=NOW)
    registry.put_status("sensor-1", DeviceStatus.RETIRED, now=NOW)
    forget(registry, after_days=100_000, issuers=())
    with pytest.raises(NotSo, match="was retired"):
        registry.add_device("sensor-1", profile="short", now=NOW)


def test_revoked_ones_stay_as_long_as_their_ca_is_trusted(registry):
    """With a clock that jumps ahead and back, those of an id that was given out again would be let in."""
    registry.add_device("sensor-1", profile="short", now=NOW)
    registry.record_certificate(record(0))
    registry.record_certificate(record(1, issuer=GONE))
    registry.revoke_certificates("sensor-1", now=NOW)
    registry.record_certificate(record(2))
    assert forget(registry, after_days=100_000) == 1
    assert revocation.denylist(registry)["certificates"] == [f"sensor-1/{OURS}/0"]
    assert forget(registry, after_days=100_000, issuers=(GONE,)) == 1
    assert numbers(registry) == [2]


def test_certificates_that_follow_are_superseded_in_their_order_all_the_same(registry):
    registry.add_device("sensor-1", profile="short", now=NOW)
    for number in range(3):
        registry.record_certificate(record(number))
    forget(registry, after_days=2.5)
    registry.record_certificate(record(3))
    registry.record_certificate(record(4))
    superseded = registry.certificates_seen({record(4).sha256: NOW + 4 * DAY})
    assert [one.serial for one in superseded] == ["2", "3"]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, 2),
        ({"enrolment__keep_expired": "60d"}, 2),  # never shorter than the grace of 90 days
        ({"enrolment__keep_expired": "60d", "enrolment__grace": "1d"}, 1),
        ({"enrolment__keep_expired": "1000d"}, 3),
    ],
)
def test_a_running_broker_forgets_by_its_settings(opened, identity, settings, left):
    """Expired 200 days ago, expired 70 days ago, and the latest."""
    door = opened(**settings)
    identity(door, now=TODAY - DAY)
    registry = door.service.registry
    (latest,) = registry.device("sensor-1").certificates
    for number, days in enumerate((200, 70)):
        end = TODAY - timedelta(days=days)
        old = dataclasses.replace(latest, serial=f"{number}", sha256=f"{number}", not_after=end)
        registry.record_certificate(old)
    door.service._upkeep.tick(TODAY + timedelta(hours=2))
    assert len(registry.device("sensor-1").certificates) == left
    assert latest in registry.device("sensor-1").certificates
