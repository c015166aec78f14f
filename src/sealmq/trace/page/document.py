"""The page: verdict, ladder, process table, tracker and closing words, put into `page.html`.

It refuses to know what the words mean; how they look is in `page.css`, what moves in `page.js`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from string import Template
from typing import TYPE_CHECKING

from sealmq.trace.model import State
from sealmq.trace.page import ladder
from sealmq.trace.page.words import (
    TRACKED,
    UNDER,
    clean,
    cut,
    escaped,
    sentence,
    size,
    stop,
    stopped_by,
    text_file,
    tracked,
    way,
)

if TYPE_CHECKING:
    from sealmq.trace.fields import Field
    from sealmq.trace.model import Step, Trace

MOST_RUNGS_ON_PAPER = 40
"""Steps up to which the ladder is printed on one sheet; a longer one would be too small to read."""
DEEPEST_FIELD = 16
"""Levels of fields that are written out."""

_EXCHANGES = {
    "key-transport": "key sent by the client, encrypted",
    "key-agreement": "key agreed",
    "hybrid-pq": "key agreed, post-quantum",
    "psk": "pre-shared key",
}


def write(trace: Trace) -> str:
    """The page as HTML."""
    style = "\n" + text_file("page.css") + text_file("ladder.css")
    script = "\n" + text_file("page.js")
    state = tracked(trace.steps[-1].state if trace.steps else State())
    return Template(text_file("page.html")).substitute(
        script=script,
        script_hash=_hash(script),
        style=style,
        style_hash=_hash(style),
        title=escaped(f"{cut(trace.url, 200)}: {'ok' if trace.outcome == 'ok' else f'failed, {trace.cause}'}"),
        heading=escaped(trace.url),
        facts=escaped(_facts(trace)),
        verdict=_verdict(trace),
        at=f"{len(trace.steps)} steps",
        ladder=ladder.draw(trace, links=True),
        long=" long" if len(trace.steps) > MOST_RUNGS_ON_PAPER else "",
        now_head="What is true at the end",
        now="\n".join(
            f"<div><dt>{name}</dt><dd>{escaped(cell)}</dd></div>" for name, cell in zip(TRACKED, state, strict=True)
        ),
        process=_process(trace),
        tracker_head="".join(f'<th scope="col" role="columnheader">{name}</th>' for name in ("After step", *TRACKED)),
        tracker=_tracker(trace),
        origins=_origins(trace),
        previous=_previous(trace),
        closing=_closing(trace),
        data=_data(trace),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(trace: Trace) -> str:
    total = len(trace.steps)
    steps = [
        {
            "message": clean(step.message),
            "line": _line(step),
            "says": clean(step.says),
            "spoken": sentence(step, total),
            "state": tracked(step.state),
        }
        for step in trace.steps
    ]
    text = json.dumps({"steps": steps}, separators=(",", ":"))
    # inside <script> only `<` can end it or begin a comment; the other two are for readers that are less exact
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _line(step: Step) -> str:
    return ", ".join(part for part in (way(step), size(step), UNDER[step.protection], f"{step.t_ms:.1f} ms") if part)


# --- above ------------------------------------------------------------------------------------------------------


def _facts(trace: Trace) -> str:
    tls, totals = trace.tls, trace.totals
    seen = f"seen by the broker, {trace.address}" if trace.seat == "broker" else trace.address
    parts = [seen, trace.started.replace("T", " ").partition(".")[0] + " UTC"]
    parts += [tls.version, tls.cipher, tls.group, _EXCHANGES.get(tls.key_exchange, "")]
    parts.append("session resumed" if tls.resumed else "")
    if totals.handshake_ms:
        parts.append(
            f"channel after {totals.handshake_ms:.1f} ms, {totals.handshake_bytes} bytes, "
            f"{totals.handshake_round_trips} round trips"
        )
    return " · ".join(part for part in parts if part)


def _verdict(trace: Trace) -> str:
    if trace.outcome == "ok":
        return '<p class="verdict"><strong>✓ OK.</strong> All that was wanted came about.</p>'
    at = stop(trace)
    href = f'href="#step-{at.number}" data-step="{at.number}"' if at else ""
    jump = f' <a class="jump" {href}>Go to step {at.number}, where it stopped</a>' if at else ""
    return (
        f'<div class="verdict failed"><p><strong>✕ Failed</strong> at {escaped(trace.stopped_at or "")}, ended by '
        f"{stopped_by(trace)} <code>[{escaped(trace.cause or '')}]</code>.{jump}</p>"
        f"<p>{escaped(trace.summary)}</p>{_why(trace, ('mend',))}</div>"
    )


def _why(trace: Trace, names: tuple[str, ...] = ("evidence", "so", "mend", "then")) -> str:
    values = {
        "evidence": escaped(trace.evidence),
        "so": escaped("; ".join(trace.not_done)),
        "mend": escaped(trace.mend),
        "then": f"<code>{escaped(trace.command)}</code>" if trace.command else "",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{values[name]}</dd>" for name in names if values[name])
    return f'<dl class="why">{rows}</dl>' if rows else ""


# --- tables -----------------------------------------------------------------------------------------------------


def _process(trace: Trace) -> str:
    stopped = stop(trace)
    bodies = [_body(step, trace if step is stopped else None) for step in trace.steps]
    if trace.outcome == "failed" and stopped is None:
        bodies.append(f'<tbody role="rowgroup">{_stopped(trace)}</tbody>')
    return "\n".join(bodies)


def _body(step: Step, failed: Trace | None) -> str:
    bad = " bad" if step.is_bad else ""
    under = f'<span class="under {step.protection}">{UNDER[step.protection]}</span>' if UNDER[step.protection] else ""
    told = [
        f'<span class="{kind}">{sign}{escaped(text)}</span>'
        for kind, sign, text in (("said", "", step.says), ("result", "→ ", step.result), ("next", "▸ ", step.next))
        if text
    ]
    count = str(step.bytes) if step.bytes else ""
    count += f" in {step.records}" if step.bytes and step.records > 1 else ""
    return (
        f'<tbody class="step{bad}" role="rowgroup" id="step-{step.number}" data-step="{step.number}">'
        f'<tr role="row"><th scope="row" role="rowheader" class="number">{step.number}</th>'
        f'<td role="cell" class="number ms">{step.t_ms:.1f}</td><td role="cell" class="who">{way(step)}</td>'
        f'<td role="cell" class="message"><a href="#step-{step.number}" data-step="{step.number}">'
        f"{'✕ ' if step.is_bad else ''}{escaped(step.message)}</a>{under}</td>"
        f'<td role="cell" class="number bytes">{count}</td><td role="cell" class="says">{"".join(told)}</td></tr>'
        f"{_more(step)}{_stopped(failed) if failed else ''}</tbody>"
    )


def _more(step: Step) -> str:
    explain = f'<p class="explain">{escaped(step.explain)}</p>' if step.explain else ""
    fields = f'<ul class="fields">{_fields(step.fields, 1)}</ul>' if step.fields else ""
    if not explain and not fields:
        return ""
    return f'<tr role="row" class="more"><td role="cell" colspan="6">{explain}{fields}</td></tr>'


def _fields(fields: tuple[Field, ...], depth: int) -> str:
    if depth > DEEPEST_FIELD:
        return "<li>…</li>"
    items = []
    for field in fields:
        value = f": <code>{escaped(field.value)}</code>" if field.value else ""
        below = f"<ul>{_fields(field.children, depth + 1)}</ul>" if field.children else ""
        items.append(f"<li><b>{escaped(field.name)}</b>{value}{below}</li>")
    return "".join(items)


def _stopped(trace: Trace) -> str:
    return (
        f'<tr role="row" class="stopped"><td role="cell" colspan="6"><strong>✕ It stopped here: '
        f"{escaped(trace.cause or 'unknown cause')}</strong>{_why(trace)}</td></tr>"
    )


def _tracker(trace: Trace) -> str:
    rows = []
    before = tracked(State())
    for step in trace.steps:
        cells = tracked(step.state)
        shown = "".join(
            f'<td role="cell" class="{"same" if cell == old else "new"}" data-label="{name}">{escaped(cell)}</td>'
            for name, cell, old in zip(TRACKED, cells, before, strict=True)
        )
        rows.append(
            f'<tr role="row" data-step="{step.number}"><th scope="row" role="rowheader">{step.number} '
            f"{escaped(step.message)}</th>{shown}</tr>"
        )
        before = cells
    return "\n".join(rows)


def _origins(trace: Trace) -> str:
    secrets = trace.steps[-1].state.secrets if trace.steps else ()
    return "<br>".join(f"Key: {escaped(secret.name)}, {escaped(secret.origin)}" for secret in secrets)


# --- below ------------------------------------------------------------------------------------------------------


def _previous(trace: Trace) -> str:
    if trace.previous is None:
        return ""
    tls, totals = trace.previous.tls, trace.previous.totals
    text = f"{tls.version or 'No TLS'} {tls.cipher}, {totals.handshake_bytes} bytes and {totals.handshake_ms:.1f} ms"
    text = f"{text} until the channel stood. Its session was offered in the connection above."
    if trace.previous.outcome == "failed":
        text = f"It failed ({trace.previous.cause})."
    return (
        '<section aria-labelledby="before-head"><h2 id="before-head">The connection before</h2>'
        f'<p>{escaped(text)}</p><div class="before rungs">{ladder.draw(trace.previous, words=sentence)}</div></section>'
    )


def _closing(trace: Trace) -> str:
    proofs = trace.proofs
    checked = f"<p>{proofs.wrong} proofs in it were recomputed here and are WRONG.</p>" if proofs.wrong else ""
    why = _why(trace) if trace.outcome == "failed" else ""
    return f"<p>{escaped(trace.summary)}</p>{checked}{why}"
