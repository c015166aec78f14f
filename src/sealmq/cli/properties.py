"""`-D PACKET NAME VALUE`: properties of MQTT 5 on the command line, as mosquitto's clients take them.

It refuses to know what a property does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealmq.client.message import Properties

_SEPARATOR = "\x1f"
_FLAGS = ("-D", "--property")
_USER = "user-property"

# name on the command line -> (name at the border, whether it is a number)
_MESSAGE = {
    "payload-format-indicator": ("payload_format", True),
    "message-expiry-interval": ("expiry", True),
    "content-type": ("content_type", False),
    "response-topic": ("response_topic", False),
    "correlation-data": ("correlation", False),
    "topic-alias": ("topic_alias", True),
}
_PACKETS: dict[str, dict[str, tuple[str, bool]]] = {
    "connect": {"session-expiry-interval": ("session_expiry", True)},
    "publish": _MESSAGE,
    "will": {
        **{name: how for name, how in _MESSAGE.items() if name != "topic-alias"},
        "will-delay-interval": ("delay", True),
    },
    "subscribe": {"subscription-identifier": ("identifier", True)},
}


class PropertyCommand(TyperCommand):
    """A command whose `-D` takes three words, or four for a user property."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Make each `-D` and its words one option with one value, which is what the parser knows."""
        rest, made = list(args), []
        while rest:
            word = rest.pop(0)
            made.append(word)
            if word in _FLAGS:
                count = 4 if rest[1:2] == [_USER] else 3
                made.append(_SEPARATOR.join(rest[:count]))
                del rest[:count]
        parsed: list[str] = super().parse_args(ctx, made)
        return parsed


class Given:
    """What `-D` gave, by packet."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises `UsageError` for words that are no property."""
        self._values: dict[str, dict[str, Any]] = {}
        for text in texts:
            self._add(text.split(_SEPARATOR))

    def __bool__(self) -> bool:
        return bool(self._values)

    def connect(self) -> dict[str, Any]:
        """Of CONNECT: `session_expiry`, `user`."""
        return dict(self._values.get("connect", {}))

    def subscribe(self) -> dict[str, Any]:
        """Of SUBSCRIBE: `identifier`, `user`."""
        found = dict(self._values.get("subscribe", {}))
        if "user" in found:
            found["user"] = tuple(found["user"])
        return found

    def publish(self, **more: object) -> Properties | None:
        """Of PUBLISH, with `more` fields of `Properties` from other options; None when there are none."""
        return _properties(self._values.get("publish", {}), more)

    def will(self) -> tuple[Properties | None, int]:
        """Of the will, and its delay in seconds."""
        found = dict(self._values.get("will", {}))
        delay = found.pop("delay", 0)
        return _properties(found, {}), delay

    def _add(self, words: list[str]) -> None:
        packet, name, *values = words if len(words) > 1 else [*words, ""]
        known = _PACKETS.get(packet)
        if known is None:
            raise UsageError(f"packet {packet!r} of -D has no properties to set", mend=f"one of {', '.join(_PACKETS)}")
        into = self._values.setdefault(packet, {})
        if name == _USER and len(values) == 2:
            into.setdefault("user", []).append((values[0], values[1]))
            return
        if name not in known or len(values) != 1:
            raise UsageError(
                f"property {name!r} of -D {packet} is not known, or has no value",
                mend=f"one of {', '.join((*known, _USER + ' NAME'))}, and its value",
            )
        key, is_number = known[name]
        if is_number and not values[0].isdecimal():
            raise UsageError(f"property {name} of -D {packet} is a number, not {values[0]!r}")
        into[key] = int(values[0]) if is_number else values[0].encode() if key == "correlation" else values[0]


def _properties(found: dict[str, Any], more: dict[str, object]) -> Properties | None:
    from sealmq.client.message import Properties

    merged = {**found, **{key: value for key, value in more.items() if value not in (None, ())}}
    if not merged:
        return None
    merged["user"] = (*found.get("user", ()), *(more.get("user") or ()))  # type: ignore[misc]
    return Properties(**merged)
