"""The broker under test as a process of its own on a folder that stays: started, killed at any moment, started again.

It refuses to know what is sent to it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from sealmq.datafolder import DataFolder, Owner
from sealmq.pki import operations
from sealmq.pki.authority import Authority
from sealmq.pki.registry import Registry
from sealmq.secretfiles import write_public

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sealmq.pki.operations import DeviceFiles

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0  # the grace of the clients, the last commits, the interpreter


class BrokerFault(Exception):  # noqa: N818 - a finding, told as one
    """The broker did what it must not do: it refused its own folder, or did not end."""


def prepare(data: Path, devices: Sequence[str], settings: str) -> dict[str, DeviceFiles]:
    """A data folder with a CA, these devices and this configuration; the files of each device."""
    folder = DataFolder.create_or_open(data)
    write_public(folder.config_path, settings.encode())
    with folder.lock(owner=Owner.COMMAND):
        authority = Authority.open_or_create(folder)
        with Registry.open(folder) as registry:
            for device in devices:
                operations.device_add(folder, authority, registry, id=device)
    return {device: operations.device_files(folder, device) for device in devices}


class BrokerProcess:
    """`sealmq up` on `data`; `start` again after `kill` or `end`. What it says goes to `log`, else beside `data`."""

    def __init__(self, data: Path, *, log: Path | None = None) -> None:
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None
        self._log = log or data.with_name("broker.log")

    def launch(self) -> None:
        """Start it without waiting for anything."""
        words = [sys.executable, "-m", "sealmq", "--data", str(self._data), "up", "--https", "off"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--mqtts", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )

    def start(self) -> int:
        """Start it and return its port once it accepts. Raises `BrokerFault` with the end of its log."""
        self.launch()
        process = self._process
        assert process is not None
        assert process.stdout is not None
        watchdog = threading.Timer(_START_SECONDS, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline().decode()
        finally:
            watchdog.cancel()
        if not line.startswith("ready "):
            raise BrokerFault(f"broker did not start again (status {process.wait()}):\n{self.log_end()}")
        return int(line.rsplit(":", 1)[1])

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds` by itself."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """SIGTERM, and the clean end that must follow. Raises `BrokerFault` when it is another."""
        self.terminate()
        if not self.wait(_STOP_SECONDS):
            raise BrokerFault(f"broker did not end within {_STOP_SECONDS:g} s of SIGTERM:\n{self.log_end()}")
        assert self._process is not None
        if self._process.returncode != 0:
            raise BrokerFault(f"broker ended with status {self._process.returncode}:\n{self.log_end()}")
        self.kill()  # lets go of what is left of it

    def kill(self) -> None:
        """SIGKILL: not one more instruction of its own."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def log_end(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
