"""The approval queue: devices that came with a factory certificate, and what an operator says about them.

It knows nothing of how they asked. Conventions of arguments and results are those of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki import enrolment, signing
from sealmq.pki.names import check_device_id, check_group
from sealmq.pki.operations.results import Result, iso
from sealmq.pki.profiles import device_profile
from sealmq.pki.registry import Approval, ApprovalState, DeviceStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry


def device_pending(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,  # noqa: ARG001
    registry: Registry,
) -> Result:
    """Who waits, the oldest first: `pending`, a list of `id`, `subject`, `issuer`, `sha256`, `peer`, `requested_at`.

    The names are those of the factory certificate. `known` is the status of a device that has that id already, or null.
    """
    known = {device.id: str(device.status) for device in registry.devices()}
    return {
        "pending": [
            {
                "id": asked.device_id,
                "subject": asked.subject,
                "issuer": asked.issuer,
                "sha256": asked.sha256,
                "peer": asked.peer,
                "requested_at": iso(asked.requested_at),
                "known": known.get(asked.device_id),
            }
            for asked in registry.approvals.waiting()
        ]
    }


def device_approve(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    profile: str = "default",
    groups: Sequence[str] = (),
    now: datetime | None = None,
) -> Result:
    """Let a device of the queue in: it gets its certificate when it asks the next time. `id`, `sha256`, `state`.

    A device that is not in the registry is entered as pending. Raises `UsageError` for an impossible profile or group,
    `NotSo` with code `approval-unknown`, `device-revoked` or `device-retired`.
    """
    now = now or signing.utc_now()
    device_profile(profile)
    names = [check_group(name) for name in groups]
    with registry.transaction():
        asked = _asked(registry, id)
        if registry.has_device(asked.device_id):
            enrolment.alive(registry.device(asked.device_id))
        else:
            registry.add_device(asked.device_id, profile=profile, groups=names, now=now, status=DeviceStatus.PENDING)
        registry.approvals.decide(asked.device_id, ApprovalState.APPROVED, now=now)
    return {"id": asked.device_id, "sha256": asked.sha256, "state": ApprovalState.APPROVED}


def device_deny(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    id: str,  # noqa: A002
    now: datetime | None = None,
) -> Result:
    """Turn a device of the queue away, until it is approved. `id`, `sha256`, `state`. Raises `NotSo`."""
    with registry.transaction():
        asked = _asked(registry, id)
        registry.approvals.decide(asked.device_id, ApprovalState.DENIED, now=now or signing.utc_now())
    return {"id": asked.device_id, "sha256": asked.sha256, "state": ApprovalState.DENIED}


def _asked(registry: Registry, device_id: str) -> Approval:
    found = registry.approvals.of_device(check_device_id(device_id))
    if found is None:
        raise NotSo(
            f"device {device_id} has not asked to be let in",
            mend="`sealmq device pending` lists those that have",
            code="approval-unknown",
        )
    return found
