"""The picture of a trace: one self-contained page to walk through, and the ladder diagram alone.

It refuses to know how a trace is made, and it writes no files: text comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealmq.trace.model import Trace

__all__ = ["html", "svg"]


def html(trace: Trace) -> str:
    """One HTML page (UTF-8) that shows `trace` and asks for nothing else: no network, no other file.

    Ladder, process table and status tracker move together; without scripts, and on paper, everything is shown.
    Nothing that a peer chose can be anything but text in it: it is escaped, and the Content-Security-Policy permits
    only the page's own script and style, by their hashes.
    """
    from sealmq.trace.page import document

    return document.write(trace)


def svg(trace: Trace) -> str:
    """The ladder diagram alone as a standalone SVG 1.1 document (UTF-8), 360 units wide, for light and dark."""
    from sealmq.trace.page import ladder

    return ladder.standalone(trace)
