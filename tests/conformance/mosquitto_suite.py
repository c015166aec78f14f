"""Owns the run of mosquitto's own broker tests against us: its files and its 1,486 packet sequences.

Refuses to change them: they start `../../src/mosquitto`, and find the stand-in there.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from .outcome import Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mosquitto"
SEQUENCES = "mosquitto packets"
PACKETS = "msg_sequence_test.py"
PACKETS_PORT = 1888  # it dials that one, whatever port it is given
BRIDGES = "06-bridge-"
PATIENCE = 120  # seconds for a file
LONG = 900  # seconds for all sequences
_LISTED = re.compile(r"\((\d), '\./(.+?)'\)")  # ports and file
_COLOURED = re.compile(r"^\x1b\[3([12])m(.*?)\x1b\[0m$", re.MULTILINE)


def run(source: Path, root: Path, notes: Path, *, only: str = "", at_once: int = 2) -> list[Outcome]:
    """Every file of the suite whose name has `only` in it, so many at a time."""
    folder = source / "test" / "broker"
    _install(source, root)
    listed = {name: int(count) for count, name in _LISTED.findall((folder / "test.py").read_text())}
    files = sorted(path.name for path in (*folder.glob("[0-9][0-9]-*.py"), folder / PACKETS))
    files = [name for name in files if not name.endswith(("-helper.py", "-core.py")) and only in name]
    with ThreadPoolExecutor(at_once) as pool:
        found = pool.map(lambda name: _run_file(folder, name, listed.get(name, 1), notes), files)
        return [outcome for outcomes in found for outcome in outcomes]


def _install(source: Path, root: Path) -> None:
    program = source / "src" / "mosquitto"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m tests.conformance.standin "$@"\n')
    program.chmod(0o755)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _run_file(folder: Path, name: str, ports: int, notes: Path) -> list[Outcome]:
    short = name.removesuffix(".py")
    if name.startswith(BRIDGES):
        return [Outcome(NAME, short, Result.FOREIGN, "bridge")]
    is_sequences = name == PACKETS
    words = [sys.executable, f"./{name}", *map(str, [PACKETS_PORT] if is_sequences else free_ports(ports))]
    environment = {**os.environ, "SEALMQ_CONFORMANCE_NOTES": str(notes), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as test:
        try:
            said, _ = test.communicate(timeout=LONG if is_sequences else PATIENCE)
            is_good = test.returncode == 0
        except subprocess.TimeoutExpired:
            said, is_good = b"it did not end in time", False
        finally:
            _end(test.pid)
    text = said.decode(errors="replace")
    if is_sequences and _COLOURED.search(text):
        return [_of_sequence(colour, line) for colour, line in _COLOURED.findall(text)]
    note = notes / f"foreign-{test.pid}"
    if is_good:
        return [Outcome(NAME, short, Result.PASSED)]
    if note.exists():
        return [Outcome(NAME, short, Result.FOREIGN, note.read_text())]
    return [Outcome(NAME, short, Result.FAILED, _last_words(text))]


def _end(group: int) -> None:
    """What the test leaves running: it has a process group of its own."""
    try:
        os.killpg(group, 9)
    except ProcessLookupError:
        return


def _of_sequence(colour: str, line: str) -> Outcome:
    name, _, why = line.partition(" failed: ")
    result = Result.PASSED if colour == "2" else Result.FAILED
    return Outcome(SEQUENCES, name.strip(), result, why)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("FAIL", "Received", "Expected"))]
    return " | ".join(telling[:3] or lines[-1:])[:300]
