"""A handshake as the broker recorded it: its pieces made into a recording, its verdict into a diagnosis and words.

It refuses to ask a broker for anything, and to judge: who was turned away and why stands in the broker's own record.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealmq.errors import PeerFault
from sealmq.trace.causes.diagnosis import Diagnosis
from sealmq.trace.recording import Conditions, Event, Recording
from sealmq.trace.says import Said
from sealmq.trace.tls import names
from sealmq.trace.tls.records import HEADER

if TYPE_CHECKING:
    from sealmq.trace.model import Proofs, StoppedBy, Tls, Totals
    from sealmq.trace.story import Story

RECORDED = "recorded"
"""How a recording of the broker ends: with its verdict, not with the connection."""
_FINISHED = 2  # of them in each handshake
_SCHEMES = {"mqtts": "mqtts", "wss": "wss", "psk": "mqtts+psk", "plaintext": "mqtt"}


def recording_of(document: dict[str, Any]) -> Recording:
    """A recording from what `Node.record_next` returned, shapes there; `in` counts as sent, by the client.

    Raises `PeerFault` with code `broker-answer` when it is not of that shape.
    """
    try:
        refusal = document.get("refusal") or {}
        kind, _, address = str(document.get("listener") or refusal["listener"]).partition(" ")
        peer = str(document.get("peer") or refusal["peer"])
        events = [Event(0.0, "connected", facts={"address": address, "peer": peer}), Event(0.0, "phase", facts=_PHASE)]
        events += [Event(0.0, "secret", str(line).encode()) for line in document["keys"]]
        at = 0.0
        for microseconds, side, text in document["pieces"]:
            at = microseconds / 1000
            data = base64.b64decode(text, validate=True)
            events += [Event(at, "sent" if side == "in" else "received", record) for record in _records(data)]
        facts = {
            "how": RECORDED,
            "peer": peer,
            "device": str(document.get("device") or ""),
            "refusal": refusal,
            "cut": bool(document.get("cut")),
        }
        events.append(Event(at, "ended", facts=facts))
        began = datetime.fromtimestamp(document["began_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise PeerFault(
            "recording of the broker is not understood",
            mend="restart the broker: it is of another version than this command",
            code="broker-answer",
        ) from error
    conditions = Conditions(f"{_SCHEMES.get(kind, 'tls')}://{address}", "", began, seat="broker")
    return Recording(conditions, (tuple(events),))


_PHASE = {"name": "handshake"}


def _records(data: bytes) -> list[bytes]:
    """A flight cut into records, the rest as it is; bytes that are no TLS stay in one piece."""
    parts = []
    while len(data) > HEADER and 20 <= data[0] <= 23:
        size = HEADER + int.from_bytes(data[3:HEADER], "big")
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data] if data else parts


# --- what a step of the broker says ------------------------------------------------------------------------------


def refusal_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The refusal record of the last event, empty when the client was accepted."""
    found = facts.get("refusal")
    return found if isinstance(found, dict) else {}


def check(facts: dict[str, Any]) -> tuple[Said, bool]:
    """The check of the client's certificate as a step, and whether it went badly."""
    refusal = refusal_of(facts)
    if refusal.get("stage") == "certificate":
        return Said(str(refusal.get("summary", "")), "REFUSED: this client is not believed", "an alert to it"), True
    device = facts.get("device")
    is_device = f", it is device {device}" if device else ""
    return Said(f"chain leads to the CA of the devices, dates and purpose are right{is_device}", "accepted", ""), False


def verdict(facts: dict[str, Any]) -> Said:
    """The last step: what the broker made of the connection."""
    refusal = refusal_of(facts)
    if refusal:
        return Said(str(refusal.get("summary", "")), f"refused: {refusal.get('cause', 'unknown')}", "")
    cut = "; more came than is kept" if facts.get("cut") else ""
    return Said(f"the broker has answered the CONNECT{cut}", "accepted", "the session goes on, unrecorded")


# --- what the whole says -----------------------------------------------------------------------------------------


def diagnosis(story: Story, *, connect_read: bool) -> Diagnosis | None:
    """The broker's refusal as a diagnosis, in its own words; None when it accepted."""
    refusal = refusal_of(story.ending)
    if not refusal:
        return None
    by: StoppedBy = "client" if story.alert_sent >= 0 or str(refusal.get("cause")).startswith("closed-") else "here"
    evidence = [f"stage {refusal.get('stage', '')}"]
    if story.alert_sent >= 0:
        evidence.append(f"alert {story.alert_sent} {names.alert(story.alert_sent)} from the client")
    if story.alert_received >= 0:
        evidence.append(f"alert {story.alert_received} {names.alert(story.alert_received)} from the broker")
    certificate = refusal.get("certificate")
    device = ""
    if isinstance(certificate, dict):
        device = str(certificate.get("device") or "")
        evidence.append(f"certificate serial {certificate.get('serial', '')}, not_after {certificate.get('not_after')}")
    if story.not_tls:
        evidence.append(f"first bytes {story.first_bytes[:16].hex(' ')}")
    missing = [] if story.channel_at >= 0 or not story.has_tls else ["no session key came into use"]
    missing.append("no MQTT session began" if connect_read else "no CONNECT was read")
    return Diagnosis(
        str(refusal.get("cause", "unknown")),
        str(refusal.get("summary", "")),
        str(refusal.get("mend", "")),
        f"sealmq trace --device {device}" if device else "sealmq trace --next",
        "; ".join(evidence),
        by,
        tuple(missing),
    )


def opening(story: Story, tls: Tls) -> str:
    """The first sentences of the closing paragraph of an accepted client."""
    device = story.ending.get("device")
    who = f"device {device}" if device else "a client without certificate"
    if not story.has_tls:
        peer = story.ending.get("peer", "")
        return f"The broker accepted {who} from {peer} without TLS: anyone on the way can read and change what is said."
    resumed = ", resuming the session before" if tls.resumed else ""
    peer = story.ending.get("peer", "")
    return f"The broker accepted {who} from {peer} over {tls.version} with {tls.cipher}{resumed}. {_shown(tls)}"


def _shown(tls: Tls) -> str:
    """By what the client was known."""
    if tls.resumed:
        return "It showed no certificate this time: only the client of the session before can know its secret."
    if tls.has_shared_key:
        who = tls.psk_identity
        return f"It showed no certificate: it proved to have the pre-shared key of {who}, and so did the broker."
    if tls.client_certificate in ("sent", "accepted"):
        return "It showed its certificate, proved to hold the key, and went on after the broker's: so it trusts it."
    return "It showed no certificate."


def kinds(tls: Tls, proofs: Proofs) -> str:
    """What was proven in a handshake."""
    if not tls.has_shared_key:
        return "signatures and Finished"
    return "Finished and what follows from the key" if proofs.right > _FINISHED else "the two Finished"


def cost(tls: Tls, totals: Totals, proofs: Proofs) -> str:
    """What it took, and whether the trace could prove its decoding."""
    words = f"The handshake took {totals.handshake_bytes} bytes and {totals.handshake_ms:.1f} ms, seen from the broker."
    if proofs.wrong or proofs.unchecked:
        return words
    count = "Both" if proofs.right == _FINISHED else f"All {proofs.right}"
    return f"{words} {count} proofs in it, {kinds(tls, proofs)}, were recomputed here and are right."
