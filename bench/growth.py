"""Owns the growth curves: what a message costs as connections, subscriptions and payloads grow.

It refuses to draw them: `charts` does.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import generator, peers
from bench.generator import LoadError
from bench.peers import Peer, sealmq

PEERS = ("sealmq", "mosquitto", "floor")
ROUNDS = 2
MS = 500
UNDER_WAY = 4000  # messages in all, when all connections send
BYTES_UNDER_WAY = 1 << 20  # of each pair, when payloads grow
CONNECTIONS = (10, 100, 1000, 10_000)
SUBSCRIPTIONS = (1, 100, 1000, 10_000, 100_000, 1_000_000)
SIZES = (64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
ALIVE = (1000, 5000, 15_000)
PROCESSORS = (1, 2)
# For a payload of a mebibyte: by default a packet of that size is refused, and that much is kept for one receiver.
ROOM = f"{sealmq.LIMITS}max_packet_size = 4194304\nmax_outbox_bytes = 16777216\n"

Curve = dict[str, list[tuple[int, float]]]  # by broker


@dataclass(frozen=True)
class Point:
    curve: str
    x: int
    mode: str
    options: dict[str, int]
    figure: str = "cpu_us_per_message"
    needs_mqtt: bool = False
    processors: int = 0
    """That the broker may use; 0: all."""


def points() -> Iterator[Point]:
    """All that is measured."""
    for x in CONNECTIONS:
        yield Point("connections-idle", x, "pairs", {"idle": x, "ms": MS})
        yield Point("connections-active", x, "pairs", {"pairs": x // 2, "window": max(1, 2 * UNDER_WAY // x), "ms": MS})
    for x in SUBSCRIPTIONS:
        for wildcard, curve in enumerate(("subscriptions-exact", "subscriptions-wildcard")):
            yield Point(curve, x, "pairs", {"filters": x, "wildcard": wildcard, "ms": MS}, needs_mqtt=True)
    for x in SIZES:
        window = max(1, min(1000, BYTES_UNDER_WAY // x))
        yield Point("payload", x, "pairs", {"size": x, "window": window, "ms": MS})
    for x in ALIVE:
        yield Point("alive", x, "alive", {"count": x, "every": 15, "seconds": 15}, "cpu_share", needs_mqtt=True)
    for x in PROCESSORS:
        for qos in (0, 1):
            yield Point(f"processors-qos{qos}", x, "pairs", {"qos": qos, "ms": MS}, "messages_per_second", processors=x)
        options = {"count": 1000, "parallel": 16}
        yield Point("processors-handshakes", x, "handshakes", options, "connects_per_second", processors=x)


def run(names: Sequence[str], curves: str = "") -> dict[str, Curve]:
    """Each curve of each broker: pairs of x and the median of all rounds. A broker starts afresh for each point.

    `curves` is what the names of curves begin with.
    """
    found: dict[str, Curve] = {}
    for point in (one for one in points() if one.curve.startswith(curves)):
        values: dict[str, list[float]] = {}
        for turn in range(1 if point.mode == "alive" else ROUNDS):
            for name in names if turn % 2 == 0 else reversed(names):
                if name == "floor" and point.needs_mqtt:
                    continue
                try:
                    with (
                        tempfile.TemporaryDirectory(prefix="sealmq-bench-") as folder,
                        _broker(name, Path(folder)) as peer,
                    ):
                        _confine(peer.pid, point.processors)
                        figure = generator.load(peer, point.mode, point.options)[point.figure]
                    values.setdefault(name, []).append(figure)
                except (LoadError, peers.NotHereError) as error:
                    print(f"{point.curve} at {point.x}: {name}: {error}", file=sys.stderr)
        for name, all_rounds in values.items():
            middle = statistics.median(all_rounds)
            found.setdefault(point.curve, {}).setdefault(name, []).append((point.x, middle))
            print(f"{point.curve:22} {point.x:8} {name:10} {middle:.4f}", flush=True)
    return found


def _confine(pid: int, processors: int) -> None:
    """All threads of a process to the first so many processors."""
    if processors:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), range(processors))


def _broker(name: str, folder: Path) -> AbstractContextManager[Peer]:
    if name == "sealmq":
        return sealmq.run(folder, ROOM)
    return peers.broker(name).run(folder)
