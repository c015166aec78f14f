"""Owns the count of what conformance suites that are not ours say of this broker, over TLS.

Refuses to let a failure stand without a reason: it ends with status 1 while one has none, or is ours.

usage: make conformance [CONFORMANCE_ARGS="--only 02- --json"]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from . import mosquitto_suite, paho_suite, sources
from .outcome import Outcome, Result, Whose, judged, verdicts

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "target" / "conformance"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make conformance", description="foreign suites against this broker")
    parser.add_argument("--suite", choices=[mosquitto_suite.NAME, paho_suite.NAME], help="one suite alone")
    parser.add_argument("--only", default="", help="tests of mosquitto with this in their file's name")
    parser.add_argument("--json", action="store_true", help="one object per test, a line each")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sealmq-conformance-") as notes:
        outcomes: list[Outcome] = []
        if options.suite != paho_suite.NAME:
            outcomes += mosquitto_suite.run(sources.mosquitto(CACHE), ROOT, Path(notes), only=options.only)
        if options.suite != mosquitto_suite.NAME and not options.only:
            outcomes += paho_suite.run(sources.paho_go(CACHE), ROOT, Path(notes))
    found, idle = judged(outcomes, verdicts())
    if options.json:
        for outcome in found:
            print(json.dumps(dataclasses.asdict(outcome), default=lambda value: value.value))
    else:
        report(found)
    for verdict in [] if options.only else idle:
        print(f"verdicts.toml explains what no longer fails: {', '.join(verdict.tests)}", file=sys.stderr)
    raise SystemExit(any(outcome.whose in {Whose.OPEN, Whose.OURS} for outcome in found))


def report(found: list[Outcome]) -> None:
    """A table of counts, and every failure under its reason."""
    print("| suite | tests | passed | not applicable | failed: theirs | policy | ours | unexplained |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for suite in dict.fromkeys(outcome.suite for outcome in found):
        mine = [outcome for outcome in found if outcome.suite == suite]
        results, whose = Counter(one.result for one in mine), Counter(one.whose for one in mine)
        cells = [len(mine), results[Result.PASSED], results[Result.FOREIGN]]
        cells += [whose[one] for one in (Whose.THEIRS, Whose.POLICY, Whose.OURS, Whose.OPEN)]
        print(f"| {suite} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    for why in dict.fromkeys(outcome.why for outcome in found if outcome.whose is not None):
        same = [outcome for outcome in found if outcome.whose is not None and outcome.why == why]
        print(f"\n{same[0].whose.value if same[0].whose else ''}: {why or 'no reason is written'}")
        for outcome in same:
            print(f"  {outcome.suite}: {outcome.name}" + ("" if why else f": {outcome.said}"))


if __name__ == "__main__":
    main()
