"""Causes of which nothing is known but how and when the connection ended: silence, an end, a reset.

It refuses to guess beyond the stage; these are asked last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence


def find(evidence: Evidence) -> Found | None:
    """A cause, None when the end says nothing."""
    answered = bool(evidence.first_bytes)
    if evidence.how == "budget":
        return Found("too-much", f"more than {evidence.over} came", "here")
    if evidence.malformed:
        return Found("malformed-tls", evidence.malformed, "here")
    if evidence.stage == "handshake":
        return _in_handshake(evidence, answered=answered)
    if evidence.stage in ("mqtt", "close") and evidence.wants_mqtt:
        return _in_session(evidence)
    if evidence.how == "reset":
        return Found("connection-reset", f"errno {evidence.errno}", "server", {"when": "after the handshake"})
    if evidence.how == "eof":
        return Found("cut-off", "end of stream without close_notify", "server")
    return None


def _in_handshake(evidence: Evidence, *, answered: bool) -> Found | None:
    if evidence.how == "failed":
        return Found("handshake-broken", "no alert before the end", "here", {"how": "without an alert"})
    if evidence.how == "timeout":
        return Found(
            "handshake-stalled", "no byte came" if not answered else "a part of the answer came, and no more", "server"
        )
    if evidence.how == "eof" and not answered:
        return Found("closed-at-accept", "end of stream before any byte", "server")
    if evidence.how == "eof":
        return Found("closed-during-handshake", "end of stream, no alert before it", "server")
    if evidence.how == "reset":
        when = "in the handshake" if answered else "instead of answering the ClientHello"
        return Found("connection-reset", f"errno {evidence.errno}", "server", {"when": when})
    return None


def _in_session(evidence: Evidence) -> Found | None:
    waiting = evidence.connack < 0
    if evidence.how in ("eof", "closed", "reset"):
        words = {"eof": "end of stream without close_notify", "closed": "close_notify", "reset": "reset"}[evidence.how]
        return Found("closed-before-connack" if waiting else "closed-in-session", words, "server")
    if waiting:
        return Found("connack-stalled", "nothing came back after the CONNECT", "server")
    if evidence.how == "timeout":
        return Found("session-stalled", "no answer", "server")
    return None
