"""How `sealmq sub -F` writes a message: the letters of mosquitto_sub.

It refuses to know where it is written.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.client.message import Message

_TOKEN = re.compile(r"%@(.)|%(.)|\\(.)|([^%\\]+|[%\\])", re.DOTALL)
_ESCAPES = {"\\": "\\", "0": "\0", "a": "\a", "e": "\x1b", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def record(message: Message) -> dict[str, Any]:
    """A message for JSON; a payload that is not UTF-8 is `payload_base64`."""
    found: dict[str, Any] = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    try:
        found["payload"] = message.text
    except UnicodeDecodeError:
        found["payload_base64"] = base64.b64encode(message.payload).decode()
    if message.properties:
        found["properties"] = dict(message.properties)
    return found


def _now() -> datetime:
    return datetime.now().astimezone()


def _text(name: str) -> Callable[[Message], bytes]:
    return lambda message: str(message.properties.get(name, "")).encode()


_LETTERS: dict[str, Callable[[Message], bytes]] = {
    "%": lambda _: b"%",
    "t": lambda message: message.topic.encode(),
    "p": lambda message: message.payload,
    "x": lambda message: message.payload.hex().encode(),
    "X": lambda message: message.payload.hex().upper().encode(),
    "l": lambda message: str(len(message.payload)).encode(),
    "q": lambda message: str(message.qos).encode(),
    "r": lambda message: str(int(message.retain)).encode(),
    "I": lambda _: _now().strftime("%Y-%m-%dT%H:%M:%S%z").encode(),
    "U": lambda _: f"{_now().timestamp():.6f}".encode(),
    "j": lambda message: json.dumps(record(message), ensure_ascii=False).encode(),
    "J": lambda message: json.dumps(record(message), ensure_ascii=False, indent=2).encode(),
    "C": _text("content_type"),
    "E": _text("message_expiry"),
    "F": _text("payload_format"),
    "R": _text("response_topic"),
    "D": lambda message: message.correlation or b"",
    "S": lambda message: ",".join(str(one) for one in message.properties.get("subscription_identifiers", ())).encode(),
    "P": lambda message: " ".join(f"{name}:{value}" for name, value in message.user).encode(),
}


class Format:
    """A format, taken apart once."""

    def __init__(self, text: str, end: str = "\n") -> None:
        """Raises `UsageError` for a letter that stands for nothing."""
        self._parts = [_part(*match.groups()) for match in _TOKEN.finditer(text)]
        self._end = end.encode()

    @classmethod
    def json(cls, end: str) -> Format:
        """One JSON object per message."""
        return cls("%j", end)

    def of(self, message: Message) -> bytes:
        """The message as this format writes it."""
        return b"".join(part(message) for part in self._parts) + self._end


def _part(
    of_time: str | None, letter: str | None, escape: str | None, literal: str | None
) -> Callable[[Message], bytes]:
    if of_time is not None:
        return lambda _: _now().strftime(f"%{of_time}").encode()
    if letter is not None:
        if letter not in _LETTERS:
            raise UsageError(
                f"format has %{letter}, which stands for nothing",
                mend=f"one of {' '.join('%' + one for one in _LETTERS)}, and %@X for strftime",
            )
        return _LETTERS[letter]
    text = (_ESCAPES.get(escape, "\\" + escape) if escape is not None else literal or "").encode(
        "utf-8", "surrogateescape"
    )
    return lambda _: text
