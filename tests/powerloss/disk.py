"""A mounted disk whose power can be cut, and a broker that loses it whenever it is killed.

It refuses to know what is on the disk. The file system is the program in `src`, which Linux lets only root mount.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from crash.broker import BrokerProcess

if TYPE_CHECKING:
    from types import TracebackType

_HERE = Path(__file__).resolve().parent
_SYNC_US = 1000  # what a sync takes: long enough for a batch to gather, and for the power to go in the middle of it
_KEEP = {"nothing": 4, "prefix": 2, "some": 2, "torn": 2}  # what is left of unsynced changes, and how often of ten


def missing() -> str | None:
    """Why nothing can be mounted here, or None."""
    if os.geteuid() != 0:
        return "needs root: it mounts a file system of its own"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    return None


def build() -> Path:
    """The file system's program, built when it is not. The first time takes a minute."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", _HERE.parent.parent / "target")) / "powerloss"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target],
        cwd=_HERE,
        check=True,
        env={**os.environ, "CARGO_TERM_COLOR": "never"},
    )
    return target / "release" / "sealmq-powerloss"


class Disk:
    """The program `binary`, mounted at the empty folder `path`; a context manager."""

    def __init__(self, binary: Path, path: Path, *, seed: int) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(f"{seed} disk")  # noqa: S311  repeatable, not secret
        words = [binary, path, str(_SYNC_US)]
        self._program = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("mounted")

    def __enter__(self) -> Disk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._program.communicate(timeout=15)

    def sync(self) -> None:
        """Everything until now is old: the kernel has written it."""
        self._ask("sync")

    def cut(self, keep: str | None = None) -> None:
        """The power is gone: EIO from now on, and of what was not synced is left what `keep` says, or chance."""
        keep = keep or self._chance.choices(list(_KEEP), list(_KEEP.values()))[0]
        unsynced, kept = self._ask(f"cut {keep} {self._chance.getrandbits(64)}").split()[1:]
        self.counts.update({"power cuts": 1, f"power cuts that kept {keep}": 1})
        self.counts.update({"unsynced changes at a cut": int(unsynced), "of these kept, whole or torn": int(kept)})

    def mount(self) -> None:
        """The power is back, and with it what survived. A file of the old mount that is still open answers EIO."""
        self._ask("mount")

    def _ask(self, line: str) -> str:
        assert self._program.stdin is not None
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()
        return self._expect(line.split()[0])

    def _expect(self, word: str) -> str:
        assert self._program.stdout is not None
        answer = self._program.stdout.readline()
        assert answer.startswith(word), f"file system answered {answer!r}, status {self._program.poll()}"
        return answer


class PoweredBroker(BrokerProcess):
    """A broker whose end is that of the power: its disk fails under it, it ends, then the disk is back."""

    def __init__(self, data: Path, disk: Disk, *, log: Path, seed: int) -> None:
        super().__init__(data, log=log)
        self._disk = disk
        self._chance = random.Random(f"{seed} power")  # noqa: S311  repeatable, not secret

    def kill(self) -> None:
        """Cut the power, then SIGKILL; the process may run on without a disk for up to 50 ms."""
        self._disk.cut()
        if self.is_running:
            self.wait(self._chance.choice((0.0, 0.0, self._chance.uniform(0, 0.05))))
        super().kill()
        self._disk.mount()
