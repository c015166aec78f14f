"""Tables of results: folded to the width of a terminal, one line per row into a pipe, no colour there.

It refuses to know what is in them.
"""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIPE_WIDTH = 10_000  # columns: never fold what a program reads


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    indent: int = 0,
    styles: Iterable[str] = (),
) -> None:
    """Print rows under a head, `indent` columns from the left; `styles` of rich, one per row, show on terminals."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for word in head:
        made.add_column(word.upper(), overflow="fold")
    for row, style in zip_longest(list(rows), styles, fillvalue=""):
        made.add_row(*(Text(printable(cell)) for cell in row), style=style)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    # rich pads every line to its column; nobody wants the blanks at the end
    with console.capture() as captured:
        console.print(Padding(made, (0, 0, 0, indent), expand=False))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def facts(pairs: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
    """Print `name  value` lines; the values begin in one column and are not folded, so that they can be copied."""
    known = list(pairs)
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{' ' * indent}{name.ljust(width)}  {printable(value)}".rstrip())


def printable(text: str) -> str:
    """`text` without control characters: names in files of others must not steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def left(seconds: int | None) -> str:
    """Time left in its largest unit: `29 days`, `3 hours`, `expired 2 days ago`, `-` when there is none to say."""
    if seconds is None:
        return "-"
    span = abs(seconds)
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if span >= size:
            count = span // size
            words = f"{count} {unit}{'s' if count != 1 else ''}"
            return words if seconds > 0 else f"expired {words} ago"
    return "expired just now"


def moment(iso: str | datetime | None) -> str:
    """A time as `2026-12-20 20:33 UTC`, `-` when there is none."""
    if iso is None:
        return "-"
    when = iso if isinstance(iso, datetime) else datetime.fromisoformat(iso)
    return when.strftime("%Y-%m-%d %H:%M UTC")
