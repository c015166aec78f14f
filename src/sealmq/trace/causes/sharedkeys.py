"""Causes in a key shared beforehand: who does not know it, who has another, who wanted something else.

It refuses to guess what a server hides: with one alert for an unknown identity and for a wrong key, both are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.fields import printable
from sealmq.trace.tls import names

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence

# RFC 8446, section 6.2
_HANDSHAKE_FAILURE, _INSUFFICIENT_SECURITY, _UNKNOWN_IDENTITY = 40, 71, 115


def find(evidence: Evidence) -> Found | None:
    """A cause, None when it was no matter of a pre-shared key."""
    if not evidence.has_shared_key:
        return _wanted(evidence)
    facts = evidence.tls
    values: dict[str, object] = {"identity": printable(facts.identity) or "this client"}
    if facts.server_chain and not facts.has_shared_key:
        said = "a Certificate message, after a ServerHello that does not take the key"
        return Found("certificate-instead-of-key", said, "here", values)
    if evidence.alert_received >= 0:
        return _refused(evidence, evidence.alert_received, values)
    if facts.has_shared_key and not evidence.established and (evidence.wrong_proof or evidence.alert_sent >= 0):
        said = evidence.wrong_proof or f"alert {evidence.alert_sent} {names.alert(evidence.alert_sent)} from this side"
        return Found("server-without-key", said, "here", values)
    return None


def _wanted(evidence: Evidence) -> Found | None:
    """A client without a key met a server that wants one, as it shows once it is offered one."""
    suite, number = evidence.would_choose, evidence.alert_received
    if number not in (_HANDSHAKE_FAILURE, _INSUFFICIENT_SECURITY) or suite is None or not suite.has_shared_key:
        return None
    said = f"alert {number} {names.alert(number)} from the server"
    return Found("no-pre-shared-key", f"{said}; offered a pre-shared key it goes on, with {suite.name}", "server")


def _refused(evidence: Evidence, number: int, values: dict[str, object]) -> Found | None:
    facts, stranger, suite = evidence.tls, evidence.to_stranger, evidence.would_choose
    alert = f"alert {number} {names.alert(number)}"
    said = f"{alert} from the server"
    if number == _UNKNOWN_IDENTITY:
        return Found("psk-unknown-identity", said, "server", values)
    if facts.server_hello is None and suite is not None and not suite.has_shared_key:
        return Found("certificate-instead-of-key", f"{said}; with {suite.name} it goes on", "server", values)
    if number not in names.SHARED_KEY_ALERTS or not facts.identity or facts.server_finished:
        return None
    slug = "psk-refused"
    if facts.server_hello is None and stranger:
        said = f"{said}; an identity that nobody has gets {stranger}"
        if stranger != alert:
            slug = "psk-wrong-key"
        elif number == _HANDSHAKE_FAILURE:  # a binder that does not fit has other alerts (RFC 8446, section 6.2)
            slug = "psk-unknown-identity"
    return Found(slug, said, "server", values)
