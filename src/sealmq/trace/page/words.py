"""What the picture says of a step and of the state after it: short words, cleaned and escaped.

It refuses to know where on the page they stand.
"""

from __future__ import annotations

import html
from importlib import resources
from typing import TYPE_CHECKING

from sealmq.trace.tracker import APPLICATION_SECRETS, HANDSHAKE_SECRETS, MASTER_SECRET

if TYPE_CHECKING:
    from sealmq.trace.model import State, Step, Trace

WAYS = {"client": "client → server", "server": "server → client", "here": "here"}
UNDER = {
    "none": "",
    "plain": "in clear",
    "handshake": "handshake key",
    "application": "session key",
    "tls12": "session key",
}
TRACKED = ("TCP", "handshake", "certificate", "client cert.", "key", "channel", "MQTT")
"""The columns of the tracker, in the order of `tracked`."""

_KEYS = {HANDSHAKE_SECRETS: "handshake", APPLICATION_SECRETS: "session", MASTER_SECRET: "session"}


def clean(text: str) -> str:
    """`text` without what could steer a screen: controls, marks of direction and half characters become U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def escaped(text: str) -> str:
    """`text` as text of HTML and XML, also between quotes."""
    return html.escape(clean(text))


def cut(text: str, length: int) -> str:
    """At most `length` characters of `text`."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def way(step: Step) -> str:
    """Who sent it to whom; for what ended the connection without a message, who that was."""
    return step.who if step.direction == "none" else WAYS[step.who]


def size(step: Step) -> str:
    """Bytes on the wire, with the records where they are several; empty for what was not on the wire."""
    if not step.bytes:
        return ""
    unit = "byte" if step.bytes == 1 else "bytes"
    return f"{step.bytes} {unit}" if step.records <= 1 else f"{step.bytes} {unit} in {step.records}"


def sentence(step: Step, total: int) -> str:
    """A step as it is read aloud."""
    parts = [f"Step {step.number} of {total}: {step.message}", way(step), size(step), UNDER[step.protection]]
    spoken = ", ".join(part for part in parts if part)
    told = [spoken, "this is where it went wrong" if step.is_bad else "", step.says]
    told += [f"Result: {step.result}" if step.result else "", f"Next: {step.next}" if step.next else ""]
    return clean(". ".join(part.rstrip(".") for part in told if part) + ".")


def tracked(state: State) -> tuple[str, ...]:
    """The cells of the tracker, one for each of `TRACKED`."""
    key = _KEYS.get(state.secrets[-1].name, state.secrets[-1].name) if state.secrets else "none"
    cells = (state.tcp, state.handshake, _certificate(state), state.client_certificate, key, state.channel, state.mqtt)
    return tuple(clean(cell) for cell in cells)


def _certificate(state: State) -> str:
    shown = state.certificate
    if state.shared_key != "none":
        return f"none: pre-shared key {state.shared_key}"
    parts = (
        ("earlier session", shown.resumed),
        ("chain", shown.chain_received),
        ("name and trust", shown.chain_and_name_accepted),
        ("key proven", shown.key_possession_proven),
        ("bound", shown.transcript_bound),
    )
    known = ", ".join(word for word, is_so in parts if is_so)
    return f"✓ {known}" if known else "none"


def stop(trace: Trace) -> Step | None:
    """The step at which a failed trace stopped; None when it did not fail, or has no steps."""
    if trace.outcome == "ok" or not trace.steps:
        return None
    bad = [step for step in trace.steps if step.is_bad]
    named = [step for step in bad if step.message == trace.stopped_at]
    return next(iter(named or bad), trace.steps[-1])


def stopped_by(trace: Trace) -> str:
    """Who ended it."""
    here = "the broker" if trace.seat == "broker" else "this side"
    known = {"here": here, "client": "the client", "server": "the server", "network": "the network"}
    return known.get(trace.stopped_by or "", "nobody")


def text_file(name: str) -> str:
    """A file that is packaged beside this module."""
    return resources.files("sealmq.trace.page").joinpath(name).read_text("utf-8")
