"""Owns amqtt among the brokers: a broker in Python, from PyPI, in an environment of its own.

It refuses to hide that amqtt asks for a certificate of the client and does without one: what is measured is a client
that shows it. Its best: no log, no $SYS topics, no plugins but the one that lets clients in.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import CACHE, Broker, Files, Peer, fetched, free_port, reached, started

VERSION = "0.12.1"
FOLDER = CACHE / "amqtt"
CONFIGURATION = """
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
    max_connections: 50000
    ssl: true
    cafile: {files.client_ca}
    certfile: {files.server_certificate}
    keyfile: {files.server_key}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""
# Its own command logs every connection.
PROGRAM = """
import asyncio, sys, yaml
from amqtt.broker import Broker

async def main():
    with open(sys.argv[1]) as file:
        await Broker(yaml.safe_load(file)).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def install() -> str:
    """By pip."""
    if not (FOLDER / "bin" / "amqtt").exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        fetched([FOLDER / "bin" / "pip", "install", "--quiet", f"amqtt=={VERSION}"], FOLDER)
    return f"amqtt {VERSION}"


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """amqtt; it keeps nothing."""
    files, port = Files.make(folder), free_port()
    (folder / "amqtt.yaml").write_text(CONFIGURATION.format(port=port, files=files))
    command: list[str | Path] = [FOLDER / "bin" / "python", "-c", PROGRAM, folder / "amqtt.yaml"]
    with started(command, port, folder) as process:
        yield reached("amqtt", port, files, process)


BROKER = Broker(
    "amqtt",
    install,
    run,
    cannot={"latency-20000": "beyond what it carries", "sparse-5000": "beyond what it carries", "idle-15000": "5 GB"},
    rounds=3,
)
