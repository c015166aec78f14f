"""Owns the programs in C that storm and measure: built by the system's compiler, started on a core, read to the end.

Refuses to know what a storm is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "c"
SOURCES = {
    "healthy": ("healthy.c", "link.c", "packet.c"),
    "storm": ("storm.c", "plan.c", "client.c", "link.c", "packet.c"),
}
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
PATIENCE = 60  # seconds


def build(folder: Path) -> dict[str, Path]:
    """The programs by name, in the new `folder`. Raises `subprocess.CalledProcessError`; the compiler says why."""
    folder.mkdir()
    made = {}
    for name, sources in SOURCES.items():
        made[name] = folder / name
        files = [str(HERE / source) for source in sources]
        subprocess.run(["cc", *FLAGS, "-o", str(made[name]), *files, "-lssl", "-lcrypto"], check=True)
    return made


class Running:
    """A program that says `ready` and, at its end, one line of JSON; a context manager that leaves nothing running."""

    def __init__(self, program: Path, *words: object, cpus: str) -> None:
        command = ["taskset", "-c", cpus, str(program), *map(str, words)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._first = b""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_ready(self) -> bool:
        """Whether it said `ready`, and not its last line at once."""
        assert self._process.stdout is not None
        self._first = self._process.stdout.readline()
        return self._first.strip() == b"ready"

    def before_others(self) -> None:
        """Let it run as soon as it can, whatever else its core does: what measures time must not wait itself."""
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(10))

    def result(self, *, end: bool) -> dict[str, Any]:
        """Its last line; with `end` it is told to come to an end."""
        if end:
            self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=PATIENCE)
        lines = [line for line in (self._first, *out.splitlines()) if line.startswith(b"{")]
        return json.loads(lines[-1]) if lines else {}
