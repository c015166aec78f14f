"""Programs that a test starts, talks to, and waits for by what they print.

Knows nothing of MQTT. A program is ended when its block ends; nothing here sleeps: every wait is on a line or an exit.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE = 15.0  # seconds; a test that waits longer has failed
LINE_BUFFERED = ("stdbuf", "-oL", "-eL")  # C programs keep what they print into a pipe until a block is full


class Program:
    """A running program; a context manager. `expect` waits for a line on either stream, `wait` for the exit status."""

    def __init__(self, *args: object, line_buffered: bool = True, **options: object) -> None:
        words = [str(arg) for arg in args]
        prefix = LINE_BUFFERED if line_buffered and not words[0].startswith(sys.executable) else ()
        self.args = [*prefix, *words]
        # A test run in the background ignores Ctrl-C, and a program inherits that; one at a terminal does not.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._process = subprocess.Popen(
                self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._open = 2
        self._taken: set[int] = set()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self._process.stdout, self._out), (self._process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill it when it still runs, and let go of its streams."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.close_input()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        """Standard output so far."""
        with self._changed:
            return b"".join(self._out).decode(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        with self._changed:
            return b"".join(self._err).decode(errors="replace")

    def expect(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """The first line that matches, on either stream; no call takes a line that an earlier one took."""

        def find() -> re.Match[str] | bool:
            for index, line in enumerate(self._lines):
                if index not in self._taken and (found := re.search(pattern, line)):
                    self._taken.add(index)
                    return found
            return self._open == 0

        with self._changed:
            found = self._changed.wait_for(find, timeout)
        if found is True or found is False:
            why = "it ended" if found else f"{timeout:g} s passed"
            raise AssertionError(f"{self} printed no line like {pattern!r} before {why}:\n{self.out}\n--\n{self.err}")
        return found

    def send(self, data: bytes | str) -> None:
        """Write to its standard input."""
        self._process.stdin.write(data.encode() if isinstance(data, str) else data)
        self._process.stdin.flush()

    def close_input(self) -> None:
        """End its standard input."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit status, once it has ended and all it printed is here."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end within {timeout:g} s:\n{self.out}\n--\n{self.err}") from None
        for reader in self._readers:
            reader.join(timeout)
        return status

    def __str__(self) -> str:
        return " ".join(self.args)

    def _read(self, stream, kept: list[bytes]) -> None:
        rest = b""
        while part := os.read(stream.fileno(), 1 << 16):
            *whole, rest = (rest + part).split(b"\n")
            with self._changed:
                kept.append(part)
                self._lines += [line.decode(errors="replace") for line in whole]
                self._changed.notify_all()
        with self._changed:
            if rest:
                self._lines.append(rest.decode(errors="replace"))
            self._open -= 1
            self._changed.notify_all()


def sealmq(*args: object, **options: object) -> Program:
    """The product's own command line, as a user starts it."""
    return Program(sys.executable, "-m", "sealmq", *args, **options)


def finished(*args: object, stdin: bytes | str | None = None, timeout: float = 30.0, **options: object):
    """Run a program to its end: `returncode`, `stdout`, `stderr` as text."""
    text = stdin.decode() if isinstance(stdin, bytes) else stdin
    return subprocess.run(
        [str(arg) for arg in args], input=text, capture_output=True, text=True, timeout=timeout, **options
    )


def run_sealmq(*args: object, **options: object):
    """Run the product's command line to its end."""
    return finished(sys.executable, "-m", "sealmq", *args, **options)
