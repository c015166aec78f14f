"""The closing paragraph of a trace: what happened and what it means, for someone who has not read the table.

It refuses to know layout; it returns sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace import brokerside

if TYPE_CHECKING:
    from sealmq.trace.causes import Diagnosis
    from sealmq.trace.causes.evidence import Evidence
    from sealmq.trace.model import Proofs, Step, Tls, Totals, Trace
    from sealmq.trace.story import Story

_KEYS = {
    "key-transport": (
        "The client made the secret and sent it, encrypted to the RSA key in the certificate: whoever gets that key one"
        " day can read everything recorded until then."
    ),
    "key-agreement": (
        "The key was agreed with {group}: it never crossed the wire, and a certificate key stolen later does not reveal"
        " it."
    ),
    "hybrid-pq": (
        "The key was agreed with {group}: it never crossed the wire, and not even a future quantum computer gets it"
        " from a recording."
    ),
    "psk": "The key comes from a secret that both sides had before; nothing was agreed anew.",
}
_OF_SHARED_KEY = {
    True: (
        "The session key comes from that key and from a fresh agreement{group}: who gets it one day cannot read with it"
        " what was recorded before."
    ),
    False: "The session key comes from that key alone: who gets it one day can read everything recorded until then.",
}
"""By whether a fresh agreement is mixed in."""


def of(
    evidence: Evidence,
    diagnosis: Diagnosis | None,
    tls: Tls,
    totals: Totals,
    proofs: Proofs,
    steps: tuple[Step, ...],
    *,
    previous: Trace | None,
) -> str:
    """The paragraph."""
    if diagnosis is not None:
        return _failed(diagnosis)
    parts = [
        _channel(tls),
        *((_server(evidence, tls), key_words(tls)) if tls.has_shared_key else (key_words(tls), _server(evidence, tls))),
        _client(evidence, tls),
    ]
    if evidence.wants_mqtt:
        parts.append(_session(steps))
    parts.append(_cost(totals, previous if tls.resumed else None))
    if previous is not None and not tls.resumed:
        parts.append("The session before was offered, and the server did not take it: this was a full handshake again.")
    parts.append(_proofs(tls, proofs))
    return " ".join(part for part in parts if part)


def of_broker(story: Story, diagnosis: Diagnosis | None, tls: Tls, totals: Totals, proofs: Proofs) -> str:
    """The paragraph of a handshake that a broker recorded."""
    if diagnosis is not None:
        return _failed(diagnosis)
    if not story.has_tls:
        return brokerside.opening(story, tls)
    return " ".join(
        part for part in (brokerside.opening(story, tls), key_words(tls), brokerside.cost(tls, totals, proofs)) if part
    )


def key_words(tls: Tls) -> str:
    """Where the session key came from, and what that is worth later."""
    if tls.has_shared_key:
        group = f" with {tls.group}" if tls.group else ""
        return _OF_SHARED_KEY[bool(tls.group) or "DHE" in tls.cipher].format(group=group)
    return _KEYS.get(tls.key_exchange, "").format(group=tls.group)


def _failed(diagnosis: Diagnosis) -> str:
    return _sentence(diagnosis.sentence)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _channel(tls: Tls) -> str:
    resumed = ", resuming the session before" if tls.resumed else ""
    return f"The channel is {tls.version} with {tls.cipher}{resumed}."


def _server(evidence: Evidence, tls: Tls) -> str:
    if tls.resumed:
        return "The server showed no certificate this time: only the server of the session before can know its secret."
    if tls.has_shared_key:
        return (
            f"Nobody showed a certificate: client and server proved to each other that they have the pre-shared key of"
            f" {tls.psk_identity}. That is all that is known of the server: whoever has a copy of the key can be it."
        )
    if not tls.certificates:
        return ""
    leaf = tls.certificates[0]
    return (
        f"The server is {evidence.server_name}: {leaf.subject} says so, {leaf.issuer} vouches for it, and the server"
        f" proved to hold the key."
    )


def _client(evidence: Evidence, tls: Tls) -> str:
    match tls.client_certificate:
        case "accepted":
            return "This client showed its certificate, and the server accepted it."
        case "sent":
            return "This client showed its certificate; whether the server accepts it, only its answer would tell."
        case "withheld" if evidence.wants_mqtt:
            return "The server asked for a client certificate and did without one."
        case "withheld":
            return "The server asked for a client certificate and got none; it may still refuse."
    return ""


def _session(steps: tuple[Step, ...]) -> str:
    by_name = {(step.message, step.direction): step for step in steps}
    text = "The broker accepted the MQTT session"
    suback, puback = by_name.get(("SUBACK", "received")), by_name.get(("PUBACK", "received"))
    if ("PUBLISH", "received") in by_name:
        return f"{text}; a message was published and came back."
    refused = [step.message for step in (suback, puback) if step is not None and step.is_bad]
    if refused:
        what = {"SUBACK": "to subscribe", "PUBACK": "to publish"}
        return f"{text} and did not allow it {' or '.join(what[name] for name in refused)} on that topic."
    if puback is not None:
        return f"{text} and took a message."
    return f"{text}."


def _cost(totals: Totals, previous: Trace | None) -> str:
    trips = totals.handshake_round_trips
    text = (
        f"Until the channel stood it took {trips} round trip{'s' if trips != 1 else ''}, TCP's included,"
        f" {totals.handshake_bytes} bytes and {totals.handshake_ms:.1f} ms"
    )
    if previous is None or not previous.totals.handshake_bytes:
        return f"{text}."
    before = previous.totals
    saved = before.handshake_bytes - totals.handshake_bytes
    more_or_less = f"{saved} bytes less" if saved >= 0 else f"{-saved} bytes more"
    full = f"the full handshake before took {before.handshake_bytes} bytes and {before.handshake_ms:.1f} ms"
    return f"{text}; {full}, so {more_or_less}."


def _proofs(tls: Tls, proofs: Proofs) -> str:
    if proofs.wrong:
        return ""
    if proofs.unchecked:
        return f"{proofs.right} proofs were recomputed here and are right; {proofs.unchecked} could not be."
    count = {1: "The one proof", 2: "Both proofs"}.get(proofs.right, f"All {proofs.right} proofs")
    verb = "was" if proofs.right == 1 else "were"
    return (
        f"{count} in it, {brokerside.kinds(tls, proofs)}, {verb} recomputed here and"
        f" {'is' if verb == 'was' else 'are'} right."
    )
