"""Owns what all brokers of the comparison have in common: how one is named, installed, started, and reached.

Refuses to know any of them: each has a module here, whose docstring says which configuration is its best, and why.
FlashMQ and EMQX are in no package registry, so they are not among them.
"""

import importlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sealmq.testing import ThrowawayCA

DEVICE = "bench"
STRANGERS = 300  # devices that a broker has not seen
NAMES = ("sealmq", "mosquitto", "rumqttd", "mochi", "nats", "hivemq", "aedes", "amqtt", "floor")
CACHE = Path(os.environ.get("BENCH_CACHE") or Path(__file__).resolve().parents[2] / "target" / "bench")


class NotHereError(RuntimeError):
    """A broker cannot be installed or started here; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A running broker and the files a client of it needs."""

    name: str
    address: str
    pid: int
    ca: Path
    certificate: Path
    key: Path
    start_s: float = 0.0
    """From the start of the process until it accepts."""
    is_bare: bool = False
    """It relays bytes and speaks no MQTT."""


@dataclass(frozen=True)
class Broker:
    """How to have one."""

    name: str
    install: Callable[[], str]
    """Make it runnable, and tell its version; raises `NotHereError`."""
    run: Callable[[Path], AbstractContextManager[Peer]]
    """On a folder, which may hold what an earlier run left."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Loads by name, and why not."""
    rounds: int = 5
    """At most: fewer for the slowest."""
    is_compiled_late: bool = False
    """It is fast only after a while under load."""


def broker(name: str) -> Broker:
    """The broker of that name."""
    found: Broker = importlib.import_module(f"bench.peers.{name}").BROKER
    return found


@dataclass(frozen=True)
class Files:
    """The certificates of a broker and of its one client."""

    ca: Path
    client_ca: Path
    server_certificate: Path
    server_key: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> "Files":
        """Two tiers, P-256, a chain of leaf and issuer from each side; `STRANGERS` more clients in `client-NUMBER`."""
        authority = ThrowawayCA()
        server = authority.issue_server().write(folder / "server")
        client = authority.issue_client(DEVICE).write(folder / "client")
        for number in range(STRANGERS):
            authority.issue_client(f"{DEVICE}-{number}").write(folder / f"client-{number}")
        (folder / "clients.pem").write_bytes(authority.client_ca_pem)
        return cls(client.ca, folder / "clients.pem", server.cert, server.key, client.cert, client.key)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str | Path],
    port: int,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    patience: float = 60.0,
) -> Iterator[tuple[int, float]]:
    """The process behind `command`, once it accepts on `port`: its id, and how many seconds that took.

    What it prints goes to `folder/log`. Raises `NotHereError` when it ends before.
    """
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **(env or {})})
    try:
        while not _accepts(port):
            if process.poll() is not None or time.perf_counter() - began > patience:
                raise NotHereError((folder / "log").read_text(errors="replace")[-2000:] or "it did not start")
            time.sleep(0.002)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def reached(name: str, port: int, files: Files, process: tuple[int, float]) -> Peer:
    """A `Peer` on this machine's `port`."""
    return Peer(name, f"127.0.0.1:{port}", process[0], files.ca, files.certificate, files.key, process[1])


def program(name: str, package: str) -> str:
    """The path of a program of Debian's; installed where that may be done, else raises `NotHereError`."""
    path = os.environ["PATH"] + ":/usr/sbin"
    if shutil.which(name, path=path) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        fetched(["apt-get", "install", "-y", "--no-install-recommends", package], CACHE)
    found = shutil.which(name, path=path)
    if found is None:
        raise NotHereError(f"{name} is not installed; apt-get install {package}")
    return found


def version_of(*command: str | Path) -> str:
    """The first line that a program prints about itself; raises `NotHereError` when it is not installed."""
    try:
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError as error:
        raise NotHereError(f"{command[0]} is not installed") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else ""


def fetched(command: Sequence[str | Path], folder: Path) -> None:
    """Run the client of a package registry in `folder`; raises `NotHereError` with the end of what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError as error:
        raise NotHereError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise NotHereError(f"{command[0]} failed: {done.stdout.decode(errors='replace')[-500:]}")
