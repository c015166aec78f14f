"""The reason codes of MQTT 5.0 section 2.4 that a publish or a subscribe can end with, in words and with a mend.

It refuses to know the rules of a broker; the mends speak of what sealmq does by default.
"""

from __future__ import annotations

from sealmq.errors import NotSo

FAILURE = 0x80  # section 2.4: from here on a reason code says no

_WORDS = {
    0x00: "success",
    0x01: "granted QoS 1",
    0x02: "granted QoS 2",
    0x10: "no matching subscribers",
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "receive maximum exceeded",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
    0x9E: "shared subscriptions not supported",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}

_MENDS = {
    0x80: "a broker speaking MQTT 3.1.1 gives no reason; try -V 5",
    0x87: "use a topic under devices/ID/ or shared/, or add a rule to rules.toml of the data folder and reload",
    0x8F: "check the wildcards: + is a whole level, # the whole last one",
    0x90: "a topic to publish on has no wildcards and is not empty",
    0x97: "wait, or raise the limit in sealmq.toml (`sealmq config explain` lists them)",
}


def name(code: int) -> str:
    """A reason code in the words of the standard."""
    return _WORDS.get(code, "unknown reason")


def refusal(action: str, topic: str, code: int) -> NotSo:
    """The error for a `publish to` or `subscribe to` that was answered with a code from 0x80 up."""
    return NotSo(
        f"{action} {topic} was refused: {name(code)} (reason code 0x{code:02x})",
        mend=_MENDS.get(code, ""),
        code=f"reason-0x{code:02x}",
    )
