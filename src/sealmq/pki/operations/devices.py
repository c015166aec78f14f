"""Devices of a data folder: made with their files, listed, shown.

It knows nothing of what comes later in their life. Conventions of arguments and results are those of the package.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.pki import enrolment, psk, signing
from sealmq.pki.devicefiles import write_new
from sealmq.pki.names import check_device_id, check_group, device_uri
from sealmq.pki.operations.results import Result, certificate, iso, maybe_iso, summary
from sealmq.pki.profiles import DEVICE_PROFILES, device_profile
from sealmq.pki.registry import DeviceStatus
from sealmq.secretfiles import ensure_private_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Device, Registry


def device_add(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    out: str | Path | None = None,
    profile: str = "default",
    groups: Sequence[str] = (),
    reuse_retired: bool = False,
    now: datetime | None = None,
) -> Result:
    """Make a device: key and certificate in `out`/`id` (0700; the key 0600), entered in the registry; all or nothing.

    `out` defaults to the folder's `devices`. The result has `id`, `profile`, `groups`, `uri`, `files` {`cert`, `key`,
    `ca`} and `certificate` as in `device_show`. Raises `UsageError` for an impossible id, profile or group, `NotSo`
    with code `device-exists` or `device-retired`, `Environment` when a file cannot be written or `out`/`id` is there
    already, `ConfigError` with code `clock-wrong`.
    """
    now = now or signing.utc_now()
    target = Path(out).absolute() / check_device_id(id) if out is not None else folder.devices_dir / check_device_id(id)
    device_profile(profile)
    signing.check_clock(authority.device_issuer, now)
    placed = False
    try:
        with registry.transaction():
            device = enter_device(registry, id, profile=profile, groups=groups, reuse_retired=reuse_retired, now=now)
            key = signing.new_key()
            issued = enrolment.issue(authority, registry, device, key.public_key(), now=now)
            # before the commit: files that no registry knows are refused next time, a device without its key is worse
            if out is None:
                ensure_private_dir(folder.devices_dir)
            files = write_new(
                target,
                cert_chain_pem=issued.chain_pem,
                key_pem=signing.key_pem(key),
                ca_pem=authority.server_ca_pem(),
            )
            placed = True
    except BaseException:
        if placed:  # the commit failed, on a full disk for one
            shutil.rmtree(target, ignore_errors=True)
        raise
    return {
        "id": id,
        "profile": device.profile,
        "groups": list(device.groups),
        "uri": device_uri(folder.fleet, id),
        "files": {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)},
        "certificate": certificate(enrolment.certificate_record(issued.certificate, device_id=id, now=now), now),
    }


def device_list(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    now: datetime | None = None,
) -> Result:
    """Every device: `devices`, a list of `id`, `profile`, `status`, `groups`, `created_at`, `not_after` and
    `seconds_left`.

    The last two are those of the certificate that lasts longest, null when there is none.
    """
    now = now or signing.utc_now()
    return {"devices": [summary(device, now) for device in registry.devices()]}


def device_show(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    id: str,  # noqa: A002
    now: datetime | None = None,
) -> Result:
    """One device: what `device_list` says, `uri`, `lifetime_seconds` of its profile, `status_at`, `reason`,
    `certificates`, and `keys`, its pre-shared ones.

    A certificate has `serial`, `issuer`, `sha256`, `not_before`, `not_after`, `seconds_left` (below 0 when expired),
    `status` (`active`, `superseded`, `revoked`, `expired`), `first_seen_at` and `last_seen_at` in a handshake. A key
    has `identity` and `created_at`. Both have `pending`: the device was given it and has not shown it yet; a key that
    is pending replaces the one before it then. Raises `NotSo` with code `device-unknown`, `DataFolderError` with code
    `psk-damaged`.
    """
    now = now or signing.utc_now()
    device = registry.device(id)
    profile = DEVICE_PROFILES.get(device.profile)
    return {
        **summary(device, now),
        "uri": device_uri(folder.fleet, id),
        "lifetime_seconds": int(profile.lifetime.total_seconds()) if profile else None,
        "status_at": maybe_iso(device.status_at) or iso(device.created_at),
        "reason": device.reason,
        "certificates": [certificate(record, now) for record in device.certificates],
        "keys": [
            {"identity": key.identity, "created_at": key.created_at, "pending": number > 0}
            for number, key in enumerate(psk.of_device(folder, device.id))
        ],
    }


def enter_device(
    registry: Registry,
    device_id: str,
    *,
    profile: str,
    groups: Sequence[str],
    reuse_retired: bool,
    now: datetime,
) -> Device:
    """A pending device in the registry, new or, with `reuse_retired`, one whose id had its life already.

    Raises `UsageError` for an impossible id, profile or group, `NotSo` with code `device-exists`, `device-retired`, or
    `device-unknown` when there is nothing to reuse.
    """
    check_device_id(device_id)
    device_profile(profile)
    names = [check_group(name) for name in groups]
    if reuse_retired:
        return registry.revive_device(device_id, profile=profile, groups=names, now=now)
    return registry.add_device(device_id, profile=profile, groups=names, now=now, status=DeviceStatus.PENDING)
