"""Pre-shared keys of devices: `psk.json` in the data folder, and `psk.txt` for the device, both mode 0600.

It knows nothing of handshakes or of rules. The broker needs a key as it is, so it is kept as it is, apart from the
registry: that is read, shown and backed up as a whole. The identity in the handshake is the device id.
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
    """The key of one device in hexadecimal digits; `created_at` ISO 8601, UTC."""

    device: str
    key: str = field(repr=False)
    created_at: str

    @property
    def line(self) -> str:
        """`identity:hexkey`, as in mosquitto's `psk_file`."""
        return f"{self.device}:{self.key}"


def new_key(device_id: str, *, created_at: str) -> PresharedKey:
    """A random key for a device; kept by `put`."""
    return PresharedKey(device_id, secrets.token_hex(KEY_BYTES), created_at)


def load(folder: DataFolder) -> list[PresharedKey]:
    """Every key, by device. Raises `DataFolderError` with code `psk-damaged`, `Environment` for an exposed file."""
    path = _path(folder)
    if not path.exists():
        return []
    try:
        entries = json.loads(read_private(path))["keys"]
        return sorted((PresharedKey(**entry) for entry in entries), key=lambda one: one.device)
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        raise DataFolderError(
            f"file of pre-shared keys {path} is damaged",
            mend="restore it from a backup, or remove it, and retire and add its devices again",
            code="psk-damaged",
        ) from None


def put(folder: DataFolder, key: PresharedKey) -> None:
    """Keep a key, in place of an earlier one of that device. Whoever calls owns the folder."""
    _save(folder, [*(other for other in load(folder) if other.device != key.device), key])


def forget(folder: DataFolder, device_id: str) -> None:
    """Drop the key of a device, if it has one. Whoever calls owns the folder."""
    known = load(folder)
    left = [one for one in known if one.device != device_id]
    if len(left) < len(known):
        _save(folder, left)


def for_engine(folder: DataFolder, registry: Registry) -> list[dict[str, str]]:
    """The keys of active devices in the shape of `psk` of a `NodeConfig`."""
    active = set(registry.ids(DeviceStatus.ACTIVE))
    return [{"device": one.device, "key": one.key} for one in load(folder) if one.device in active]


def write_new(directory: Path, key: PresharedKey) -> Path:
    """Make `directory` (0700) with `psk.txt` in it, one line; all or nothing. Raises as `new_private_dir` does."""
    with new_private_dir(directory) as making:
        write_private(making / FILE, f"{key.line}\n".encode())
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
