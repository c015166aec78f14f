"""Owns the floor among the brokers: the relay of crates/node/examples/floor.rs, which knows no MQTT.

It refuses to be a competitor: a figure is told as a multiple of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import generator
from bench.peers import Broker, Files, Peer, free_port, reached, started


def install() -> str:
    """Built with the load generator."""
    generator.build("floor")
    return "relay on the node's TLS"


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """The relay."""
    files, port = Files.make(folder), free_port()
    command: list[str | Path] = [
        generator.build("floor"),
        f"127.0.0.1:{port}",
        files.client_ca,
        files.server_certificate,
        files.server_key,
    ]
    with started(command, port, folder) as process:
        yield replace(reached("floor", port, files, process), is_bare=True)


BROKER = Broker("floor", install, run)
