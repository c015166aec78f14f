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
    ("storm", "storm"),
    ("broker", "broker"),
    ("p99 before", "before_p99_ms"),
    ("during", "during_p99_ms"),
    ("worst", "during_max_ms"),
    ("after", "after_p99_ms"),
    ("lost", "lost"),
    ("MiB before", "rss_before_mib"),
    ("peak", "rss_peak_mib"),
    ("after", "rss_after_mib"),
    ("cores", "cpu_cores"),
)
LAST = ("times p99", "refused", "dropped", "newcomers in", "slowest ms")


def row(found: dict[str, Any]) -> list[str]:
    """The cells of one line."""
    cells = ["-" if found[key] is None else f"{found[key]:,}" if isinstance(found[key], int | float) else found[key]
             for _, key in COLUMNS]  # fmt: skip
    if found["closed"]:
        cells[6] = f"{found['lost']}, cut off"
    elif found["turned_away"]:
        cells[6] = f"{found['lost']}, {found['turned_away']} refused"
    before, during = found["before_p99_ms"], found["during_p99_ms"]
    cells.append(f"{during / before:.1f}" if before and during else "-")
    refused = found["counts"].get("refused", sum(one.get("refused", 0) for one in found["clients"]))
    cells += [f"{refused:,.0f}", f"{found['counts'].get('messages_dropped', 0):,.0f}"]
    newcomers = found["newcomers"]
    cells += [f"{newcomers['up']}/{newcomers['dialled']}", f"{newcomers['slowest_ms']:,.0f}"]
    return cells


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
        print("| " + " | ".join([title for title, _ in COLUMNS] + list(LAST)) + " |")
        print("|---|---" + "|--:" * (len(COLUMNS) + len(LAST) - 2) + "|", flush=True)
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
