"""Causes inside the channel: a CONNACK or DISCONNECT that says no, or an answer that is no MQTT.

It refuses to know TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.causes.evidence import REFUSED
from sealmq.trace.causes.transport import what_is_it
from sealmq.trace.fields import printable

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence

_IDENTITY = "use the client id the broker expects (-i): a sealmq broker takes the device's id, alone or before a colon"
_PASSWORD = "the broker wants a user name and password, or does not know this one; sealmq identifies by certificate"  # noqa: S105
_RULES = "let the broker allow this client: its access rules do not"

# code: reason, mend (MQTT 3.1.1, table 3.1)
_V311 = {
    1: ("unacceptable protocol version", "the broker speaks another version: try -V 5"),
    2: ("identifier rejected", _IDENTITY),
    3: ("server unavailable", "wait, then look into the broker's log"),
    4: ("bad user name or password", _PASSWORD),
    5: ("not authorized", _RULES),
}
# MQTT 5.0, table 3.1
_V5 = {
    0x80: ("unspecified error", "look into the broker's log"),
    0x81: ("malformed packet", "the broker could not read the CONNECT; try -V 311"),
    0x82: ("protocol error", "the broker could not accept the CONNECT; try -V 311"),
    0x83: ("implementation specific error", "look into the broker's log"),
    0x84: ("unsupported protocol version", "try -V 311"),
    0x85: ("client identifier not valid", _IDENTITY),
    0x86: ("bad user name or password", _PASSWORD),
    0x87: ("not authorized", _RULES),
    0x88: ("server unavailable", "wait, then look into the broker's log"),
    0x89: ("server busy", "wait, or give the broker more room"),
    0x8A: ("banned", "ask whoever runs the broker"),
    0x8C: ("bad authentication method", "the broker wants extended authentication"),
    0x8E: ("session taken over", "another client has the same client id: give this one its own with -i"),
    0x90: ("topic name invalid", "choose another --topic"),
    0x95: ("packet too large", "raise the broker's packet size"),
    0x97: ("quota exceeded", "raise the broker's quota"),
    0x98: ("administrative action", "the device may have been revoked"),
    0x99: ("payload format invalid", "look into the broker's log"),
    0x9C: ("use another server", "connect to the server named in the properties"),
    0x9D: ("server moved", "connect to the server named in the properties"),
    0x9F: ("connection rate exceeded", "wait before connecting again"),
}


def reason(code: int, version: str) -> tuple[str, str]:
    """A CONNACK or DISCONNECT code in words, and the mend."""
    unknown = ("unknown reason", "look into the broker's log")
    if code < REFUSED and version == "3.1.1":
        return _V311.get(code, unknown)
    # a broker of 3.1.1 alone answers MQTT 5 with its own code
    return _V311.get(code, unknown) if code < REFUSED else _V5.get(code, unknown)


# the codes that have one cause alone, by the name that the broker's record gives it; of others the words tell more
_SLUGS = {
    1: "unsupported-protocol-version",
    2: "client-id-mismatch",
    4: "bad-credentials",
    0x84: "unsupported-protocol-version",
    0x85: "client-id-mismatch",
    0x86: "bad-credentials",
}


def find(evidence: Evidence) -> Found | None:
    """A cause, None when MQTT was not what failed."""
    if not evidence.wants_mqtt:
        return None
    if evidence.not_mqtt:
        kinds = {"plaintext-http": "HTTP", "ssh": "SSH"}
        what = kinds.get(what_is_it(evidence.not_mqtt), "something else")
        said = f"first bytes in the channel {evidence.not_mqtt[:16].hex(' ')}  {printable(evidence.not_mqtt[:16])!r}"
        return Found("not-mqtt", said, "here", {"what": what})
    if evidence.connack > 0:
        words, mend = reason(evidence.connack, evidence.mqtt_version)
        if evidence.mqtt_version == "5.0" and evidence.connack == 1:
            mend = "the broker speaks MQTT 3.1.1 alone: use -V 311"
        code = f"code {evidence.connack}" if evidence.connack < REFUSED else f"0x{evidence.connack:02x}"
        values: dict[str, object] = {"reason": _with_reason(words, evidence), "code": code, "remedy": mend}
        slug = _SLUGS.get(evidence.connack, "connack")
        return Found(slug, f"CONNACK {code}", "server", values)
    if evidence.disconnect >= REFUSED:
        words, _ = reason(evidence.disconnect, "5.0")
        values = {"reason": _with_reason(words, evidence), "code": evidence.disconnect}
        return Found("disconnected", f"DISCONNECT 0x{evidence.disconnect:02x}", "server", values)
    return None


def _with_reason(words: str, evidence: Evidence) -> str:
    return f"{words}, {evidence.reason_string!r}" if evidence.reason_string else words
