"""What the tests of a running broker share: `sealmq up` as a program of its own, with its data in the test's folder.

Knows nothing of single commands; tests that need no broker do without all this.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack

import pytest

from programs import Program, run_sealmq
from sealmq.datafolder import DataFolder
from sealmq.pki.operations import device_files


class Up(Program):
    """A running `sealmq up`; `ready` has the port of each kind of listener, the last one of its kind."""

    def __init__(self, data, *args: object, listeners: int = 2, **options: object) -> None:
        words = ["--data", data, "up", *args]
        if "--mqtts" not in args:
            words += ["--mqtts", "127.0.0.1:0"]
        if "--https" not in args:
            words += ["--https", "127.0.0.1:0"]
        super().__init__(sys.executable, "-m", "sealmq", *words, **options)
        self.data = data
        self.ready: dict[str, int] = {}
        try:
            for _ in range(listeners):
                kind, port = self.expect(r"^ready (\w+)://.*:(\d+)").groups()
                self.ready[kind] = int(port)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.ready['mqtts']}"

    def sealmq(self, *args: object, **options: object):
        """A command on the data folder of this broker, run to its end."""
        return run_sealmq("--data", self.data, *args, **options)

    def device(self, device_id: str = "sensor-1"):
        """The files of a device, which is made when it does not exist."""
        done = self.sealmq("device", "add", device_id)
        assert done.returncode == 0 or re.search("exists already", done.stderr), done.stderr
        return device_files(DataFolder.open(self.data), device_id)


@pytest.fixture
def up(tmp_path):
    """`up(OPTION...)` starts a broker on `tmp_path / "data"`; it is gone at the end of the test."""
    with ExitStack() as stack:

        def start(*args: object, **options: object) -> Up:
            return stack.enter_context(Up(tmp_path / "data", *args, **options))

        yield start
