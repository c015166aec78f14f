"""`sealmq trace --compare`: two handshakes side by side, live or kept.

It refuses to know how they are recorded and measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.cli import output
from sealmq.cli.traceask import variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.cli.traceask import Asked
    from sealmq.trace.compare import Row
    from sealmq.trace.model import Trace


def compare(asked: Asked, url: str | None, names: tuple[str, str], *, rounds: int) -> bool:
    """Show the two; whether both came about.

    With `url`, the names are forms of a handshake with it; without, each is a URL or the file of a recording. What is
    live is done `rounds` times, in turn, of which the medians of all times are shown.
    """
    from sealmq.trace import compare as comparing

    first, second = _pair(asked, url, names, rounds)
    found = comparing.compare(first, second)
    if asked.options.json:
        output.as_json(comparing.to_json(found))
    else:
        head = ["", comparing.label(first), comparing.label(second), "difference"]
        output.columns(head, [_cells(row) for row in found.rows])
        print(f"\n{found.summary}")
    return "failed" not in (first.outcome, second.outcome)


def _pair(asked: Asked, url: str | None, names: tuple[str, str], rounds: int) -> tuple[Trace, Trace]:
    from sealmq.trace import compare as comparing

    ways = [_way(asked, url, name) for name in names]
    made: tuple[list[Trace], list[Trace]] = ([], [])
    for _ in range(rounds):
        for way, traces in zip(ways, made, strict=True):
            traces.append(way())
        if any(traces[-1].outcome == "failed" for traces in made):
            break
    if rounds > 1 and len(made[0]) > 1:  # the very first pays for what is done once in a process
        made = made[0][1:], made[1][1:]
    return comparing.median(made[0]), comparing.median(made[1])


def _way(asked: Asked, url: str | None, name: str) -> Callable[[], Trace]:
    """How one of the two is had."""
    from sealmq.trace.build import trace_of
    from sealmq.trace.recording import Recording

    if url is not None:
        form = variant(asked, name)
        return lambda: trace_of(form.run(url))
    if "://" in name:
        either = replace(asked, picks=True)
        return lambda: trace_of(either.run(name))
    kept = trace_of(Recording.read(Path(name)))
    return lambda: kept


def _cells(row: Row) -> list[str]:
    digits = {"ms": 1, "ms CPU": 2}.get(row.unit, 0)
    unit = f" {row.unit.partition(' ')[0]}" if row.unit.startswith("ms") else ""
    return [
        row.name,
        f"{row.first:.{digits}f}{unit}",
        f"{row.second:.{digits}f}{unit}",
        f"{row.difference:+.{digits}f}",
    ]
