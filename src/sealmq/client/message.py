"""What goes through a connection: a message received, the properties of one to send, a will.

It refuses to know how it travels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - NamedTuple looks at it
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

QoS = Literal[0, 1, 2]
_NONE: Mapping[str, Any] = MappingProxyType({})


class Message(NamedTuple):
    """An incoming PUBLISH; `properties` under the names of `_engine.Client.poll`, empty for MQTT 3.1.1."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Mapping[str, Any] = _NONE

    @classmethod
    def received(cls, raw: tuple[str, bytes, int, bool, str]) -> Message:
        """From the tuple of the data plane."""
        topic, payload, qos, retain, properties = raw
        return cls(topic, payload, qos, retain, json.loads(properties) if properties else _NONE)

    @property
    def text(self) -> str:
        """The payload as UTF-8; raises `UnicodeDecodeError`."""
        return self.payload.decode()

    @property
    def response_topic(self) -> str | None:
        """Where the sender wants an answer (MQTT 5.0 section 3.3.2.3.5)."""
        return self.properties.get("response_topic")

    @property
    def correlation(self) -> bytes | None:
        """What an answer has to repeat (MQTT 5.0 section 3.3.2.3.6)."""
        found = self.properties.get("correlation_hex")
        return None if found is None else bytes.fromhex(found)

    @property
    def user(self) -> list[tuple[str, str]]:
        """The user properties, in the order they came."""
        return [(name, value) for name, value in self.properties.get("user", ())]

    def matches(self, topic_filter: str) -> bool:
        """Whether a topic filter covers the topic (MQTT 5.0 section 4.7); a share name is looked past."""
        levels = topic_filter.split("/")
        if levels[0] == "$share":
            levels = levels[2:]
        names = self.topic.split("/")
        if self.topic.startswith("$") and levels and levels[0] in ("+", "#"):
            return False  # [MQTT-4.7.2-1]
        for place, level in enumerate(levels):
            if level == "#":
                return True
            if place >= len(names) or level not in ("+", names[place]):
                return False
        return len(names) == len(levels)


@dataclass(frozen=True)
class Properties:
    """The properties of a PUBLISH (MQTT 5.0 section 3.3.2.3); `expiry` in seconds."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry: int | None = None
    payload_format: Literal[0, 1] | None = None
    user: tuple[tuple[str, str], ...] = ()
    topic_alias: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """In the shape of `_engine.Client.publish`; what is not set is left out."""
        values: dict[str, Any] = {
            "content_type": self.content_type,
            "response_topic": self.response_topic,
            "correlation_hex": self.correlation.hex() if self.correlation is not None else None,
            "message_expiry": self.expiry,
            "payload_format": self.payload_format,
            "user": [list(pair) for pair in self.user] or None,
            "topic_alias": self.topic_alias,
        }
        return {key: value for key, value in values.items() if value is not None}

    def as_json(self) -> str | None:
        """`as_dict` as text; None when nothing is set."""
        found = self.as_dict()
        return json.dumps(found) if found else None


@dataclass(frozen=True)
class Will:
    """What the server publishes when this client is lost (MQTT 5.0 section 3.1.3.2); `delay` in seconds."""

    topic: str
    payload: bytes = b""
    qos: QoS = 0
    retain: bool = False
    delay: int = 0
    properties: Properties | None = None

    def as_config(self) -> dict[str, Any]:
        """Its part of the configuration that `_engine.Client.open` takes."""
        properties = self.properties.as_dict() if self.properties is not None else {}
        if self.delay:
            properties["will_delay"] = self.delay
        return {
            "topic": self.topic,
            "payload_hex": self.payload.hex(),
            "qos": self.qos,
            "retain": self.retain,
            "properties": properties,
        }
