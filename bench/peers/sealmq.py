"""Owns sealmq among the brokers: as its users run it, with rules, metrics and durable storage on.

It refuses to tune anything: mutual TLS is the default, and so are the limits but one. The generator has one certificate
for all its clients, so that one device has as many sessions here as a fleet has elsewhere.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from bench.peers import DEVICE, STRANGERS, Broker, Files, Peer, free_port, reached, started

from sealmq.datafolder import DataFolder
from sealmq.pki.authority import Authority
from sealmq.pki.operations import device_add
from sealmq.pki.registry import Registry

LIMITS = "[limits]\nmax_sessions_per_device = 1000000\n"


def install() -> str:
    """It is this checkout."""
    return f"sealmq {version('sealmq')}"


@contextmanager
def run(folder: Path, settings: str = LIMITS) -> Iterator[Peer]:
    """`sealmq up` on `folder`; `settings` is its configuration."""
    data = folder / "data"
    program = [sys.executable, "-m", "sealmq", "--data", str(data)]
    if not data.exists():
        subprocess.run([*program, "device", "add", DEVICE], check=True, stdout=subprocess.DEVNULL)
        found = DataFolder.open(data)
        with Registry.open(found) as registry:
            for number in range(STRANGERS):
                device_add(found, Authority.open(found), registry, id=f"{DEVICE}-{number}")
    (data / "sealmq.toml").write_text(settings)
    port, device, server = free_port(), data / "devices" / DEVICE, data / "server"
    files = Files(
        device / "ca.pem",
        data / "ca" / "devices.pem",
        server / "cert.pem",
        server / "key.pem",
        device / "cert.pem",
        device / "key.pem",
    )
    command = [*program, "up", "--mqtts", f"127.0.0.1:{port}", "--https", f"127.0.0.1:{free_port()}"]
    with started(command, port, folder) as process:
        yield reached("sealmq", port, files, process)


BROKER = Broker("sealmq", install, run)
