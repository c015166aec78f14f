"""MQTT packets for a trace, to and from bytes, by the broker's own codec.

It refuses to know sockets and TLS. Payloads and passwords cross as their length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealmq.trace.fields import MOST_ITEMS, Field, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sealmq.trace.request import MqttVersion

_FIRST_BYTES = b"\x20\xe0\xf0"
"""What a server may send first: CONNACK, DISCONNECT, AUTH [MQTT-3.2.0-1]."""
_UNSHOWN = {"kind", "bytes"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: `kind` as `CONNACK`, `size` in bytes before TLS, `facts` by the specification's names."""

    kind: str
    size: int
    facts: Mapping[str, Any]

    @property
    def code(self) -> int:
        """Its return or reason code, 0 when it has none."""
        code = self.facts.get("code", 0)
        return code if isinstance(code, int) else 0

    @property
    def reason_string(self) -> str:
        """What the sender says of its code (MQTT 5.0, section 3.2.2.3.9), safe to show; empty without."""
        listed = self.facts.get("properties")
        pairs = dict(pair for pair in listed if len(pair) == 2) if isinstance(listed, list) else {}
        said = pairs.get("reason_string")
        return shown(said) if isinstance(said, str) and said else ""

    @property
    def fields(self) -> tuple[Field, ...]:
        """All there is in it, in the codec's order."""
        return tuple(_field(name, value) for name, value in self.facts.items() if name not in _UNSHOWN)


def load() -> None:
    """Load the codec, so that the first packet does not wait for it."""
    from sealmq import _engine  # noqa: F401


def can_begin(data: bytes) -> bool:
    """Whether the first bytes of a server can be MQTT; any letter could be the beginning of a long packet otherwise."""
    return data[:1] != b"" and data[0] in _FIRST_BYTES


def decode(version: MqttVersion, data: bytes) -> tuple[list[Packet], int, str]:
    """The whole packets at the start of `data`, the bytes they took, and what was wrong after them, empty if
    nothing."""
    from sealmq import _engine

    texts, used, fault = _engine.decode_packets(version, data)
    packets = []
    for text in texts:
        facts = json.loads(text)
        packets.append(Packet(str(facts.get("kind", "")), int(facts.get("bytes", 0)), facts))
    return packets, used, fault or ""


def connect(version: MqttVersion, *, client_id: str, keep_alive: int = 30) -> bytes:
    """A CONNECT with a clean start (MQTT 5.0, section 3.1)."""
    return _encode(version, kind="CONNECT", client_id=client_id, keep_alive=keep_alive, clean_start=True)


def subscribe(version: MqttVersion, topic: str) -> bytes:
    """A SUBSCRIBE to one topic at QoS 0, packet id 1 (section 3.8)."""
    return _encode(version, kind="SUBSCRIBE", packet_id=1, filter=topic, qos=0)


def publish(version: MqttVersion, topic: str, payload: str) -> bytes:
    """A PUBLISH at QoS 1, packet id 2 (section 3.3)."""
    return _encode(version, kind="PUBLISH", packet_id=2, topic=topic, payload=payload, qos=1, retain=False)


def disconnect(version: MqttVersion) -> bytes:
    """A DISCONNECT without a reason (section 3.14)."""
    return _encode(version, kind="DISCONNECT")


def _encode(version: MqttVersion, **packet: object) -> bytes:
    from sealmq import _engine

    return bytes(_engine.encode_packet(version, json.dumps(packet)))


def _field(name: str, value: object) -> Field:
    if isinstance(value, list):
        listed = value[:MOST_ITEMS]
        if name == "properties":
            return Field(name, str(len(value)), tuple(_field(str(one), other) for one, other in listed))
        return Field(name, ", ".join(shown(item) for item in listed) or "(none)")
    return Field(name, shown(value))


def shown(value: object) -> str:
    """A value as text that cannot steer a terminal."""
    if isinstance(value, str):
        return printable(value.encode("utf-8", "replace")) or "(empty)"
    return "(none)" if value is None else printable(json.dumps(value).encode())
