"""Owns rumqttd among the brokers, from crates.io, with certificates of clients verified (a feature of its build).

It refuses to compare what rumqttd does not finish; `cannot` names it. Its best: many messages to a connection at once,
and no pause between two accepted connections.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import CACHE, Broker, Files, Peer, fetched, free_port, reached, started, version_of

VERSION = "0.20.0"
PROGRAM = CACHE / "rumqttd" / "bin" / "rumqttd"
CONFIGURATION = """
id = 0
[router]
id = 0
max_connections = 50000
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "bench"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
[v4.1.tls]
capath = "{files.client_ca}"
certpath = "{files.server_certificate}"
keypath = "{files.server_key}"
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 2097152
max_inflight_count = 1000
dynamic_filters = true
"""


def install() -> str:
    """Built once, which takes minutes."""
    if not PROGRAM.exists():
        words: list[str | Path] = [
            "cargo",
            "install",
            "--version",
            VERSION,
            "--features",
            "verify-client-cert",
            "--root",
            PROGRAM.parents[1],
        ]
        fetched([*words, "rumqttd"], CACHE)
    return version_of(PROGRAM, "--version")


@contextmanager
def run(folder: Path) -> Iterator[Peer]:
    """rumqttd on `folder`."""
    files, port = Files.make(folder), free_port()
    (folder / "rumqttd.toml").write_text(CONFIGURATION.format(port=port, files=files))
    with started([PROGRAM, "--quiet", "-c", folder / "rumqttd.toml"], port, folder) as process:
        yield reached("rumqttd", port, files, process)


SLOW = "minutes: it takes in some 160 connections a second"
BROKER = Broker("rumqttd", install, run, cannot={"sparse-5000": SLOW, "idle-15000": SLOW})
