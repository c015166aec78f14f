"""What happens to a device after it was made: a token, a renewal, its revocation, its end.

It knows nothing of live sessions: a running broker closes them right after. Conventions are those of the package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, Environment, NotSo, SealmqError
from sealmq.pki import devicefiles, enrolment, psk, revocation, signing, tokens
from sealmq.pki.devicefiles import DeviceFiles
from sealmq.pki.fingerprints import spki_sha256
from sealmq.pki.names import check_device_id
from sealmq.pki.operations.devices import enter_device
from sealmq.pki.operations.presharedkeys import device_renew_psk
from sealmq.pki.operations.results import Result, certificate, iso
from sealmq.pki.registry import CertificateStatus, DeviceStatus, Ending, TokenRecord
from sealmq.secretfiles import write_public

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Device, Registry


Close = Callable[[revocation.Denylist], dict[str, int]]
"""Refuses more identities and closes their connections: `closed` says how many."""

Purge = Callable[[str], dict[str, int]]
"""Drops what the broker keeps of a device: how many `sessions` and `retained` messages."""


def nothing_kept(_device: str) -> dict[str, int]:
    """`Purge` without a broker."""
    return {"sessions": 0, "retained": 0}


def device_token(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    new: bool = False,
    profile: str = "default",
    groups: Sequence[str] = (),
    reuse_retired: bool = False,
    now: datetime | None = None,
) -> Result:
    """A one-time enrolment token, good for a day: `id`, `profile`, `token`, `pin` (SHA-256 of the CA's public key) and
    `expires_at`.

    With `new` the device is entered as pending first, as `device_add` would with these arguments; without it the device
    is there already, and any earlier token of it that was not used is void. Raises what `device_add` raises, `NotSo`
    with code `device-unknown`, `device-revoked` or `device-retired`.
    """
    now = now or signing.utc_now()
    signing.check_clock(authority.device_issuer, now)
    with registry.transaction():
        if new:
            device = enter_device(registry, id, profile=profile, groups=groups, reuse_retired=reuse_retired, now=now)
        else:
            device = enrolment.alive(registry.device(check_device_id(id)))
        token = tokens.new_token()
        expires = now + tokens.TOKEN_LIFETIME
        registry.tokens.add(TokenRecord(tokens.token_hash(token), device.id, device.profile, now, expires))
    return {
        "id": device.id,
        "profile": device.profile,
        "token": token,
        "pin": spki_sha256(authority.root.certificate),
        "expires_at": iso(expires),
    }


def device_renew(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002
    out: str | Path | None = None,
    now: datetime | None = None,
) -> Result:
    """A new key and certificate for a device whose files lie here, in `out`/`id` or the folder's `devices`; for one
    with a pre-shared key, what `device_renew_psk` does.

    The old pair is replaced once the new one is recorded and written whole; the CA file gets the present roots. The
    result is that of `device_add`. Raises `NotSo` with code `device-unknown`, `device-revoked`, `device-retired` or
    `device-files-missing`, `Environment` when a file cannot be written; then the old pair is as it was.
    """
    now = now or signing.utc_now()
    if psk.of_device(folder, id):
        return device_renew_psk(folder, authority, registry, id=id, out=out, now=now)
    files = DeviceFiles.inside(
        Path(out).absolute() / check_device_id(id) if out else folder.devices_dir / check_device_id(id)
    )
    device = enrolment.alive(registry.device(id))
    if not files.cert.parent.is_dir() or not files.ca.is_file():
        raise NotSo(
            f"device {id} has no files in {files.cert.parent}",
            mend="its key is on the device: that renews by itself (`sealmq agent`), or with a new token:"
            f" `sealmq device token {id}`",
            code="device-files-missing",
        )
    devicefiles.recover(files)
    key = signing.new_key()
    try:
        with registry.transaction():
            issued = enrolment.issue(authority, registry, device, key.public_key(), now=now)
            devicefiles.stage(files, cert_chain_pem=issued.chain_pem, key_pem=signing.key_pem(key))
            write_public(files.ca, authority.server_ca_pem())  # of a CA that was replaced, it holds the old root alone
    except BaseException:
        devicefiles.discard(files)
        raise
    devicefiles.promote(files)
    record = enrolment.certificate_record(issued.certificate, device_id=id, now=now)
    return {
        "id": id,
        "profile": device.profile,
        "files": {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)},
        "certificate": certificate(record, now),
    }


def device_revoke(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002
    reason: str = "unspecified",
    now: datetime | None = None,
    close: Close | None = None,
) -> Result:
    """Close a device's sessions, revoke it, its certificates and its tokens in one transaction, write a fresh CRL.

    The result has `id`, `reason`, `already` (it was revoked before), `certificates` (SHA-256 of those that were still
    good), `sessions_closed`, `milliseconds` from the call until the last of them was closed, `crl`: its path, null
    when the disk would not take it, and `unwritten`: null, or `message` and `mend` of why the registry could not be
    written. Then the device is out for as long as `registry` is open, and `write_end` makes that last. Without `close`,
    which is how a broker ends sessions, that is raised instead, and nothing has changed. Raises `UsageError` for an
    unknown reason, `NotSo` with code `device-unknown` or `device-retired`.
    """
    now = now or signing.utc_now()
    return _end(folder, authority, registry, id, status=DeviceStatus.REVOKED, reason=reason, now=now, close=close)


def device_retire(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    id: str,  # noqa: A002
    now: datetime | None = None,
    close: Close | None = None,
    purge: Purge = nothing_kept,
) -> Result:
    """Revoke a device for good: its id is kept and not given out again. Its files in the data folder are removed.

    The result is that of `device_revoke`, `files_removed`, and how many `sessions_purged` and `retained_purged`; when
    the registry is `unwritten`, nothing is removed or purged. Raises `NotSo` with code `device-unknown` or
    `device-retired`.
    """
    now, reason = now or signing.utc_now(), "cessation-of-operation"
    result = _end(folder, authority, registry, id, status=DeviceStatus.RETIRED, reason=reason, now=now, close=close)
    if result["unwritten"]:
        return {**result, "sessions_purged": 0, "retained_purged": 0, "files_removed": False}
    purged = purge(id)
    psk.forget(folder, id)  # whoever is given the id again does not get the key with it
    return {
        **result,
        "sessions_purged": purged["sessions"],
        "retained_purged": purged["retained"],
        "files_removed": _remove(DeviceFiles.inside(folder.devices_dir / id)),
    }


def write_end(registry: Registry, device_id: str, *, status: DeviceStatus, ending: Ending) -> None:
    """Enter the end of a device in the file, with all its certificates, in one transaction. Raises `Environment` and
    `DataFolderError` when it cannot be written; then nothing has changed.
    """
    with registry.transaction():
        registry.revoke_certificates(device_id, now=ending.at)
        registry.tokens.void(device_id)
        registry.approvals.forget(device_id)
        registry.put_status(device_id, status, now=ending.at, reason=ending.reason)
    registry.settled(device_id)


def _end(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    device_id: str,
    *,
    status: DeviceStatus,
    reason: str,
    now: datetime,
    close: Close | None,
) -> Result:
    """Out first, written then: what the disk says must not keep anybody in."""
    began = time.perf_counter()
    revocation.check_reason(reason)
    device = registry.device(check_device_id(device_id))
    _not_retired(device)
    already = device.status == DeviceStatus.REVOKED and device.id not in registry.unwritten()
    is_again = already and status == device.status
    ending = Ending((is_again and device.status_at) or now, device.reason if already else reason)
    good = [
        one.sha256 for one in device.certificates if one.status != CertificateStatus.REVOKED and now < one.not_after
    ]
    registry.shut_out(device.id, ending)
    fault: SealmqError | None = None
    try:
        closed = close({"devices": [device.id], "certificates": good})["closed"] if close else 0
        took = time.perf_counter() - began
    finally:
        try:
            write_end(registry, device.id, status=status, ending=ending)
        except (Environment, DataFolderError) as error:
            if close is None:
                registry.settled(device.id)
                raise
            fault = error
    return {
        "id": device.id,
        "reason": ending.reason,
        "already": already,
        "certificates": good,
        "sessions_closed": closed,
        "milliseconds": round(took * 1000, 3),
        "crl": _crl(folder, authority, registry, now),
        "unwritten": {"message": fault.message, "mend": fault.mend} if fault else None,
    }


def _crl(folder: DataFolder, authority: Authority, registry: Registry, now: datetime) -> str | None:
    try:
        return str(revocation.write_crl(folder, authority, registry, now=now))
    except Environment:
        return None  # a full disk must not keep anybody from revoking; the broker writes it when there is room


def _not_retired(device: Device) -> None:
    if device.status == DeviceStatus.RETIRED:
        raise NotSo(
            f"device {device.id} is retired already",
            mend=f"see `sealmq device show {device.id}`",
            code="device-retired",
        )


def _remove(files: DeviceFiles) -> bool:
    """Remove what `device add` and `device renew` wrote, and the folder when nothing else is in it."""
    shared = files.key.with_name(psk.FILE)
    found = files.key.is_file() or files.cert.is_file() or shared.is_file()
    devicefiles.discard(files)
    for path in (files.key, files.cert, files.ca, shared):
        path.unlink(missing_ok=True)
    if found and not any(files.cert.parent.iterdir()):
        files.cert.parent.rmdir()
    return found
