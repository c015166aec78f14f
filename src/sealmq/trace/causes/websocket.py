"""Causes between channel and MQTT: a WebSocket that was not opened, or that broke.

It refuses to know HTTP and frames; what was wrong with them was found when they were told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence
    from sealmq.trace.model import StoppedBy


def find(evidence: Evidence) -> Found | None:
    """A cause, None when there was no WebSocket or nothing was wrong with it."""
    if evidence.websocket_fault:
        by: StoppedBy = "server" if evidence.websocket_fault == "http-status" else "here"
        values: dict[str, object] = {"what": evidence.websocket_said}
        return Found(evidence.websocket_fault, evidence.websocket_said, by, values)
    if evidence.stage != "upgrade":
        return None
    if evidence.how == "timeout":
        return Found("upgrade-stalled", "nothing came back after the upgrade request", "server")
    if evidence.how in ("eof", "closed", "reset"):
        return Found("closed-before-upgrade", f"{evidence.how} after the upgrade request", "server")
    return None
