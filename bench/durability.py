"""Owns the price of a promise: durable QoS 1 messages per second and how long each waits, beside the disk's own syncs.

Refuses to judge: it prints what came out, with the rate of fdatasync measured on the same disk just before.

usage: make bench-durability [BENCH_ARGS="--count 20000"]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import generator
from bench.peers import Peer, mosquitto, sealmq

SYNC_SECONDS = 1.0
BLOCK = 4096
PUBLISHERS = (1, 10, 100)
ROOM = "[limits]\nmax_queued_messages = 2000000\nmax_queued_bytes = 4000000000\n"
MODES = ("sync", "os", "memory")
SAFEST = "persistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n"

Broker = Callable[[Path], AbstractContextManager[Peer]]


@dataclass(frozen=True)
class Figures:
    """One row of the table; times in microseconds."""

    broker: str
    receiver: str
    publishers: int
    window: int
    messages_per_second: float
    puback_us_p50: int
    puback_us_p99: int
    bytes_per_message: float
    broker_cpu_us_per_message: float
    syncs_per_second: float
    sync_us_p50: float
    sync_us_p99: float


def disk(folder: Path) -> tuple[float, float, float]:
    """fdatasync after each 4 KiB appended: how many in a second, and how long one takes, µs, p50 and p99."""
    took = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        began = time.perf_counter()
        while time.perf_counter() - began < SYNC_SECONDS:
            file.write(b"\0" * BLOCK)
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - before) * 1e6)
        seconds = time.perf_counter() - began
    (folder / "syncs").unlink()
    hundredths = statistics.quantiles(took, n=100)
    return len(took) / seconds, hundredths[49], hundredths[98]


def written(pid: int) -> int:
    """Bytes that a process has caused to be written to storage: proc(5), write_bytes."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def measure(name: str, broker: Broker, *, publishers: int, window: int, count: int, attend: bool) -> Figures:
    """One load on a fresh broker; `count` messages in all, for one kept session that is there (`attend`) or away."""
    with tempfile.TemporaryDirectory(prefix="sealmq-bench-") as folder, broker(Path(folder)) as peer:
        syncs = disk(Path(folder))
        before = written(peer.pid)
        options = {
            "publishers": publishers,
            "count": max(count // publishers, 1),
            "window": window,
            "sessions": 1,
            "attend": int(attend),
        }
        found = generator.load(peer, "durable", options)
        spent = written(peer.pid) - before
    return Figures(
        name,
        "there" if attend else "away",
        publishers,
        window,
        found["messages_per_second"],
        round(found["p50_us"]),
        round(found["p99_us"]),
        spent / found["messages"],
        found["cpu_us_per_message"],
        *syncs,
    )


def plan(count: int) -> list[tuple[str, Broker, dict[str, int]]]:
    """What is measured: the name of the row, the broker, and the load on it."""

    def ours(mode: str) -> Broker:
        return lambda folder: sealmq.run(folder, f'{ROOM}[durability]\ndefault = "{mode}"\n')

    rows: list[tuple[str, Broker, dict[str, int]]] = []
    for mode in MODES:
        for publishers in PUBLISHERS:
            # one publisher alone waits for each message, so fewer tell as much
            load = {"publishers": publishers, "count": count if publishers > 1 else count // 5}
            rows.append((f"sealmq {mode}", ours(mode), {**load, "window": 1, "attend": 0}))
        rows.append((f"sealmq {mode}", ours(mode), {"publishers": 100, "count": 4 * count, "window": 20, "attend": 0}))
        rows.append((f"sealmq {mode}", ours(mode), {"publishers": 100, "count": 4 * count, "window": 20, "attend": 1}))
    for publishers in PUBLISHERS:
        # it writes its whole file for every change, and the file grows with the queue
        load = {"publishers": publishers, "count": min(count, 2000), "window": 1, "attend": 0}
        rows.append(("mosquitto safest", lambda folder: mosquitto.run(folder, SAFEST.format(folder)), load))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-durability", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="messages of a row")
    parser.add_argument("--only", help="rows whose name begins so")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator.build("load")
    results = []
    if not options.json:
        print(
            f"{'broker':17} {'receiver':8} {'pubs':>4} {'window':>6} {'msg/s':>8} {'PUBACK p50':>11} {'p99 µs':>8}"
            f" {'bytes/msg':>9} {'CPU µs':>7} | {'fdatasync/s':>11} {'p50':>6} {'p99 µs':>7}"
        )
    for name, broker, load in plan(options.count):
        if options.only and not name.startswith(options.only):
            continue
        found = measure(
            name,
            broker,
            publishers=load["publishers"],
            window=load["window"],
            count=load["count"],
            attend=bool(load["attend"]),
        )
        results.append(asdict(found))
        if not options.json:
            print(
                f"{name:17} {found.receiver:8} {found.publishers:4} {found.window:6} {found.messages_per_second:8.0f}"
                f" {found.puback_us_p50:11} {found.puback_us_p99:8} {found.bytes_per_message:9.0f}"
                f" {found.broker_cpu_us_per_message:7.1f} | {found.syncs_per_second:11.0f} {found.sync_us_p50:6.0f}"
                f" {found.sync_us_p99:7.0f}",
                flush=True,
            )
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
