"""Owns the command of the comparison: which brokers, which loads, how often; it prints ratios and keeps the figures.

Refuses to judge: it prints what came out. Absolute figures belong to the machine; the ratios are what to quote.

usage: make bench [BENCH_ARGS="--peers sealmq,mosquitto --only pairs-qos0 --rounds 5"]
"""

import argparse
import json
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

from bench import growth, peers, report, rounds
from bench.generator import build
from bench.loads import LOADS, Load
from bench.peers import Broker

RESULTS = Path(__file__).resolve().parent / "results.json"


def names(text: str) -> list[str]:
    """Of brokers, with commas between them."""
    chosen = text.split(",")
    for name in chosen:
        if name not in peers.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is not known; there are {', '.join(peers.NAMES)}")
    return chosen


def installed(chosen: list[str]) -> tuple[list[Broker], dict[str, str]]:
    """Those that run here, and their versions; who does not is told, and left out."""
    here, versions = [], {}
    for name in chosen:
        broker = peers.broker(name)
        try:
            versions[name] = broker.install()
            here.append(broker)
        except peers.NotHereError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return here, versions


def show(load: Load, figures: rounds.Figures, reasons: dict[str, str]) -> None:
    """A line for each figure and broker: the median, its spread, and the ratio to mosquitto."""
    for figure in load.figures:
        print(f"{load.name}: {figure.title}, {figure.unit}")
        for name in figures:
            values = [one[figure.key] for one in figures[name]]
            ratio = report.ratio(figures, name, "mosquitto", figure.key)
            beside = f"  {ratio.middle:.3f} ({ratio.low:.3f}-{ratio.high:.3f}) of mosquitto" if ratio else ""
            print(f"  {name:10} {statistics.median(values):10.3f} ({min(values):.3f}-{max(values):.3f}){beside}")
    for name, reason in reasons.items():
        print(f"  {name:10} -  {reason}")


def keep(path: Path, **parts: dict[str, Any]) -> dict[str, Any]:
    """Put new figures in the place of old ones, load by load; everything that is known then."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for part, entries in parts.items():
        known[part] = {**known.get(part, {}), **entries}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=names, help=f"with commas between them: {', '.join(peers.NAMES)}")
    parser.add_argument("--only", choices=[*(load.name for load in LOADS), "growth"], action="append")
    parser.add_argument("--curves", default="", help="of the growth, those whose name begins so")
    parser.add_argument("--results", type=Path, help="where the figures go [bench/results.json]")
    options = parser.parse_args()
    is_all = not options.peers and not options.only
    results = options.results or (None if options.peers else RESULTS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    build("load")
    brokers, versions = installed(options.peers or list(peers.NAMES))
    loads = [
        one
        for one in LOADS
        if one.name in (options.only or ()) or (not options.only and (is_all or not one.is_optional))
    ]
    found, failed = rounds.run(brokers, loads, options.rounds)
    for load in loads:
        show(load, found[load.name], failed[load.name])
    parts: dict[str, dict[str, Any]] = {"loads": found, "failed": failed, "versions": versions}
    if is_all or "growth" in (options.only or ()):
        parts["growth"] = growth.run(options.peers or growth.PEERS, options.curves)
    if results is None:
        return
    known = keep(results, **parts, machine=report.machine())
    if is_all:
        report.write(known)


if __name__ == "__main__":
    main()
