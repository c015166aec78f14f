"""When a certificate is to be renewed: the window that the server suggests for each device, spread over the fleet.

It knows nothing of how the device gets the next one, nor of clocks: `now` is an argument.

The window is a function of the certificate and the device's id alone, so that every broker and every question gives
the same answer (the idea is that of ACME Renewal Information, RFC 9773, and of draft-ietf-lamps-est-renewal-info).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sealmq.pki.profiles import RENEW_BELOW

if TYPE_CHECKING:
    from sealmq.pki.registry import CertificateRecord

_SPREAD = 0.1  # share of the lifetime over which the fleet's windows lie, up to the point where `RENEW_BELOW` is left
_WIDTH = 0.02  # share of the lifetime that one window lasts
_INCIDENT_SPREAD = timedelta(hours=6)
_INCIDENT_WIDTH = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Window:
    """When to renew: any time from `start` to `end`, at once when that has passed. `reason` is one clause."""

    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Incident:
    """Why certificates are to be replaced before their time: those issued before `since` are due from then on."""

    since: datetime
    reason: str


def window(record: CertificateRecord, *, incidents: tuple[Incident, ...] = ()) -> Window:
    """The window of a certificate: between 43 % and 33 % of its life are left, a slot per device.

    An incident that concerns it pulls it forward: into the six hours after the incident, again a slot per device.
    """
    place = _place(record.device_id)
    concerned = [one for one in incidents if record.created_at < one.since]
    if concerned:
        first = min(concerned, key=lambda incident: incident.since)
        start = first.since + place * _INCIDENT_SPREAD
        pulled = Window(start, start + _INCIDENT_WIDTH, first.reason)
        return min(pulled, _usual(record, place), key=lambda one: one.start)
    return _usual(record, place)


def retry_after(found: Window, now: datetime) -> timedelta:
    """When a device should ask for its window again: twice before it begins, at least every day, at most every hour."""
    return min(max((found.start - now) / 2, timedelta(hours=1)), timedelta(days=1))


def _usual(record: CertificateRecord, place: float) -> Window:
    lifetime = record.not_after - record.not_before
    last = 1 - RENEW_BELOW
    start = record.not_before + lifetime * (last - _SPREAD + place * (_SPREAD - _WIDTH))
    return Window(start, start + lifetime * _WIDTH, "a third of its life is left soon")


def _place(device_id: str) -> float:
    """Where in a spread a device stands: 0 to 1, even over the fleet, the same at every question."""
    return int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:4]) / 2**32
