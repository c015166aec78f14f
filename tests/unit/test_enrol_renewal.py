"""When renewals are suggested: spread over a fleet, pulled forward in an incident. Knows nothing of servers."""

from datetime import UTC, datetime, timedelta

import pytest

from sealmq.pki.registry import CertificateRecord
from sealmq.pki.renewal import Incident, retry_after, window

NOW = datetime(2026, 11, 20, 20, 33, tzinfo=UTC)
MONTH = timedelta(days=30)


def record(device_id, *, lifetime=MONTH):
    return CertificateRecord("2a", device_id, "abcd", NOW, NOW + lifetime, "ff" * 32, NOW)


@pytest.mark.parametrize("lifetime", [timedelta(days=1), MONTH, timedelta(days=180)])
def test_a_window_lies_before_a_third_is_left_and_is_always_the_same(lifetime):
    for number in range(100):
        found = window(record(f"sensor-{number}", lifetime=lifetime))
        assert found == window(record(f"sensor-{number}", lifetime=lifetime))
        assert NOW + lifetime * 0.56 <= found.start < found.end <= NOW + lifetime * 0.67


def test_a_fleet_that_was_made_at_once_does_not_renew_at_once():
    hours = [int((window(record(f"sensor-{number}")).start - NOW).total_seconds()) // 3600 for number in range(1000)]
    busiest = max(hours.count(hour) for hour in set(hours))
    assert len(set(hours)) > 50
    assert busiest < 1000 / 20


def test_an_incident_pulls_forward_what_was_issued_before_it():
    incident = Incident(NOW + timedelta(days=2), "the CA's host was broken into")
    starts = [window(record(f"sensor-{number}"), incidents=(incident,)) for number in range(200)]
    assert all(incident.since <= one.start and one.end <= incident.since + timedelta(hours=6.5) for one in starts)
    assert {one.reason for one in starts} == {incident.reason}
    assert len({one.start.replace(minute=0, second=0) for one in starts}) >= 6


def test_an_incident_puts_nothing_off_and_leaves_later_certificates_alone():
    usual = window(record("sensor-1"))
    assert window(record("sensor-1"), incidents=(Incident(NOW - timedelta(days=1), "old"),)) == usual
    assert window(record("sensor-1"), incidents=(Incident(NOW + timedelta(days=29), "late"),)) == usual


def test_a_device_asks_again_every_day_and_at_most_every_hour():
    found = window(record("sensor-1"))
    assert retry_after(found, NOW) == timedelta(days=1)
    assert retry_after(found, found.start - timedelta(hours=6)) == timedelta(hours=3)
    assert retry_after(found, found.start + timedelta(days=3)) == timedelta(hours=1)
