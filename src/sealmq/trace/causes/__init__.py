"""Why a traced connection failed: one table of causes, and the rules that find one by its evidence.

It refuses to read error texts: bytes, alert numbers, verify codes, and what both sides said are all it goes by. To add
a cause, give it a row in `table` and a rule in the module of its stage; a rule returns None when it does not apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Diagnosis, Found, diagnose

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence

__all__ = ["Diagnosis", "classify"]


def classify(evidence: Evidence) -> Diagnosis | None:
    """The cause of a failure, None when there was none.

    Rules are asked in the order of certainty: what the peer is, what a pre-shared key or a certificate has, what an
    alert says, what the WebSocket and MQTT say, and last how the connection ended.
    """
    from sealmq.trace.causes import alerts, certificates, endings, mqtt, sharedkeys, transport, websocket

    if not evidence.failed:
        return None
    for stage in (transport, sharedkeys, certificates, alerts, websocket, mqtt, endings):
        found = stage.find(evidence)
        if found is not None:
            return diagnose(found, evidence)
    return diagnose(Found("unknown", "nothing that is known here fits"), evidence)
