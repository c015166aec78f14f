"""How operations say what they found: devices, certificates and times as JSON can carry them.

It knows nothing of who asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealmq.pki.registry import CertificateStatus

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.pki.registry import CertificateRecord, Device

Result = dict[str, Any]


def summary(device: Device, now: datetime) -> Result:
    """`id`, `profile`, `status`, `groups`, `created_at`, and `not_after` and `seconds_left` of its longest
    certificate."""
    latest = device.certificates[0] if device.certificates else None
    return {
        "id": device.id,
        "profile": device.profile,
        "status": device.status,
        "groups": list(device.groups),
        "created_at": iso(device.created_at),
        "not_after": iso(latest.not_after) if latest else None,
        "seconds_left": int((latest.not_after - now).total_seconds()) if latest else None,
    }


def certificate(record: CertificateRecord, now: datetime) -> Result:
    """`serial`, `issuer`, `sha256`, `not_before`, `not_after`, `seconds_left`, `status`, `first_seen_at`,
    `last_seen_at`, `pending`.

    `status` is `expired` when nothing worse is known of one that is past its end. `pending` is whether it is good and
    was not seen in a handshake yet.
    """
    gone = record.status != CertificateStatus.REVOKED and now >= record.not_after
    return {
        "serial": record.serial,
        "issuer": record.issuer,
        "sha256": record.sha256,
        "not_before": iso(record.not_before),
        "not_after": iso(record.not_after),
        "seconds_left": int((record.not_after - now).total_seconds()),
        "status": "expired" if gone else record.status,
        "first_seen_at": maybe_iso(record.first_seen_at),
        "last_seen_at": maybe_iso(record.last_seen_at),
        "pending": record.status == CertificateStatus.ACTIVE and not gone and record.first_seen_at is None,
    }


def iso(moment: datetime) -> str:
    """A time as results have it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def maybe_iso(moment: datetime | None) -> str | None:
    """A time that there may be."""
    return None if moment is None else iso(moment)
