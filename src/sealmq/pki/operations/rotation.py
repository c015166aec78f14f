"""Replacing a CA of a data folder: a step of the root's rotation, a new issuing CA, and how far the fleet is.

It knows nothing of how a step is made or of who is counted; `rotation` and `readiness` do. Conventions of arguments and
results are those of the package.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sealmq.errors import Environment, UsageError
from sealmq.pki import pinning, readiness, revocation, rotation, signing
from sealmq.pki.authority import Kind
from sealmq.pki.operations.results import Result, maybe_iso
from sealmq.pki.rotation import Step

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry


def ca_rotate(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    kind: str,
    step: str | None = None,
    threshold: float = readiness.THRESHOLD,
    force: bool = False,
    now: datetime | None = None,
) -> Result:
    """Replace the issuing CA of `kind` `devices` or `servers`, or take `step` with the `root`.

    The result is that of `ca_rotation`; every issuing CA that is accepted has its revocation list by then. `threshold`
    is the share of devices (0 to 1) that must hold the bundle before `switch` and `drain`; `force` goes on whatever it
    is. Raises `NotSo` with code `rotation-order`, `fleet-not-ready` or `pins-strand`, `UsageError` with code
    `rotation-kind`, `Environment` when a file of a CA cannot be written.
    """
    now = now or signing.utc_now()
    if kind == Kind.ROOT and step in list(Step):
        wanted = Step(step)
        with authority.changing():
            if wanted is rotation.next_step(authority.record) and not force:
                ready = readiness.measure(authority, registry, now=now)
                readiness.require(ready, wanted, threshold=threshold)
                pinning.require(folder, authority, f"ca rotate root --{wanted}")
            rotation.advance(authority, wanted, now=now)
    elif kind in (Kind.DEVICES, Kind.SERVERS) and step is None:
        if not force:
            pinning.require(folder, authority, f"ca rotate {kind}")
        rotation.replace_issuer(authority, Kind(kind), now=now)
    else:
        raise UsageError(
            f"{kind} cannot be rotated by step {step}",
            mend="rotate devices, servers, or root with one of: " + ", ".join(f"--{one}" for one in Step),
            code="rotation-kind",
        )
    # The CAs are replaced; when the disk is full by now, a broker writes the lists once there is room.
    with contextlib.suppress(Environment):
        revocation.refresh_crl(folder, authority, registry, now=now)
    return ca_rotation(folder, authority, registry, now=now)


def ca_rotation(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,
    registry: Registry,
    *,
    now: datetime | None = None,
) -> Result:
    """How far a rotation is.

    `next` is the root's next step, `bundle` {`version`, `since`}, `authorities` a list of `kind`, `number`, `state`,
    `since` of every CA there ever was, `devices` the number of active ones, `confirmed` how many of them hold the
    bundle, `share` the same from 0 to 1, `missing` the ids of the others, `dependent` the ids of those whose
    certificates are all under the old root, `bridged` whether a device with the old root alone can verify the new
    chain, and `root_is_due` whether the root is in the last third of its life.
    """
    now = now or signing.utc_now()
    ready = readiness.measure(authority, registry, now=now)
    record = authority.record
    return {
        "next": str(rotation.next_step(record)),
        "bundle": {"version": record.bundle, "since": maybe_iso(record.bundle_since)},
        "authorities": [
            {
                "kind": str(entry.kind),
                "number": entry.number,
                "state": str(entry.state),
                "since": maybe_iso(entry.since),
            }
            for entry in record.entries
        ],
        "devices": ready.devices,
        "confirmed": ready.devices - len(ready.missing),
        "share": round(ready.share, 4),
        "missing": list(ready.missing),
        "dependent": list(ready.dependent),
        "bridged": ready.bridged,
        "root_is_due": rotation.root_is_due(authority, now=now),
    }
