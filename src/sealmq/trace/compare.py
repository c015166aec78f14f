"""Two traces side by side: steps, round trips, bytes each way, time, and what the second saved.

It refuses to know how they were made and how they are shown.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealmq.trace.model import Trace

SCHEMA = 1
_TIMES = ("handshake_ms", "handshake_cpu_ms", "server_cpu_ms", "duration_ms")


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of both, the second less the first; `unit` is empty for a count."""

    name: str
    unit: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """Below 0 where the second needs less."""
        return round(self.second - self.first, 3)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two traces, the measures of both, and in words what the second saved.

    `only_first` and `only_second` are the messages up to the channel that the other did without, in their order.
    """

    first: Trace
    second: Trace
    rows: tuple[Row, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    summary: str


def compare(first: Trace, second: Trace) -> Comparison:
    """Compare what two handshakes took; one that failed is measured as far as it came."""
    rows = tuple(Row(name, unit, *pair) for name, unit, pair in _measures(first, second))
    one, other = handshake_messages(first), handshake_messages(second)
    only_first, only_second = _without(one, other), _without(other, one)
    return Comparison(first, second, rows, only_first, only_second, _summary(first, second, rows, only_first))


def median(rounds: list[Trace]) -> Trace:
    """The last of several traces of the same form, with the medians of what they took in time; a failed one first."""
    failed = next((one for one in rounds if one.outcome == "failed"), None)
    if failed is not None:
        return failed
    totals = [one.totals for one in rounds]
    typical = {name: statistics.median(getattr(one, name) for one in totals) for name in _TIMES}
    return dataclasses.replace(rounds[-1], totals=dataclasses.replace(totals[-1], **typical))


def to_json(comparison: Comparison) -> dict[str, object]:
    """As values that `json.dumps` takes; the traces by what was negotiated, `sealmq trace --json` has the rest."""
    return {
        "schema": SCHEMA,
        "first": _side(comparison.first),
        "second": _side(comparison.second),
        "rows": [
            {
                "name": row.name,
                "unit": row.unit,
                "first": row.first,
                "second": row.second,
                "difference": row.difference,
            }
            for row in comparison.rows
        ],
        "only_first": list(comparison.only_first),
        "only_second": list(comparison.only_second),
        "summary": comparison.summary,
    }


def label(trace: Trace) -> str:
    """A handshake in a few words: `TLS 1.3, X25519, resumed`."""
    if trace.outcome == "failed":
        return f"failed: {trace.cause}"
    tls = trace.tls
    form = "resumed" if tls.resumed else "pre-shared key" if tls.has_shared_key else "full"
    agreed = tls.group or ("" if tls.has_shared_key else tls.key_exchange)
    return ", ".join(word for word in (tls.version, agreed, form) if word)


def handshake_messages(trace: Trace) -> tuple[str, ...]:
    """The messages on the wire until the channel stood, as `client Finished`; what this side does alone is left out."""
    names = []
    for step in trace.steps:
        if step.who != "here" and step.direction != "none":
            names.append(f"{step.who} {step.message}")
        if step.state.channel == "open":
            break
    return tuple(names)


def _measures(first: Trace, second: Trace) -> list[tuple[str, str, tuple[float, float]]]:
    one, other = first.totals, second.totals
    return [
        (
            "messages until the channel stands",
            "",
            (len(handshake_messages(first)), len(handshake_messages(second))),
        ),
        ("round trips, TCP's included", "", (one.handshake_round_trips, other.handshake_round_trips)),
        ("bytes sent in the handshake", "bytes", (one.handshake_sent, other.handshake_sent)),
        ("bytes received in the handshake", "bytes", (one.handshake_received, other.handshake_received)),
        ("time of the handshake", "ms", (one.handshake_ms, other.handshake_ms)),
        ("CPU of TLS in it, this side", "ms CPU", (one.handshake_cpu_ms, other.handshake_cpu_ms)),
        *(
            [("CPU of the server, in all", "ms CPU", (one.server_cpu_ms, other.server_cpu_ms))]
            if one.server_cpu_ms or other.server_cpu_ms
            else []
        ),
        ("certificates shown by the server", "", (len(first.tls.certificates), len(second.tls.certificates))),
        ("bytes sent in all", "bytes", (one.sent, other.sent)),
        ("bytes received in all", "bytes", (one.received, other.received)),
    ]


def _without(names: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    left = list(others)
    only = []
    for name in names:
        if name in left:
            left.remove(name)
        else:
            only.append(name)
    return tuple(only)


def _side(trace: Trace) -> dict[str, object]:
    tls = trace.tls
    return {
        "url": trace.url,
        "outcome": trace.outcome,
        "cause": trace.cause,
        "label": label(trace),
        "version": tls.version,
        "cipher": tls.cipher,
        "group": tls.group,
        "key_exchange": tls.key_exchange,
        "resumed": tls.resumed,
        "messages": list(handshake_messages(trace)),
    }


def _summary(first: Trace, second: Trace, rows: tuple[Row, ...], gone: tuple[str, ...]) -> str:
    failed = [which for which, one in (("first", first), ("second", second)) if one.outcome == "failed"]
    if failed:
        return f"The {' and the '.join(failed)} failed, so nothing was saved; the numbers go as far as it came."
    by_name = {row.name: row.difference for row in rows}
    count = by_name["bytes sent in the handshake"] + by_name["bytes received in the handshake"]
    trips, took = by_name["round trips, TCP's included"], by_name["time of the handshake"]
    whole = first.totals.handshake_bytes
    share = f" ({abs(count) / whole:.0%})" if whole else ""
    words = [
        f"{abs(count):.0f} bytes {_less(count)}{share}",
        f"{abs(trips):.0f} round trip{'s' if abs(trips) != 1 else ''} {_less(trips)}"
        if trips
        else "as many round trips",
        f"{abs(took):.1f} ms {_less(took)}",
    ]
    text = f"Until the channel stood the second handshake took {', '.join(words[:-1])} and {words[-1]}."
    if second.tls.resumed and not first.tls.resumed:
        text += " It resumed a session: no certificate was sent, checked or signed with, the secret of before did it."
    if second.tls.has_shared_key and not first.tls.has_shared_key:
        text += (
            " Both sides knew a key beforehand: no certificate was sent, checked or signed with, and no name is proven."
        )
    if gone:
        text += f" It did without {', '.join(gone)}."
    return text


def _less(difference: float) -> str:
    return "less" if difference <= 0 else "more"
