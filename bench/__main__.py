"""Owns the comparison: sealmq and Debian's mosquitto under the same load in one run, interleaved, as ratios.

Refuses to judge: it prints what came out. Absolute figures belong to the machine; the ratios are what to quote.

usage: make bench [BENCH_ARGS="--rounds 5 --only pairs-qos0"]
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sealmq.testing import ThrowawayCA

ROOT = Path(__file__).resolve().parent.parent
LOAD = ROOT / "target" / "release" / "examples" / "load"
DEVICE = "bench"


@dataclass(frozen=True)
class Case:
    name: str
    arguments: tuple[str, ...]
    figure: str
    unit: str


CASES = (
    Case("pairs-qos0", ("pairs", "--qos", "0", "--count", "100000"), "broker_cpu_us_per_message", "µs CPU per message"),
    Case("pairs-qos1", ("pairs", "--qos", "1", "--count", "30000"), "broker_cpu_us_per_message", "µs CPU per message"),
    Case("pairs-qos2", ("pairs", "--qos", "2", "--count", "10000"), "broker_cpu_us_per_message", "µs CPU per message"),
    Case("idle-memory", ("idle", "--count", "1000"), "broker_rss_kib_per_connection", "KiB per idle mTLS connection"),
    Case("handshakes", ("handshakes", "--count", "300"), "broker_cpu_ms_per_connect", "ms CPU per mTLS connect"),
)


@dataclass(frozen=True)
class Peer:
    """A running broker and the files a client of it needs."""

    name: str
    address: str
    pid: int
    ca: Path
    certificate: Path
    key: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def sealmq_broker(folder: Path, settings: str = "") -> Iterator[Peer]:
    """`sealmq up` on `folder`, which may hold what an earlier one left; `settings` is its configuration."""
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    (folder / "data" / "sealmq.toml").write_text(settings)
    program = [sys.executable, "-m", "sealmq", "--data", str(folder / "data")]
    log = (folder / "sealmq.log").open("wb")
    up = subprocess.Popen(
        [*program, "up", "--mqtts", "127.0.0.1:0", "--https", "off"], stdout=subprocess.PIPE, stderr=log
    )
    try:
        assert up.stdout is not None
        ready = up.stdout.readline().decode().split()
        if not ready:
            raise SystemExit((folder / "sealmq.log").read_text())
        files = folder / "data" / "devices" / DEVICE
        if not files.exists():
            subprocess.run([*program, "device", "add", DEVICE], check=True, stdout=subprocess.DEVNULL)
        yield Peer(
            "sealmq",
            ready[1].removeprefix("mqtts://"),
            up.pid,
            files / "ca.pem",
            files / "cert.pem",
            files / "key.pem",
        )
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=30)


@contextmanager
def mosquitto_broker(folder: Path, settings: str = "persistence false\n") -> Iterator[Peer]:
    """mosquitto on `folder`, which may hold what an earlier one left; `settings` is how it keeps things."""
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("error: mosquitto is not installed\nmend: apt-get install mosquitto")
    authority = ThrowawayCA()
    server = authority.issue_server().write(folder / "server")
    client = authority.issue_client(DEVICE).write(folder / "client")
    port = free_port()
    # Its best configuration for this load: one ticket less to make, no limit that drops, no log.
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\ncafile {client.ca}\ncertfile {server.cert}\nkeyfile {server.key}\n"
        "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
        f"{settings}"
        "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\nuser root\n"
        "tls_version tlsv1.3\n"
    )
    up = subprocess.Popen(
        [program, "-c", str(folder / "mosquitto.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if up.poll() is not None:
                raise SystemExit("error: mosquitto did not start")
            time.sleep(0.02)
        yield Peer("mosquitto", f"127.0.0.1:{port}", up.pid, client.ca, client.cert, client.key)
    finally:
        up.terminate()
        up.wait(timeout=30)


BROKERS = {"sealmq": sealmq_broker, "mosquitto": mosquitto_broker}


def measure(peer: Peer, case: Case) -> float:
    mode, *options = case.arguments
    line = subprocess.run(
        [LOAD, mode, peer.address, str(peer.pid), peer.ca, peer.certificate, peer.key, DEVICE, *options],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return float(json.loads(line)[case.figure])


def run_case(case: Case, brokers: list[str], rounds: int) -> dict[str, list[float]]:
    """Each round starts every broker afresh, one after the other, so that no round favours who came first."""
    figures: dict[str, list[float]] = {name: [] for name in brokers}
    for turn in range(rounds):
        for name in brokers if turn % 2 == 0 else reversed(brokers):
            with tempfile.TemporaryDirectory(prefix="sealmq-bench-") as folder, BROKERS[name](Path(folder)) as peer:
                figures[name].append(measure(peer, case))
    return figures


def build_load() -> None:
    """The load generator, in the release profile."""
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "-p", "sealmq-node", "--example", "load"],
        cwd=ROOT,
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[case.name for case in CASES], action="append")
    parser.add_argument("--broker", choices=list(BROKERS), action="append", help="one broker alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    brokers = options.broker or list(BROKERS)
    build_load()
    results = {}
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        figures = run_case(case, brokers, options.rounds)
        results[case.name] = figures
        medians = {name: statistics.median(values) for name, values in figures.items()}
        if not options.json:
            shown = "  ".join(
                f"{name} {medians[name]:.3f} ({min(values):.3f}-{max(values):.3f})" for name, values in figures.items()
            )
            ratio = f"  ratio {medians['sealmq'] / medians['mosquitto']:.3f}" if len(brokers) == len(BROKERS) else ""
            print(f"{case.name:12} {case.unit}: {shown}{ratio}", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
