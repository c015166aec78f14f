"""What the registry remembers, as values: devices, certificates, tokens and approvals.

It knows nothing of how they are stored. Times carry their zone, UTC; hashes and key ids are lower-case hex.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class DeviceStatus(enum.StrEnum):
    """Where a device is in its life. Only an active one may connect; a retired id is not given out again."""

    PENDING = "pending"
    """Known, and without a certificate yet: it has a token, or it was approved."""
    ACTIVE = "active"
    REVOKED = "revoked"
    RETIRED = "retired"


class CertificateStatus(enum.StrEnum):
    """What counts for a certificate beside its dates, which say by themselves whether it has expired."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    """A later one of the same device was seen in a handshake; this one still verifies until it expires."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One certificate of a device. `issuer` is its authority key identifier, `sha256` that of the DER form.

    `first_seen_at` and `last_seen_at` are those of handshakes with it; the second is exact to an hour.
    """

    serial: str
    device_id: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str
    created_at: datetime
    status: str = CertificateStatus.ACTIVE
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One device with its certificates, the one that lasts longest first, and its groups in order.

    `status_at` is when it got its status, `reason` why, when a reason was given.
    """

    id: str
    profile: str
    status: str
    created_at: datetime
    certificates: tuple[CertificateRecord, ...] = ()
    groups: tuple[str, ...] = ()
    status_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """Since when a device counts as revoked, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A one-time enrolment token, by the SHA-256 of it; the token itself is not kept."""

    hash: str
    device_id: str
    profile: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None


class ApprovalState(enum.StrEnum):
    """What an operator said about a device that came with a factory certificate."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Approval:
    """A device that is not known and asks to be let in: `sha256`, `subject` and `issuer` of its factory certificate.

    `device_id` is the id it would get; `peer` the address it asked from.
    """

    sha256: str
    device_id: str
    subject: str
    issuer: str
    peer: str
    state: str
    requested_at: datetime
    decided_at: datetime | None = None
