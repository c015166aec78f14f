"""How a connection ended without another message, in words for the last step.

It refuses to say why; causes are found elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.says import Said
from sealmq.trace.tls.records import HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping


def words(facts: Mapping[str, object], stage: str) -> Said | None:
    """The texts of the last step; None when a message has said it already."""
    seconds = facts.get("seconds", 0)
    where = {"resolve": "name", "connect": "TCP", "handshake": "handshake", "mqtt": "session"}.get(stage, "connection")
    match facts.get("how"):
        case "dns":
            return Said("the name has no address", "nothing to connect to", "")
        case "refused":
            return Said(f"{facts.get('address', '')} answered with a reset: nothing listens there", "refused", "")
        case "unreachable":
            return Said(f"no way to {facts.get('address', '')} (errno {facts.get('errno', 0)})", "not connected", "")
        case "timeout":
            return Said(f"nothing more came within {seconds} s", f"gave up on the {where}", "")
        case "reset":
            return Said("TCP reset: the other side threw the connection away", f"{where} cut off", "")
        case "eof" if stage != "close":
            return Said("end of stream, without a word of TLS", f"{where} cut off", "")
        case "left" | "closed":
            return Said("this side and the other are done", "TCP connection closed", "")
        case "failed":
            return Said("this side gives the connection up", "TCP connection closed", "")
        case "budget":
            return Said(f"more than {facts.get('over', '')} came", "this side stopped reading", "")
    return None


def cut_short(record: bytes, message: bytes, *, how: str) -> str:
    """What was left unfinished when the bytes ended; empty when nothing was."""
    ended = "and no more came" if how == "timeout" else "when the connection ended"
    if len(record) >= HEADER:
        claimed = int.from_bytes(record[3:5], "big")
        return f"record claims {claimed} bytes, {len(record) - HEADER} were there {ended}"
    if message:
        claimed = int.from_bytes(message[1:4], "big") if len(message) >= 4 else 0
        return f"handshake message claims {claimed} bytes, {max(0, len(message) - 4)} were there {ended}"
    return ""
