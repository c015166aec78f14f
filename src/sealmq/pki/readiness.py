"""How far the fleet is when the root is replaced: who holds the new bundle, and who still depends on the old root.

It knows nothing of how a step is taken; it counts devices and says whether a step would cut any of them off.

A device holds the bundle once it has fetched it with its own certificate from `/.well-known/est/cacerts`, which curl
and every EST client can do and which `sealmq agent` does by itself, or when its first certificate is younger than the
bundle: then it was given it at birth. A device without a certificate, one with a pre-shared key or one that has not
enrolled yet, verifies nothing by a bundle and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki.authority import Kind, State
from sealmq.pki.registry import DeviceStatus
from sealmq.pki.rotation import Step

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Device, Registry

THRESHOLD = 0.95
"""The share of devices that must hold the bundle before a step goes on without being told to."""

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Readiness:
    """`devices` counts the active ones with a certificate; `missing` are the ids of those of them that do not hold the
    bundle of that `version`.

    `dependent` are the ids of those whose every valid certificate would no longer be accepted after `drain`.
    `bridged` says whether a device that trusts the old root alone can verify the new chain.
    """

    version: int
    devices: int
    missing: tuple[str, ...]
    dependent: tuple[str, ...]
    bridged: bool

    @property
    def share(self) -> float:
        """The share of devices that hold the bundle, 1.0 when there are none."""
        return 1.0 - len(self.missing) / self.devices if self.devices else 1.0


def measure(authority: Authority, registry: Registry, *, now: datetime) -> Readiness:
    """The fleet as the registry has it now."""
    devices = [one for one in registry.devices() if one.status == DeviceStatus.ACTIVE and one.certificates]
    record = authority.record
    confirmed = registry.bundles.confirmed(record.bundle)
    without = [device for device in devices if device.id not in confirmed]
    missing = [device.id for device in without if not _given_at_birth(device, record.bundle_since)]
    under = authority.signs(Kind.ROOT).entry.number
    lasting = {
        member.key_id
        for member in authority.members_of(Kind.DEVICES, State.SIGNING, State.DRAINING)
        if member.entry.root == under
    }
    dependent = [device.id for device in devices if _depends(device, lasting, now)]
    return Readiness(record.bundle, len(devices), tuple(missing), tuple(dependent), bridged=_is_bridged(authority))


def require(ready: Readiness, step: Step, *, threshold: float = THRESHOLD) -> None:
    """Raise `NotSo` with code `fleet-not-ready` when the step would cut off devices that can be named.

    `switch` asks for `threshold`, and for every device when there is no bridge; `drain` for `threshold`, and that no
    device depends on the old root. The other steps cut nobody off.
    """
    if step not in (Step.SWITCH, Step.DRAIN):
        return
    wanted = threshold if ready.bridged or step is Step.DRAIN else 1.0
    if ready.share < wanted:
        because = "" if ready.bridged else " (all, since the old root allows no bridge)"
        raise NotSo(
            f"step {step} waits: {len(ready.missing)} of {ready.devices} devices do not hold bundle {ready.version},"
            f" {ready.share:.1%} do and {wanted:.0%} must{because}: {_names(ready.missing)}",
            mend="have them fetch /.well-known/est/cacerts with their certificate; --force goes on without them",
            code="fleet-not-ready",
        )
    if step is Step.DRAIN and ready.dependent:
        raise NotSo(
            f"step {step} waits: {len(ready.dependent)} of {ready.devices} devices have no certificate under the new"
            f" root: {_names(ready.dependent)}",
            mend="have them renew, or wait until their certificates expire; --force refuses them from then on",
            code="fleet-not-ready",
        )


def _given_at_birth(device: Device, since: datetime | None) -> bool:
    if since is None:  # the first bundle: there never was another one
        return True
    return min(one.created_at for one in device.certificates) > since


def _depends(device: Device, lasting: set[str], now: datetime) -> bool:
    valid = [one for one in device.certificates if one.not_after > now and one.status != "revoked"]
    return bool(valid) and not any(one.issuer in lasting for one in valid)


def _is_bridged(authority: Authority) -> bool:
    roots = list(authority.members_of(Kind.ROOT, State.PUBLISHED)) or [authority.signs(Kind.ROOT)]
    return roots[0].bridge is not None


def _names(ids: tuple[str, ...]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
