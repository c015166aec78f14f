"""Owns the two brokers of a storm, each on its own core, with the same certificates and its own default bounds.

Refuses to know what comes over them, and to tune either: a storm meets what a user has after installation.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.testing import ThrowawayCA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

HEALTHY = "healthy"
DEVICES = 201  # the last is the newcomer's
MEMORY = 256 << 20  # bytes: the total that no storm may make the broker hold
RULES = """
[[rule]]
name = "the healthy pair"
who = "healthy"
actions = ["publish", "subscribe"]
topics = ["devices/{id}/#"]

[[rule]]
name = "the storm"
who = "storm-*"
actions = ["publish", "subscribe"]
topics = ["#"]
"""
COUNTED = ("messages_dropped", "messages_turned_away", "takeovers", "connects", "protocol_faults")


@dataclass(frozen=True)
class Peer:
    """A running broker: where it listens, its process, and what it has counted so far."""

    name: str
    port: int
    pid: int
    counts: Callable[[], dict[str, float]]

    def rss_mib(self) -> float:
        """Resident memory."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1048576

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Fleet:
    """The certificates of a storm: one CA, the server's, the healthy pair's and those of the devices that storm."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        authority = ThrowawayCA()
        self.name = authority.fleet
        self.server = authority.issue_server().write(folder / "server")
        for device in (HEALTHY, *(f"storm-{number}" for number in range(DEVICES))):
            authority.issue_client(device).write(folder / device)

    @property
    def client_ca(self) -> Path:
        """What a broker trusts for clients."""
        return self.server.ca


@contextlib.contextmanager
def sealmq(fleet: Fleet, folder: Path, cpus: str, settings: str) -> Iterator[Peer]:
    """`sealmq up` with its defaults, a bound to its memory, and `settings`: further lines of `[limits]`."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    (data / "fleet").write_text(fleet.name)
    (data / "rules.toml").write_text(RULES)
    (data / "sealmq.toml").write_text(
        f'[tls]\ncertificate = "{fleet.server.cert}"\nkey = "{fleet.server.key}"\nclient_ca = "{fleet.client_ca}"\n'
        f"[limits]\nmax_memory_bytes = {MEMORY}\n{settings}"
    )
    program = [sys.executable, "-m", "sealmq", "--data", str(data)]
    log = (folder / "sealmq.log").open("wb")
    up = subprocess.Popen(
        ["taskset", "-c", cpus, *program, "up", "--mqtts", "127.0.0.1:0", "--https", "off"],
        stdout=subprocess.PIPE,
        stderr=log,
    )

    def counts() -> dict[str, float]:
        told = subprocess.run([*program, "--json", "status"], check=True, stdout=subprocess.PIPE, timeout=60).stdout
        found = json.loads(told)["counts"]
        causes = {f"refused {cause}": count for cause, count in found["refused"].items()}
        return {"refused": sum(causes.values()), **causes, **{name: found[name] for name in COUNTED}}

    try:
        assert up.stdout is not None
        ready = up.stdout.readline().decode().split()
        if not ready:
            raise SystemExit((folder / "sealmq.log").read_text())
        yield Peer("sealmq", int(ready[1].rpartition(":")[2]), up.pid, counts)
    finally:
        _end(up)


@contextlib.contextmanager
def mosquitto(fleet: Fleet, folder: Path, cpus: str, settings: str) -> Iterator[Peer]:
    """Debian's mosquitto with its defaults; `settings`, those of sealmq, are not for it."""
    del settings
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("error: mosquitto is not installed\nmend: apt-get install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\ncafile {fleet.client_ca}\ncertfile {fleet.server.cert}\n"
        f"keyfile {fleet.server.key}\nrequire_certificate true\nuse_identity_as_username true\n"
        "tls_version tlsv1.3\nlog_type error\nuser root\nsys_interval 1\n"
    )
    up = subprocess.Popen(
        ["taskset", "-c", cpus, program, "-c", str(folder / "mosquitto.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    files = fleet.folder / "storm-0"

    def counts() -> dict[str, float]:
        command = ["mosquitto_sub", "-h", "localhost", "-p", str(port), "--cafile", str(files / "ca.pem")]
        command += ["--cert", str(files / "cert.pem"), "--key", str(files / "key.pem"), "-C", "1", "-W", "5"]
        command += ["-t", "$SYS/broker/publish/messages/dropped"]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        return {"messages_dropped": float(told or 0)}

    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if up.poll() is not None:
                raise SystemExit("error: mosquitto did not start")
            time.sleep(0.02)
        yield Peer("mosquitto", port, up.pid, counts)
    finally:
        _end(up)


def _end(up: subprocess.Popen[bytes]) -> None:
    up.send_signal(signal.SIGTERM)
    try:
        up.wait(timeout=30)
    except subprocess.TimeoutExpired:
        up.kill()
        up.wait()


BROKERS: dict[str, Callable[[Fleet, Path, str, str], AbstractContextManager[Peer]]] = {
    "sealmq": sealmq,
    "mosquitto": mosquitto,
}
