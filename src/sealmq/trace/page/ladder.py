"""The ladder diagram: client and server as two lines, each message an arrow, each step of this side a box.

It refuses to know what the page does with it; its colours and line styles are in `ladder.css`.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from sealmq.trace.page.words import UNDER, clean, cut, escaped, sentence, size, stop, text_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.trace.model import Step, Trace

WIDTH = 360
"""Units, those of a small phone: there the text has its size, elsewhere it grows with the picture."""
CLIENT, SERVER = 22, 338
HEAD = 46
ARROW, BOX, RULE = 54, 46, 26
MOST_CHARACTERS = 52
"""Of a small line of text in a box."""


def standalone(trace: Trace) -> str:
    """The ladder as a document of its own, with its style inside."""
    style = text_file("ladder.css").strip()
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{draw(trace, style=style, words=sentence)}\n'


def draw(trace: Trace, *, style: str = "", words: Callable[[Step, int], str] | None = None, links: bool = False) -> str:
    """The `svg` element.

    With `style` it stands alone; with `words` each step has them as its title, which is shown on hover; with `links`
    each step is a link to `#step-N`.
    """
    rows: list[str] = []
    at = HEAD
    stopped = stop(trace)
    channel = "none"
    for step in trace.steps:
        drawn, height = _arrow(step, at) if step.direction != "none" else _box(step, at, seat=trace.seat)
        rows.append(_wrapped(step, drawn, at, height, words(step, len(trace.steps)) if words else "", links=links))
        at += height
        if step.state.channel != channel:
            channel = step.state.channel
            rows.append(_rule(f"the channel {'stands' if channel == 'open' else 'is closed'}", at))
            at += RULE
        if step is stopped:
            drawn, height = _failure(trace, at)
            rows.append(drawn)
            at += height
    if trace.outcome == "failed" and stopped is None:
        drawn, height = _failure(trace, at)
        rows.append(drawn)
        at += height
    height = at + 16
    opening = (
        f'<svg class="ladder"{_outer(height) if style else ""} viewBox="0 0 {WIDTH} {height}" '
        f'role="{"group" if links else "img"}" aria-label="{escaped(_title(trace))}">'
    )
    parts = [
        opening,
        f"<title>{escaped(_title(trace))}</title>\n<style>{style}</style>" if style else "",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>' if style else "",
        _lines(height),
        *rows,
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _outer(height: int) -> str:
    return f' xmlns="http://www.w3.org/2000/svg" version="1.1" width="{WIDTH}" height="{height}"'


def _title(trace: Trace) -> str:
    ended = "succeeded" if trace.outcome == "ok" else f"failed: {trace.cause}"
    return f"Ladder diagram of {len(trace.steps)} steps with {cut(trace.url, 200)}, {ended}"


def _lines(height: int) -> str:
    ends = []
    for x, name, left in ((CLIENT, "client", 4), (SERVER, "server", WIDTH - 64)):
        ends.append(f'<path class="life" d="M{x} 34V{height - 8}"/>')
        ends.append(f'<rect class="end" x="{left}" y="8" width="60" height="26" rx="5"/>')
        ends.append(f'<text class="name" x="{left + 30}" y="26" text-anchor="middle">{name}</text>')
    return "\n".join(ends)


def _wrapped(step: Step, drawn: str, at: int, height: int, words: str, *, links: bool) -> str:
    bad = " bad" if step.is_bad else ""
    hit = f'<rect class="hit" x="2" y="{at}" width="{WIDTH - 4}" height="{height}" rx="6"/>'
    if links:
        label = escaped(f"Step {step.number}: {step.message}, {size(step) or 'not on the wire'}")
        return (
            f'<a href="#step-{step.number}" data-step="{step.number}" class="step {step.protection}{bad}" '
            f'aria-label="{label}">{hit}{drawn}</a>'
        )
    title = f"<title>{escaped(words)}</title>" if words else ""
    return f'<g class="step {step.protection}{bad}">{title}{hit}{drawn}</g>'


def _arrow(step: Step, at: int) -> tuple[str, int]:
    y = at + 25
    start, end = (CLIENT, SERVER) if step.who == "client" else (SERVER, CLIENT)
    tip = 9 if end < start else -9
    under = UNDER[step.protection] + (" · went wrong" if step.is_bad else "")
    parts = [
        f'<text class="message" x="34" y="{at + 18}">{_named(step, 30)}</text>',
        f'<text class="bytes" x="326" y="{at + 18}" text-anchor="end">{size(step)}</text>',
        f'<path class="line" d="M{start} {y}H{end + tip}"/>',
        f'<path class="tip" d="M{end} {y}l{tip} -5v10z"/>',
        f'<text class="small under" x="34" y="{at + 40}">{under}</text>',
        f'<text class="small" x="326" y="{at + 40}" text-anchor="end">{step.t_ms:.1f} ms</text>',
    ]
    if step.is_bad:
        parts.append(_cross((start + end) // 2, y))
    return "".join(parts), ARROW


def _box(step: Step, at: int, *, seat: str) -> tuple[str, int]:
    side = step.who if step.who != "here" else "server" if seat == "broker" else "client"
    left = 40 if side == "server" else 10
    shown = escaped(cut(clean(step.result or step.says), MOST_CHARACTERS))
    parts = [
        f'<rect class="box" x="{left}" y="{at + 4}" width="310" height="{BOX - 8}" rx="5"/>',
        f'<text class="message" x="{left + 10}" y="{at + 20}">{_named(step, 34)}</text>',
        f'<text class="small" x="{left + 10}" y="{at + 35}">{shown}</text>',
    ]
    if step.is_bad:
        parts.append(_cross(left + 294, at + 17))
    return "".join(parts), BOX


def _named(step: Step, length: int) -> str:
    return f'<tspan class="number">{step.number}</tspan>  {escaped(cut(clean(step.message), length))}'


def _cross(x: int, y: int) -> str:
    return f'<path class="cross" d="M{x - 6} {y - 6}l12 12m0 -12l-12 12"/>'


def _rule(words: str, at: int) -> str:
    y = at + RULE // 2
    width = 6 * len(words) + 12
    return (
        f'<g class="rule"><path class="between" d="M{CLIENT} {y}H{SERVER}"/>'
        f'<rect class="plate" x="{(WIDTH - width) // 2}" y="{y - 9}" width="{width}" height="18" rx="9"/>'
        f'<text class="small" x="{WIDTH // 2}" y="{y + 4}" text-anchor="middle">{escaped(words)}</text></g>'
    )


def _failure(trace: Trace, at: int) -> tuple[str, int]:
    lines = [("message", f"✕ stopped here: {clean(trace.cause or 'unknown cause')}")]
    for word, text in (("because", _first(trace.summary)), ("mend", trace.mend)):
        folded = textwrap.wrap(clean(f"{word}: {text}"), MOST_CHARACTERS + 2, max_lines=4, placeholder="…")
        lines += [("small", line) for line in folded if text]
    height = 18 * len(lines) + 14
    told = "".join(
        f'<text class="{kind}" x="20" y="{at + 23 + 18 * row}">{escaped(line)}</text>'
        for row, (kind, line) in enumerate(lines)
    )
    return (
        f'<g class="failure"><rect class="plate" x="10" y="{at + 4}" width="340" height="{height}" rx="6"/>{told}</g>',
        height + 12,
    )


def _first(text: str) -> str:
    """The first sentence; addresses have dots too, but no blank after them."""
    return text.partition(". ")[0].rstrip(".")
