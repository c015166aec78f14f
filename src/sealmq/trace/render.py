"""A trace on a terminal: the process table, the tracker, the closing words; and the same without colour into a pipe.

It refuses to know how a trace came about. Everything a peer may have chosen is printed without control characters.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sealmq.trace.tracker import APPLICATION_SECRETS, HANDSHAKE_SECRETS, MASTER_SECRET

if TYPE_CHECKING:
    from sealmq.trace.fields import Field
    from sealmq.trace.model import State, Step, Trace

PIPE_WIDTH = 120
"""Columns where there is no terminal."""
WIDE = 100
"""From this many columns on the process table is a table; below, each step is a block."""

_FRONT = 56
"""Columns of the process table before its words."""

_STYLES = {"client": "cyan", "server": "magenta", "here": "yellow"}
_WAYS = {"client": "client → server", "server": "server → client", "here": "here"}
_UNDER = {
    "none": "",
    "plain": "in clear",
    "handshake": "handshake key",
    "application": "session key",
    "tls12": "session key",
}
_KEYS = {HANDSHAKE_SECRETS: "handshake", APPLICATION_SECRETS: "session", MASTER_SECRET: "session"}
_BY = {"here": "this side", "client": "the client", "server": "the server", "network": "the network"}


def show(trace: Trace, *, explain: bool = False, verbose: bool = False, console: Console | None = None) -> None:
    """Print the trace, and the one before it first in a line. `explain` adds why each step is there, `verbose` its
    fields."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    if console is None:
        console = Console(highlight=False, width=width)
        with console.capture() as captured:
            show(trace, explain=explain, verbose=verbose, console=console)
        # rich pads every line to its column; nobody wants the blanks at the end
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))  # noqa: T201 - what it is for
        return
    if trace.previous is not None:
        _show_previous(console, trace.previous)
    _head(console, trace)
    if explain or verbose or console.width < WIDE:
        for step in trace.steps:
            _block(console, step, explain=explain, verbose=verbose)
    else:
        _process(console, trace)
    console.print()
    _tracker(console, trace)
    console.print()
    _closing(console, trace)


def _head(console: Console, trace: Trace) -> None:
    started = trace.started.replace("T", " ").partition(".")[0]
    at = f" at {trace.address}" if trace.address else ""
    if trace.seat == "broker":
        at = f", seen by the broker, {trace.address}"
    console.print(Text(_clean(f"{trace.url}{at}, {started} UTC"), "bold"))
    console.print()


def _show_previous(console: Console, previous: Trace) -> None:
    tls, totals = previous.tls, previous.totals
    text = f"First connection: {tls.version or 'no TLS'} {tls.cipher}, {totals.handshake_bytes} bytes and"
    text = f"{text} {totals.handshake_ms:.1f} ms until the channel stood. Below is the second, offering its session."
    if previous.outcome == "failed":
        text = f"First connection failed ({previous.cause})."
    console.print(Text(_clean(text), "dim"))
    console.print()


# --- the process table ------------------------------------------------------------------------------------------


def _process(console: Console, trace: Trace) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("#", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("who", no_wrap=True)
    table.add_column("message", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("says, → result, ▸ what comes next", overflow="fold", ratio=1)
    for step in trace.steps:
        style = _STYLES[step.who]
        size = Text(_size(step))
        if step.protection not in ("none", "plain"):
            size.stylize("green")
        table.add_row(
            str(step.number),
            f"{step.t_ms:.1f}",
            Text(_WAYS[step.who], style),
            Text(_clean(step.message), f"bold {'red' if step.is_bad else style}"),
            size,
            _words(step, console.width - _FRONT),
        )
    console.print(table)


def _words(step: Step, room: int) -> Text:
    text = Text(_clean(step.says))
    if step.result:
        text.append(f"{chr(10) if step.says else ''}→ {_clean(step.result)}", "bold red" if step.is_bad else "green")
    if step.next:
        # beside a short result, below a long one
        beside = step.result and len(step.result) + len(step.next) + 6 <= room
        text.append(f"{'  ' if beside else chr(10)}▸ {_clean(step.next)}", "dim")
    return text


def _size(step: Step) -> str:
    if not step.bytes:
        return ""
    return f"{step.bytes}" if step.records <= 1 else f"{step.bytes} in {step.records}"


def _block(console: Console, step: Step, *, explain: bool, verbose: bool) -> None:
    style = _STYLES[step.who]
    head = Text(f"{step.number:>2}  ")
    head.append(f"{_clean(step.message):<20} ", f"bold {'red' if step.is_bad else style}")
    head.append(f"{_WAYS[step.who]:<15} ", style)
    head.append(f"{f'{_size(step)} bytes' if step.bytes else '':>11} {step.t_ms:>7.1f} ms  ")
    head.append(_UNDER[step.protection], "dim" if step.protection == "plain" else "green")
    console.print(head)
    if step.says or step.result or step.next:
        console.print(Padding(_words(step, console.width - 4), (0, 0, 0, 4)))
    if explain and step.explain:
        console.print(Padding(Text(step.explain, "italic"), (0, 0, 0, 4)))
    if verbose:
        for field in step.fields:
            _field(console, field, 6)
    if explain or verbose:
        console.print()


def _field(console: Console, field: Field, indent: int) -> None:
    text = Text(_clean(field.name), "cyan")
    if field.value:
        text.append(f": {_clean(field.value)}", "default")
    console.print(Padding(text, (0, 0, 0, indent)))
    for child in field.children:
        _field(console, child, indent + 2)


# --- the tracker ------------------------------------------------------------------------------------------------


def _tracker(console: Console, trace: Trace) -> None:
    console.print(Text("What is true after each step", "bold"))
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("#", justify="right", no_wrap=True, min_width=2)
    has_key = any(step.state.shared_key != "none" for step in trace.steps)
    shown = ["shared key"] if has_key else ["cert.", "client cert."] if wide else ["cert."]
    heads = ["after", "TCP", "handshake", *shown, "key", "channel", "MQTT"]
    for name in heads:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    before: list[str] = []
    for step in trace.steps:
        cells = _cells(step.state, wide=wide, has_key=has_key)
        texts = [
            Text(
                cell,
                "red"
                if "refused" in cell
                else "bold green"
                if index >= len(before) or before[index] != cell
                else "dim",
            )
            for index, cell in enumerate(cells)
        ]
        table.add_row(str(step.number), Text(_clean(step.message), "red" if step.is_bad else ""), *texts)
        before = cells
    console.print(table)
    legend = "C chain received, N name and trust, K key proven, T handshake bound"
    if trace.seat == "broker":
        legend = "C chain sent, N the client went on, so it believes it, K key proven, T handshake bound"
    if trace.tls.resumed:
        legend = "R shown in the session before, T handshake bound"
    if has_key:
        legend = "shown by the client, taken by the server, proven by the Finished of the server"
        console.print(Text(f"shared key  {legend}", "dim"))
    else:
        console.print(Text(f"cert.  {legend}", "dim"))
    for secret in trace.steps[-1].state.secrets if trace.steps else ():
        console.print(Text(_clean(f"key    {secret.name}, {secret.origin}"), "dim"))


def _cells(state: State, *, wide: bool, has_key: bool) -> list[str]:
    key = _KEYS.get(state.secrets[-1].name, "") if state.secrets else "none"
    shown = [state.shared_key] if has_key else _certificate(state, wide=wide)
    return [state.tcp, state.handshake, *shown, key, state.channel, state.mqtt]


def _certificate(state: State, *, wide: bool) -> list[str]:
    ticks = state.certificate
    if ticks.resumed:
        certificate = "RRR" + ("T" if ticks.transcript_bound else "·")
    else:
        known = (
            ("C", ticks.chain_received),
            ("N", ticks.chain_and_name_accepted),
            ("K", ticks.key_possession_proven),
            ("T", ticks.transcript_bound),
        )
        certificate = "".join(letter if is_so else "·" for letter, is_so in known)
    return [certificate, state.client_certificate] if wide else [certificate]


# --- the end ----------------------------------------------------------------------------------------------------


def _closing(console: Console, trace: Trace) -> None:
    if trace.outcome == "ok":
        console.print(Text.assemble(("OK  ", "bold green"), _clean(trace.summary)))
        return
    by = _BY.get(trace.stopped_by or "", "nobody")
    if trace.seat == "broker" and trace.stopped_by == "here":
        by = "the broker"
    console.print(
        Text.assemble(
            ("FAILED", "bold red"),
            f" at {_clean(trace.stopped_at or '')}, ended by {by}  ",
            (f"[{trace.cause}]", "dim"),
        )
    )
    console.print(Text(_clean(trace.summary)))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("evidence", trace.evidence),
        ("so", "; ".join(trace.not_done)),
        ("mend", trace.mend),
        ("then", trace.command),
    ]
    for name, value in rows:
        if value:
            table.add_row(name, Text(_clean(value)))
    console.print(table)


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
