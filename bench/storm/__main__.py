"""Owns the table of storms: what a well-behaved pair of clients feels while others misbehave, sealmq beside mosquitto.

Refuses to pass over a broker that failed: a pair that was cut off or lost a message is shown as that.

usage: make storm [STORM_ARGS="--only takeover --broker sealmq --seconds 10 --json"]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .brokers import BROKERS, Fleet
from .measure import Cores, Times, run
from .programs import build
from .storms import STORMS

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = "-20"  # nice value of this session's group of processes
AUTOGROUP = Path("/proc/self/autogroup")
COLUMNS = (
    "storm",
    "broker",
    "p99 before",
    "during",
    "times",
    "worst",
    "after",
    "lost",
    "MiB",
    "cores",
    "refused",
    "dropped",
)
NEWCOMERS = ("newcomers", "slowest")


def row(found: dict[str, Any]) -> list[str]:
    """The cells of one line: milliseconds, MiB before, at most and after, messages."""
    counts, newcomers = found["counts"], found["newcomers"]
    refused = counts.get("refused", sum(one.get("refused", 0) for one in found["clients"]))
    before, during = found["before_p99_ms"], found["during_p99_ms"]
    return [
        found["storm"],
        found["broker"],
        *(_delay(value) for value in (before, during)),
        f"{during / before:.1f}" if before and during else "-",
        *(_delay(found[name]) for name in ("during_max_ms", "after_p99_ms")),
        f"{found['lost']}" + (", cut off" if found["closed"] else "") + _refused(found["turned_away"]),
        ", ".join(f"{found[name]:,.0f}" for name in ("rss_before_mib", "rss_peak_mib", "rss_after_mib")),
        f"{found['cpu_cores']:.2f}",
        f"{refused + counts.get('messages_turned_away', 0):,.0f}",
        f"{counts.get('messages_dropped', 0):,.0f}",
        f"{newcomers['up']}/{newcomers['dialled']}",
        _delay(newcomers["slowest_ms"]),
    ]


def _delay(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _refused(count: int) -> str:
    return f", {count} refused" if count else ""


@contextlib.contextmanager
def before_others() -> Iterator[None]:
    """Let brokers and clients run before what else the machine does, where Linux groups processes by session."""
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text(FIRST)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text("0")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make storm", description="a healthy pair of clients in storms")
    parser.add_argument("--only", choices=[storm.name for storm in STORMS], action="append")
    parser.add_argument("--broker", choices=list(BROKERS), action="append", help="one broker alone")
    parser.add_argument("--seconds", type=float, default=Times.during, help="how long each storm lasts")
    parser.add_argument("--settings", default="", help="further lines of [limits] in sealmq.toml")
    parser.add_argument("--json", action="store_true", help="one object per storm and broker, a line each")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("error: a storm takes two processors: one for the broker, one for those who storm")
    if not options.json:
        print("| " + " | ".join(COLUMNS + NEWCOMERS) + " |")
        print("|---|---" + "|--:" * (len(COLUMNS + NEWCOMERS) - 2) + "|", flush=True)
    with tempfile.TemporaryDirectory(prefix="sealmq-fleet-") as folder, before_others():
        fleet, programs = Fleet(Path(folder) / "fleet"), build(Path(folder) / "programs")
        for storm in STORMS:
            if options.only and storm.name not in options.only:
                continue
            for broker in options.broker or BROKERS:
                times = Times(during=options.seconds)
                found = run(storm, broker, fleet, programs, Cores(), times, options.settings)
                print(json.dumps(found) if options.json else "| " + " | ".join(row(found)) + " |", flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
