"""Requests that await their answer, by correlation data (MQTT 5.0 section 4.10).

It refuses to publish and to subscribe; the client does.
"""

from __future__ import annotations

import asyncio
import secrets

from sealmq.client.message import Message
from sealmq.errors import UsageError

_MARK = '"correlation_hex"'


class Requests:
    """What was asked and not yet answered."""

    def __init__(self) -> None:
        self._expected: dict[bytes, asyncio.Future[Message]] = {}
        self._token = secrets.token_hex(4)

    def __bool__(self) -> bool:
        return bool(self._expected)

    def own_topic(self, version: str, device: str) -> str:
        """Where answers are wanted: a topic under the device's own. Raises `UsageError`."""
        if version != "5.0":
            raise UsageError("MQTT 3.1.1 has no requests", mend="use MQTT 5")
        if not device:
            raise UsageError(
                "client has no topic of its own for the answer", mend="give response_topic=, or a device certificate"
            )
        return f"devices/{device}/answers/{self._token}"

    def expect(self) -> tuple[bytes, asyncio.Future[Message]]:
        """New correlation data, and the answer to come."""
        correlation = secrets.token_bytes(8)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._expected[correlation] = answer
        return correlation, answer

    def forget(self, correlation: bytes) -> None:
        """Nobody waits for that answer any more."""
        self._expected.pop(correlation, None)

    def take(self, raw: tuple[str, bytes, int, bool, str]) -> bool:
        """Whether a message is an answer that is waited for; if so it is given to who waits."""
        if _MARK not in raw[4]:
            return False
        message = Message.received(raw)
        answer = self._expected.get(message.correlation or b"")
        if answer is None or message.response_topic is not None:
            return False
        if not answer.done():
            answer.set_result(message)
        return True
