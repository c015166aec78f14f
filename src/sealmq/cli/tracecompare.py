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
    from sealmq.cli.traceask import Asked
    from sealmq.trace.compare import Row
    from sealmq.trace.model import Trace


def compare(asked: Asked, url: str | None, names: tuple[str, str]) -> bool:
    """Show the two; whether both came about.

    With `url`, the names are forms of a handshake with it; without, each is a URL or the file of a recording.
    """
    from sealmq.trace import compare as comparing

    first, second = _pair(asked, url, names)
    found = comparing.compare(first, second)
    if asked.options.json:
        output.as_json(comparing.to_json(found))
    else:
        head = ["", comparing.label(first), comparing.label(second), "difference"]
        output.columns(head, [_cells(row) for row in found.rows])
        print(f"\n{found.summary}")
    return "failed" not in (first.outcome, second.outcome)


def _pair(asked: Asked, url: str | None, names: tuple[str, str]) -> tuple[Trace, Trace]:
    from sealmq.trace.build import trace_of
    from sealmq.trace.recording import Recording

    one, other = names
    if url is None:
        either = replace(asked, picks=True)
        first, second = (
            trace_of(either.run(name) if "://" in name else Recording.read(Path(name))) for name in (one, other)
        )
        return first, second
    forms = variant(asked, one), variant(asked, other)
    forms[0].run(url)  # so that the first of the two does not pay for what is done once in a process
    first, second = (trace_of(form.run(url)) for form in forms)
    return first, second


def _cells(row: Row) -> list[str]:
    digits = {"ms": 1, "ms CPU": 2}.get(row.unit, 0)
    unit = f" {row.unit.partition(' ')[0]}" if row.unit.startswith("ms") else ""
    return [
        row.name,
        f"{row.first:.{digits}f}{unit}",
        f"{row.second:.{digits}f}{unit}",
        f"{row.difference:+.{digits}f}",
    ]
