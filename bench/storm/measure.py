"""Owns what a storm is measured by: a healthy pair before, during and after it, and what the broker took meanwhile.

Refuses to judge: the figures are as they came.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .brokers import BROKERS, HEALTHY, Fleet, Peer
from .programs import Running
from .storms import NEWCOMER, Until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .storms import Storm

RATE = 100  # messages a second of the healthy pair
SAMPLE_SECONDS = 0.05
_MISSING, _REFUSED = -1, -2  # in place of a delay, as c/healthy.c prints them


@dataclass(frozen=True)
class Times:
    """Seconds before, during and after a storm, and between its end and `after`."""

    before: float = 5.0
    during: float = 10.0
    settle: float = 1.0
    after: float = 5.0


@dataclass(frozen=True)
class Cores:
    """The processors of the broker, and of what storms and measures, as `taskset` takes them."""

    broker: str = "0"
    storm: str = "1"


class Peak:
    """The highest resident memory of a broker while the block runs."""

    def __init__(self, peer: Peer) -> None:
        self._peer, self._over, self.mib = peer, threading.Event(), 0.0
        self._watch = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peak:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _run(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while not self._over.wait(SAMPLE_SECONDS):
                self.mib = max(self.mib, self._peer.rss_mib())


def run(
    storm: Storm, broker: str, fleet: Fleet, programs: dict[str, Path], cores: Cores, times: Times, settings: str
) -> dict[str, Any]:
    """One storm on one fresh broker; a flat dictionary of figures: milliseconds, MiB, messages."""
    with (
        tempfile.TemporaryDirectory(prefix="sealmq-storm-") as folder,
        BROKERS[broker](fleet, Path(folder), cores.broker, settings) as peer,
        Running(programs["healthy"], peer.port, fleet.folder / HEALTHY, HEALTHY, RATE, cpus=cores.storm) as pair,
    ):
        pair.before_others()
        if not pair.wait_ready():
            raise SystemExit(f"error: the healthy pair cannot connect to {broker}")
        rss_before = peer.rss_mib()
        marks = [time.monotonic()]
        time.sleep(times.before)
        counted, cpu = peer.counts(), peer.cpu_seconds()
        marks.append(time.monotonic())
        with Peak(peer) as peak:
            newcomer, *clients = _rage(storm, peer, fleet, programs["storm"], cores, times.during)
            marks.append(time.monotonic())
            used = peer.cpu_seconds() - cpu
            time.sleep(times.settle + times.after)
        marks.append(time.monotonic())
        rss_after = peer.rss_mib()
        told = pair.result(end=False)  # its standard input is closed, which ends it
        counts = {name: value - counted.get(name, 0) for name, value in peer.counts().items()}
    return {
        "storm": storm.name,
        "broker": broker,
        **_latencies(told, marks, times.settle),
        "rss_before_mib": round(rss_before, 1),
        "rss_peak_mib": round(peak.mib, 1),
        "rss_after_mib": round(rss_after, 1),
        "cpu_cores": round(used / (marks[2] - marks[1]), 2),
        "newcomers": {name: newcomer.get(name, 0) for name in ("dialled", "up", "slowest_ms")},
        "counts": counts,
        "clients": clients,
    }


def _rage(
    storm: Storm, peer: Peer, fleet: Fleet, program: Path, cores: Cores, seconds: float
) -> Iterator[dict[str, Any]]:
    """Run the steps until the time is over; what each of them tells."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        running: list[tuple[Running, dict[str, Any] | None]] = []
        for step in (NEWCOMER, *storm.steps):
            left = max(end - time.monotonic(), seconds / 2)
            words = [*step.words.split(), "--seconds", str(left)]
            one = stack.enter_context(Running(program, peer.port, fleet.folder, *words, cpus=cores.storm))
            told = None
            if step.until is Until.READY:
                one.wait_ready()
            elif step.until is Until.DONE:
                told = one.result(end=False)
            running.append((one, told))
        time.sleep(max(0.0, end - time.monotonic()))
        for one, told in running:
            yield told or one.result(end=True)


def _latencies(told: dict[str, Any], marks: list[float], settle: float) -> dict[str, Any]:
    messages = [(due / 1e6, late / 1e3) for due, late in told["messages"]]
    phases = {
        "before": (marks[0], marks[1]),
        "during": (marks[1], marks[2]),
        "after": (marks[2] + settle, marks[3]),
    }
    found: dict[str, Any] = {}
    for name, (start, end) in phases.items():
        late = [latency for due, latency in messages if start <= due < end and latency >= 0]
        found |= {f"{name}_p50_ms": _percentile(late, 50), f"{name}_p99_ms": _percentile(late, 99)}
        found[f"{name}_max_ms"] = round(max(late), 2) if late else None
    found["sent"] = len(messages)
    found["lost"] = sum(late == _MISSING for _, late in told["messages"])
    found["turned_away"] = sum(late == _REFUSED for _, late in told["messages"])
    found["again"] = told["again"]
    found["closed"] = told["closed"]
    return found


def _percentile(values: list[float], percent: int) -> float | None:
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 3) if len(values) > 1 else None
