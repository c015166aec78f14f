"""Owns mochi among the brokers: a Go module, in the program of mochi.go.

It refuses to change more than room: no message may be dropped, and network buffers are 16 KiB, the larger of what its
documentation proposes.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import CACHE, Broker, Files, Peer, fetched, free_port, program, reached, started

VERSION = "v2.7.9"
SOURCE = Path(__file__).with_suffix(".go")
FOLDER = CACHE / "mochi"


def install() -> str:
    """Built by the go tool, from the module proxy."""
    go = program("go", "golang-go")
    FOLDER.mkdir(parents=True, exist_ok=True)
    built = FOLDER / "mochi"
    if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        shutil.copy(SOURCE, FOLDER / "main.go")
        if not (FOLDER / "go.mod").exists():
            fetched([go, "mod", "init", "bench/mochi"], FOLDER)
        fetched([go, "get", f"github.com/mochi-mqtt/server/v2@{VERSION}"], FOLDER)
        fetched([go, "mod", "tidy"], FOLDER)
        fetched([go, "build", "-o", "mochi", "."], FOLDER)
    return f"mochi {VERSION.removeprefix('v')}"


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """mochi; it keeps nothing."""
    files, port = Files.make(folder), free_port()
    command: list[str | Path] = [
        FOLDER / "mochi",
        f"127.0.0.1:{port}",
        files.client_ca,
        files.server_certificate,
        files.server_key,
    ]
    with started(command, port, folder) as process:
        yield reached("mochi", port, files, process)


BROKER = Broker("mochi", install, run)
