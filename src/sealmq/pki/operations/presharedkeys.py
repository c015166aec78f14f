"""A device that has a pre-shared key in place of a certificate is made here, and gets its next key.

It knows nothing of how its life ends: that is the same for every device. Conventions are those of the
package.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki import enrolment, psk, signing
from sealmq.pki.names import check_device_id
from sealmq.pki.operations.devices import enter_device
from sealmq.pki.operations.results import Result, iso
from sealmq.pki.registry import DeviceStatus
from sealmq.secretfiles import ensure_private_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry


def device_add_psk(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001 - every operation has the same first three
    registry: Registry,
    *,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    out: str | Path | None = None,
    groups: Sequence[str] = (),
    reuse_retired: bool = False,
    now: datetime | None = None,
) -> Result:
    """Make a device with a pre-shared key: `psk.txt` (0600) in `out`/`id` (0700), entered in the registry; all or none.

    `out` defaults to the folder's `devices`. The result has `id`, `groups`, `identity` and `files` {`psk`}; the key is
    in the file alone. Raises as `device_add`, and `DataFolderError` with code `psk-damaged`.
    """
    now = now or signing.utc_now()
    target = (Path(out).absolute() if out is not None else folder.devices_dir) / check_device_id(id)
    placed = False
    try:
        with registry.transaction():
            device = enter_device(registry, id, profile="default", groups=groups, reuse_retired=reuse_retired, now=now)
            registry.put_status(id, DeviceStatus.ACTIVE, now=now)
            key = psk.new_key(id, created_at=iso(now))
            if out is None:
                ensure_private_dir(folder.devices_dir)
            # before the commit, as for certificates; a key of a device that no registry knows opens nothing
            file = psk.write_new(target, key)
            placed = True
            psk.put(folder, key)
    except BaseException:
        if placed:
            shutil.rmtree(target, ignore_errors=True)
        raise
    return {"id": id, "groups": list(device.groups), "identity": id, "files": {"psk": str(file)}}


def device_renew_psk(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001
    registry: Registry,
    *,
    id: str,  # noqa: A002
    out: str | Path | None = None,
    now: datetime | None = None,
) -> Result:
    """A new key for a device, in `psk.txt` in `out`/`id` or the folder's `devices`; with `out` the file may be new.

    The old key stays good until the new one was seen; a new one that was never seen is dropped by the next. The result
    has `id`, `identity`, `replaces` (the identity of the old key) and `files` {`psk`}. Raises `NotSo` with code
    `device-unknown`, `device-revoked`, `device-retired`, `device-files-missing`, `psk-unknown`; `Environment`.
    """
    now = now or signing.utc_now()
    device = enrolment.alive(registry.device(check_device_id(id)))
    target = (Path(out).absolute() if out is not None else folder.devices_dir) / device.id
    is_there = (target / psk.FILE).is_file()
    if not is_there and out is None:
        raise NotSo(
            f"device {id} has no psk.txt in {target}",
            mend=f"name a folder for the new one, to be brought to the device: `sealmq device renew {id} --out DIR`",
            code="device-files-missing",
        )
    old = psk.of_device(folder, device.id)
    # the data folder first: a key that the device has must be known to the broker
    key = psk.add_beside(folder, device.id, created_at=iso(now))
    file = psk.replace(target, key) if is_there else psk.write_new(target, key)
    return {"id": device.id, "identity": key.identity, "replaces": old[0].identity, "files": {"psk": str(file)}}
