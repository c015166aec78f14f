"""The files of a device: their names, where they lie, and the second slot in which a renewed pair waits to be proven.

It knows nothing of who issues certificates or how a pair is proven.

Two files cannot be replaced at once, so a renewal goes through `cert.pem.new` and `key.pem.new`: `stage` writes them,
`promote` renames them, key first, and `recover` finishes or undoes whatever a power cut left half done. At every moment
one of the two slots holds a key and a certificate that belong together.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.errors import Environment, NotSo
from sealmq.pki import psk
from sealmq.pki.names import check_device_id
from sealmq.secretfiles import new_private_dir, raise_environment, read_private, write_private, write_public

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.datafolder import DataFolder


@dataclass(frozen=True, slots=True)
class DeviceFiles:
    """The three files of a device: its certificate chain, its private key, and the CA it trusts for the broker."""

    cert: Path
    key: Path
    ca: Path

    @classmethod
    def inside(cls, directory: Path) -> DeviceFiles:
        """The files of that directory, by the names `device add` gives them; nothing is read."""
        return cls(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")

    @property
    def staged(self) -> DeviceFiles:
        """The second slot, beside the first. Its `ca` is the same file: trust is not staged."""
        return DeviceFiles(
            self.cert.with_name(f"{self.cert.name}.new"), self.key.with_name(f"{self.key.name}.new"), self.ca
        )

    def exist(self) -> bool:
        """Whether all three are there."""
        return all(path.is_file() for path in (self.cert, self.key, self.ca))

    def fit(self) -> bool:
        """Whether certificate and key are there, readable, and belong together.

        Raises `Environment` with code `secret-exposed` when others can read the key.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        from sealmq.pki.malformed import MALFORMED, whole

        try:
            key = load_pem_private_key(read_private(self.key), password=None)
            certificate = whole(x509.load_pem_x509_certificate(self.cert.read_bytes()))
        except Environment as error:
            if error.code == "file-missing":
                return False
            raise
        except (OSError, *MALFORMED):
            return False
        return key.public_key() == certificate.public_key()


def device_files(folder: DataFolder, device_id: str) -> DeviceFiles:
    """The files of a device whose certificate lies in the data folder, for acting as that device.

    Raises `UsageError` for an impossible id, `NotSo` with code `device-files-missing` when they are not there.
    """
    check_device_id(device_id)
    files = DeviceFiles.inside(folder.devices_dir / device_id)
    if not files.exist():
        mend = f"make it with `sealmq device add {device_id}`; for files elsewhere use --cafile, --cert and --key"
        if files.cert.with_name(psk.FILE).exists():
            mend = "it has a pre-shared key, and no certificate: write mqtts+psk://HOST[:8884]"
        raise NotSo(
            f"device {device_id} has no files in {folder.devices_dir}",
            mend=mend,
            code="device-files-missing",
        )
    return files


def write_new(directory: Path, *, cert_chain_pem: bytes, key_pem: bytes, ca_pem: bytes) -> DeviceFiles:
    """Make `directory` (0700) with the three files, all or nothing. Raises as `new_private_dir` does."""
    with new_private_dir(directory) as making:
        files = DeviceFiles.inside(making)
        write_private(files.key, key_pem)
        write_public(files.cert, cert_chain_pem)
        write_public(files.ca, ca_pem)
    return DeviceFiles.inside(directory)


def stage(files: DeviceFiles, *, cert_chain_pem: bytes, key_pem: bytes) -> None:
    """Write a renewed pair into the second slot. Raises `Environment`; then the second slot is empty."""
    try:
        write_private(files.staged.key, key_pem)
        write_public(files.staged.cert, cert_chain_pem)
    except BaseException:
        with contextlib.suppress(OSError):
            discard(files)
        raise


def promote(files: DeviceFiles) -> None:
    """Let the second slot take the place of the first. Raises `Environment`; `recover` finishes it later."""
    for new, old in ((files.staged.key, files.key), (files.staged.cert, files.cert)):
        try:
            new.replace(old)
        except OSError as error:
            raise_environment(error, old, doing="replace")


def discard(files: DeviceFiles) -> None:
    """Empty the second slot, what there is of it."""
    files.staged.key.unlink(missing_ok=True)
    files.staged.cert.unlink(missing_ok=True)


def recover(files: DeviceFiles) -> None:
    """Bring the slots in order after a renewal that was cut short, at any point.

    A certificate in the second slot that belongs to the key in the first is a `promote` cut between its two renames:
    it is finished. Any other half of a pair in the second slot is thrown away; a whole one stays, to be proven.
    """
    staged = files.staged
    if DeviceFiles(staged.cert, files.key, files.ca).fit():
        staged.cert.replace(files.cert)
    if not staged.fit():
        discard(files)
