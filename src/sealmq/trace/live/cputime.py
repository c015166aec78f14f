"""CPU time that TLS takes: of this side while the library is called, of a server that is a process of this machine.

It refuses to know what the time was spent on.
"""

from __future__ import annotations

import time
from pathlib import Path

from sealmq.errors import UsageError


class Stopwatch:
    """A context manager that adds up the CPU time of this thread inside its blocks: `ms`."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.ms = 0.0
        self._began = 0.0

    def __enter__(self) -> Stopwatch:
        self._began = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.ms += (time.thread_time() - self._began) * 1000


def of_process(pid: int) -> float:
    """The milliseconds that all threads of a process have run, by the scheduler's account (Linux).

    Raises `UsageError` with code `no-such-process`.
    """
    try:
        tasks = [task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(task.split()[0]) for task in tasks) / 1_000_000
    except (OSError, ValueError, IndexError):
        raise UsageError(
            f"CPU time of process {pid} cannot be read",
            mend="--pid takes the number of a process of this machine; `sealmq status` shows the broker's",
            code="no-such-process",
        ) from None
