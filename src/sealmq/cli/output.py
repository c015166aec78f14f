"""How commands speak: errors, tables and JSON, for a terminal and for a pipe.

It refuses to know what is said.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAST_COLUMN = 32  # characters; with less room than that it is not pressed into a table


def complain(message: str, mend: str = "") -> None:
    """An error on stderr: one line, and a second one with the mend."""
    print(f"error: {message}", file=sys.stderr)
    if mend:
        print(f"mend: {mend}", file=sys.stderr)


def note(text: str) -> None:
    """Something for the person in front of it, on stderr, so that stdout stays what was asked for."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: object) -> None:
    """A result as JSON on stdout, ASCII only: what a peer chose as its name must not steer a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent, default=str))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; a pipe gets one line per row.

    A terminal gets the last column wrapped; where there is no room for it, it follows on lines of its own.
    """
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head) - 1)]
    start = sum(widths) + 2 * len(widths)
    width_of_terminal = shutil.get_terminal_size().columns
    is_below = sys.stdout.isatty() and width_of_terminal - start < _LAST_COLUMN
    margin = 4 if is_below else start
    room = max(_LAST_COLUMN, width_of_terminal - margin) if sys.stdout.isatty() else sys.maxsize
    for row in [[word.upper() for word in head], *rows]:
        front = "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
        first, *others = textwrap.wrap(row[-1], room) or [""]
        lines = [front, f"{' ' * margin}{first}"] if is_below else [f"{front}{first}"]
        lines += [f"{' ' * margin}{line}" for line in others]
        print("\n".join(line.rstrip() for line in lines))


def program() -> str:
    """How this program was called, for commands that are printed to be typed again."""
    called = sys.argv[0]
    found = shutil.which("sealmq")
    if found and os.path.realpath(found) == os.path.realpath(called):
        return "sealmq"
    return "python -m sealmq" if called.endswith("__main__.py") else called


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `3 d 4 h`, `12 min 5 s`."""
    left = int(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
