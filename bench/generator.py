"""Owns the load generator: building it and running one load on one broker.

Refuses to know which loads there are and what their figures mean.
"""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from bench.peers import DEVICE, Peer

ROOT = Path(__file__).resolve().parent.parent


class LoadError(RuntimeError):
    """A load that came to no figure; the text says how it ended."""


@functools.cache
def target() -> Path:
    """Where cargo puts the release profile of this checkout."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"]
    found = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(found)["target_directory"]) / "release"


@functools.cache
def build(example: str) -> Path:
    """An example of the node in the release profile: `load` or `floor`."""
    command = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "sealmq-node", "--example", example]
    subprocess.run(command, cwd=ROOT, check=True)
    return target() / "examples" / example


def load(peer: Peer, mode: str, options: dict[str, int], *, seconds: float = 180.0) -> dict[str, Any]:
    """Run one load; its figures by name. Raises `LoadError`, also after so many seconds."""
    words: list[str | Path] = [
        build("load"),
        mode,
        peer.address,
        str(peer.pid),
        peer.ca,
        peer.certificate,
        peer.key,
        DEVICE,
    ]
    words += [word for option, value in options.items() for word in (f"--{option}", str(value))]
    if peer.is_bare:
        words += ["--bare", "1"]
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"no end after {seconds:.0f} s") from error
    if done.returncode:
        raise LoadError(done.stderr.decode().strip().removeprefix("Error: ").strip('"'))
    found: dict[str, Any] = json.loads(done.stdout)
    return found
