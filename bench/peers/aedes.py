"""Owns aedes among the brokers: an npm package, in the program of aedes.mjs, on one process of Node.

It refuses to add persistence: sessions and messages stay in memory, which is its fastest.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import CACHE, Broker, Files, Peer, fetched, free_port, program, reached, started, version_of

VERSION = "1.2.0"
SOURCE = Path(__file__).with_suffix(".mjs")
FOLDER = CACHE / "aedes"


def install() -> str:
    """By npm."""
    package = FOLDER / "node_modules" / "aedes" / "package.json"
    if not package.exists():
        fetched(
            [program("npm", "npm"), "install", "--no-audit", "--no-fund", "--prefix", FOLDER, f"aedes@{VERSION}"],
            FOLDER,
        )
    shutil.copy(SOURCE, FOLDER / SOURCE.name)
    return f"aedes {json.loads(package.read_text())['version']} on Node {version_of('node', '--version')}"


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """aedes; it keeps nothing."""
    files, port = Files.make(folder), free_port()
    command: list[str | Path] = [
        "node",
        FOLDER / SOURCE.name,
        str(port),
        files.client_ca,
        files.server_certificate,
        files.server_key,
    ]
    with started(command, port, folder) as process:
        yield reached("aedes", port, files, process)


BROKER = Broker(
    "aedes",
    install,
    run,
    cannot={"sparse-5000": "minutes of handshakes", "idle-15000": "minutes of handshakes"},
    rounds=3,
)
