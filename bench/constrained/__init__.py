"""Owns the small clients: C programs of three TLS stacks, built with the system's compiler, run against a broker.

Refuses to know what a run is for: the matrix of the tests and the table of `make constrained` ask for it.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARIES = {
    "mbedtls": ("mbedtls", "mbedx509", "mbedcrypto"),
    "wolfssl": ("wolfssl",),
    "gnutls": ("gnutls",),
}
SECONDS = 30


@dataclass(frozen=True)
class Run:
    """How a client ended: a dictionary per connection (fields as client.c prints them), or what it said on stderr."""

    connections: list[dict[str, Any]]
    fault: str


def build(folder: Path) -> dict[str, Path]:
    """The programs by library, in `folder`. Raises `subprocess.CalledProcessError` with the compiler's words."""
    made = {}
    for name, libraries in LIBRARIES.items():
        program = folder / name
        sources = [str(HERE / f"{name}.c"), str(HERE / "client.c")]
        command = ["cc", "-O2", "-Wall", "-Werror", "-o", str(program), *sources, *(f"-l{one}" for one in libraries)]
        subprocess.run(command, check=True, capture_output=True)
        made[name] = program
    return made


def run(program: Path, *, port: int, device: str, **options: object) -> Run:
    """One run of a program; `options` are those of its usage line."""
    words = [f"{name}={value}" for name, value in options.items()]
    command = [str(program), "localhost", str(port), device, *words]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return Run(told, done.stderr.decode(errors="replace").strip() if done.returncode else "")
