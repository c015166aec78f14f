"""A file system that is full when a test says so. Knows nothing of what is written to it.

As root it is a real tmpfs of 64 KiB; without the right to mount, the system call that writes fails instead.
"""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE = 64 * 1024


@dataclass
class TinyDisk:
    """`path` is an empty directory on it; `fill` leaves no room, `fill(spare=N)` leaves N bytes (real disks only)."""

    path: Path
    is_real: bool
    patch: pytest.MonkeyPatch

    def fill(self, *, spare: int = 0) -> None:
        if not self.is_real:
            self.patch.setattr(os, "write", _no_space)
            return
        ballast = self.path / "lost+found"  # the one foreign name that a data folder tolerates
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        if spare:
            os.truncate(ballast, ballast.stat().st_size - spare)

    def empty(self) -> None:
        self.patch.undo()
        (self.path / "lost+found").unlink(missing_ok=True)


@contextlib.contextmanager
def tiny_disk(mount_point: Path) -> Iterator[TinyDisk]:
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(mount_point)]
    is_real = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        with pytest.MonkeyPatch.context() as patch:
            yield TinyDisk(mount_point, is_real, patch)
    finally:
        if is_real:
            subprocess.run(["umount", str(mount_point)], check=True)


def _no_space(_descriptor: int, _data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
