"""Small file systems of a test's own, for root only: ext4 on a loop device, tmpfs, a disk smaller than it says.

They refuse to know what is written to them, and are gone at the end of the block.
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class SmallDisk:
    """`path` is the folder it is mounted on; `ballast` is a file that takes up room."""

    path: Path

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, *, spare: int) -> None:
        """Leave room for `spare` bytes."""
        with self.ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
        with self.ballast.open("r+b") as file:
            file.truncate(max(self.ballast.stat().st_size - spare, 0))

    def make_room(self) -> None:
        self.ballast.unlink()


@contextlib.contextmanager
def ext4(folder: Path, *, size: int) -> Iterator[SmallDisk]:
    """A file system in a file, of which every block is there."""
    image = folder / "disk.img"
    image.write_bytes(b"\0" * size)
    with _ext4_in(image, folder / "disk") as disk:
        yield disk


@contextlib.contextmanager
def tmpfs(folder: Path, *, size: int) -> Iterator[SmallDisk]:
    """A file system in memory."""
    with _mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs") as path:
        yield SmallDisk(path)


@dataclass(frozen=True)
class ThinDisk:
    """An ext4 that believes in more blocks than there are: writes and syncs fail with EIO once they are used."""

    path: Path
    behind: SmallDisk

    def run_out(self) -> None:
        """From now on no new block can be written."""
        self.behind.fill(spare=0)


@contextlib.contextmanager
def thin(folder: Path, *, size: int, real: int) -> Iterator[ThinDisk]:
    """`size` is what it says it has, `real` what there is."""
    (folder / "behind").mkdir()
    with tmpfs(folder / "behind", size=real) as behind:
        image = behind.path / "thin.img"
        with image.open("wb") as file:
            file.truncate(size)
        with _ext4_in(image, folder / "thin") as disk:
            yield ThinDisk(disk.path, behind)


@contextlib.contextmanager
def mended(disk: ThinDisk) -> Iterator[SmallDisk]:
    """What the thin disk holds once its owner has put blocks behind it and had the journal played."""
    subprocess.run(["umount", disk.path], check=True)
    disk.behind.make_room()
    image = disk.behind.path / "thin.img"
    done = subprocess.run(["e2fsck", "-fy", image], capture_output=True, text=True)
    assert done.returncode < 4, done.stdout
    with _mounted(disk.path.with_name("mended"), "-o", "loop", image) as path:
        yield SmallDisk(path)
    subprocess.run(["mount", "-o", "loop", image, disk.path], check=True)  # for whoever mounted it first to unmount


@contextlib.contextmanager
def _ext4_in(image: Path, mount_point: Path) -> Iterator[SmallDisk]:
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
    with _mounted(mount_point, "-o", "loop", image) as path:
        yield SmallDisk(path)


@contextlib.contextmanager
def _mounted(mount_point: Path, *words: object) -> Iterator[Path]:
    mount_point.mkdir()
    subprocess.run(["mount", *map(str, words), str(mount_point)], check=True, capture_output=True)
    try:
        yield mount_point
    finally:
        # A test that failed may have left files open: then it goes when they do.
        if subprocess.run(["umount", mount_point], capture_output=True).returncode != 0:
            subprocess.run(["umount", "-l", mount_point], check=True)
