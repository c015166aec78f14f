"""Pre-shared keys of devices: `psk.json` in the data folder, and `psk.txt` for the device, both mode 0600.

It knows nothing of handshakes or of rules. The broker needs a key as it is, so it is kept as it is, apart from the
registry: that is read, shown and backed up as a whole. The identity in the handshake is the device id; that of a key
which replaced another is `ID~2`, and so on, so that both are good until the new one was seen.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, NotSo
from sealmq.pki.names import check_device_id
from sealmq.pki.registry import DeviceStatus
from sealmq.secretfiles import new_private_dir, read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.datafolder import DataFolder
    from sealmq.pki.registry import Registry

KEY_BYTES = 32
"""Of a new key: random, and as long as the hash that TLS 1.3 binds it to (RFC 8446, 4.2.11; RFC 9257, 6)."""

FILE = "psk.txt"


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """A key of one device in hexadecimal digits; `created_at` ISO 8601, UTC; `number` 1 is its first key."""

    device: str
    key: str = field(repr=False)
    created_at: str
    number: int = 1

    @property
    def identity(self) -> str:
        """What the handshake says: which device, and which of its keys."""
        return self.device if self.number == 1 else f"{self.device}~{self.number}"

    @property
    def line(self) -> str:
        """`identity:hexkey`, as in mosquitto's `psk_file`."""
        return f"{self.identity}:{self.key}"


def new_key(device_id: str, *, created_at: str, number: int = 1) -> PresharedKey:
    """A random key for a device; kept by `put` or `add_beside`."""
    return PresharedKey(device_id, secrets.token_hex(KEY_BYTES), created_at, number)


def load(folder: DataFolder) -> list[PresharedKey]:
    """Every key, by device; of one that is being replaced, the old one first.

    Raises `DataFolderError` with code `psk-damaged`, `Environment` for an exposed file.
    """
    path = _path(folder)
    if not path.exists():
        return []
    try:
        entries = json.loads(read_private(path))["keys"]
        return sorted((PresharedKey(**entry) for entry in entries), key=lambda one: (one.device, one.number))
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        raise DataFolderError(
            f"file of pre-shared keys {path} is damaged",
            mend="restore it from a backup, or remove it, and retire and add its devices again",
            code="psk-damaged",
        ) from None


def put(folder: DataFolder, key: PresharedKey) -> None:
    """Keep a key, in place of all earlier ones of that device. Whoever calls owns the folder."""
    _save(folder, [*(other for other in load(folder) if other.device != key.device), key])


def of_device(folder: DataFolder, device_id: str) -> list[PresharedKey]:
    """The keys of a device: none, the one it has, or that and the one which is to replace it."""
    return [one for one in load(folder) if one.device == device_id]


def add_beside(folder: DataFolder, device_id: str, *, created_at: str) -> PresharedKey:
    """A new key of a device beside the one it uses; one that was made before and never seen is dropped.

    Whoever calls owns the folder. Raises `NotSo` with code `psk-unknown` for a device that has none.
    """
    known = of_device(folder, device_id)
    if not known:
        raise NotSo(
            f"device {device_id} has no pre-shared key",
            mend=f"see `sealmq device show {device_id}`",
            code="psk-unknown",
        )
    key = new_key(device_id, created_at=created_at, number=known[-1].number + 1)
    _save(folder, [*(one for one in load(folder) if one not in known[1:]), key])
    return key


def awaited(folder: DataFolder) -> dict[str, str]:
    """The identities of keys that are to replace others, with their devices."""
    known = load(folder)
    first: dict[str, PresharedKey] = {}
    for one in known:
        first.setdefault(one.device, one)
    return {one.identity: one.device for one in known if first[one.device] is not one}


def settle(folder: DataFolder, identity: str) -> PresharedKey | None:
    """The key of `identity` was seen: drop the one it replaces, which is returned; None when there is none.

    Whoever calls owns the folder.
    """
    known = load(folder)
    seen = next((one for one in known if one.identity == identity), None)
    old = [one for one in known if seen is not None and one.device == seen.device and one.number < seen.number]
    if old:
        _save(folder, [one for one in known if one not in old])
    return old[0] if old else None


def forget(folder: DataFolder, device_id: str) -> None:
    """Drop the keys of a device, if it has any. Whoever calls owns the folder."""
    known = load(folder)
    left = [one for one in known if one.device != device_id]
    if len(left) < len(known):
        _save(folder, left)


def for_engine(folder: DataFolder, registry: Registry) -> list[dict[str, str]]:
    """The keys of active devices in the shape of `psk` of a `NodeConfig`."""
    active = set(registry.ids(DeviceStatus.ACTIVE))
    return [
        {"device": one.device, "key": one.key} | ({} if one.number == 1 else {"identity": one.identity})
        for one in load(folder)
        if one.device in active
    ]


def write_new(directory: Path, key: PresharedKey) -> Path:
    """Make `directory` (0700) with `psk.txt` in it, one line; all or nothing. Raises as `new_private_dir` does."""
    with new_private_dir(directory) as making:
        write_private(making / FILE, f"{key.line}\n".encode())
    return directory / FILE


def replace(directory: Path, key: PresharedKey) -> Path:
    """Write the line into the `psk.txt` that is there. Raises `Environment`."""
    write_private(directory / FILE, f"{key.line}\n".encode())
    return directory / FILE


def device_file(folder: DataFolder, device_id: str) -> Path:
    """The `psk.txt` of a device in the data folder, for acting as that device.

    Raises `UsageError` for an impossible id, `NotSo` with code `device-files-missing` when it is not there.
    """
    file = folder.devices_dir / check_device_id(device_id) / FILE
    if not file.exists():
        mend = f"make it with `sealmq device add {device_id} --psk`; for a file elsewhere use --psk-file"
        if file.parent.exists():
            mend = "it has a certificate: write mqtts://HOST[:8883]"
        raise NotSo(
            f"device {device_id} has no pre-shared key in {folder.devices_dir}", mend=mend, code="device-files-missing"
        )
    return file


def _save(folder: DataFolder, keys: list[PresharedKey]) -> None:
    write_private(_path(folder), json.dumps({"keys": [asdict(one) for one in keys]}, indent=2).encode() + b"\n")


def _path(folder: DataFolder) -> Path:
    return folder.path / "psk.json"
