"""Owns Debian's mosquitto among the brokers.

It refuses to tune what a user would not: its best for these loads is TLS 1.3 alone, no log, no limit that drops, no
delay of small segments, and nothing kept on disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import Broker, Files, Peer, free_port, program, reached, started, version_of


def install() -> str:
    """From Debian."""
    return version_of(program("mosquitto", "mosquitto"), "-h")


@contextmanager
def run(folder: Path, settings: str = "persistence false\n") -> Iterator[Peer]:
    """mosquitto on `folder`; `settings` is how it keeps things."""
    files, port = Files.make(folder), free_port()
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\ncafile {files.client_ca}\ncertfile {files.server_certificate}\n"
        f"keyfile {files.server_key}\nrequire_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
        f"{settings}"
        "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\nuser root\n"
        "tls_version tlsv1.3\n"
    )
    with started([program("mosquitto", "mosquitto"), "-c", folder / "mosquitto.conf"], port, folder) as process:
        yield reached("mosquitto", port, files, process)


BROKER = Broker("mosquitto", install, run)
