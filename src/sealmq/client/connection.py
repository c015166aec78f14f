"""One MQTT connection over verified TLS, as blocking calls.

It refuses to reconnect and to run callbacks: a call returns when the thing is done or raises why it is not.
"""

from __future__ import annotations

import functools
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from sealmq.client.identity import Identity
from sealmq.client.message import Message, Properties
from sealmq.client.opening import Opening
from sealmq.client.reasons import FAILURE, refusal
from sealmq.enginefaults import from_engine
from sealmq.errors import NotSo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from sealmq._engine import Client
    from sealmq.client.opening import OpeningOptions
    from sealmq.client.subscription import SubscribeOptions
    from sealmq.client.target import Target
    from sealmq.tls.presharedkey import Psk

_T = TypeVar("_T")

__all__ = ["Connection", "Identity", "Message", "Properties"]

_SLICE_MS = 200  # between two looks at signals, so that Ctrl-C is obeyed while waiting
_BATCH = 1000  # messages fetched at once
_GOODBYE_MS = 5000


class Connection:
    """An open connection; a context manager. Calls may come from one thread at a time."""

    def __init__(self, client: Client) -> None:
        """For `open` only."""
        self._client = client
        self._fetched: deque[tuple[str, bytes, int, bool, str]] = deque()
        self._results: dict[int, bytes] = {}

    @classmethod
    def open(cls, target: Target, identity: Identity | Psk, **options: Unpack[OpeningOptions]) -> Connection:
        """Connect, verify the server, send CONNECT, wait for CONNACK; `options` are the fields of `Opening`.

        `identity` is a `Psk` for `mqtts+psk://`.

        Raises `NotSo` (code `connection-refused`, `timeout`, `tls-…`, `connack`), `Environment` (`dns`), `PeerFault`.
        """
        from sealmq import _engine

        opening = Opening(target=target, **options)
        try:
            found = cls(_engine.Client.open(opening.as_json(identity, clean_start=opening.clean_start), None))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        found._wait(found._client.connack, opening.timeout + 1, "CONNACK")
        return found

    def connack(self) -> dict[str, Any]:
        """What the server answered: `session_present`, `reason_code`, `assigned_client_id`, `tls`, …"""
        found: dict[str, Any] = json.loads(self._wait(lambda _: self._client.connack(0), 0, "CONNACK"))
        return found

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
        timeout: float = 10.0,
    ) -> int:
        """Publish; for QoS 1 and 2 wait until the exchange is complete. The reason code, below 0x80.

        Raises `NotSo` with code `reason-0x87` and the like when the server refuses, `timeout` or `closed`.
        """
        ticket = self._start(topic, payload, qos, retain, properties, timeout)
        self._flush()
        if ticket == 0:
            return 0
        code = self._wait(lambda slice_ms: self._client.result(ticket, slice_ms), timeout, "acknowledgement")[0]
        if code >= FAILURE:
            raise refusal("publish to", topic, code)
        return code

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[bytes | None],
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
        timeout: float = 10.0,
    ) -> Iterator[int]:
        """Publish one after the other without waiting in between; the reason code of each, in the order they come.

        None among the payloads says that the next one is not there yet: what was published goes out and is waited for.
        Raises as `publish` does; `timeout` is for each step.
        """
        under_way: set[int] = set()
        for payload in payloads:
            if payload is None:
                self._flush()
                while under_way:
                    yield from self._finished(topic, under_way, timeout)
                continue
            ticket = self._start(topic, payload, qos, retain, properties, timeout)
            if ticket == 0:
                yield 0
            else:
                under_way.add(ticket)
            if len(under_way) >= _BATCH:
                yield from self._finished(topic, under_way, timeout)
        self._flush()
        while under_way:
            yield from self._finished(topic, under_way, timeout)

    def subscribe(
        self, filters: Sequence[str], *, qos: int = 0, options: SubscribeOptions | None = None, timeout: float = 10.0
    ) -> list[int]:
        """Subscribe to all `filters`; the granted QoS of each. Raises `NotSo` for the first that the server refuses."""
        from sealmq.client.subscription import SubscribeOptions

        chosen = options or SubscribeOptions()
        ticket = self._call(lambda: self._client.subscribe([chosen.of(one, qos) for one in filters], chosen.as_json()))
        codes = self._wait(lambda slice_ms: self._client.result(ticket, slice_ms), timeout, "SUBACK")
        for topic_filter, code in zip(filters, codes, strict=True):
            if code >= FAILURE:
                raise refusal("subscribe to", topic_filter, code)
        return list(codes)

    def unsubscribe(self, filters: Sequence[str], *, timeout: float = 10.0) -> list[int]:
        """Unsubscribe; the reason code of each, 0x11 when there was no such subscription."""
        ticket = self._call(lambda: self._client.unsubscribe(list(filters)))
        return list(self._wait(lambda slice_ms: self._client.result(ticket, slice_ms), timeout, "UNSUBACK"))

    def next_message(self, *, timeout: float | None = None) -> Message | None:
        """The next message, or None after `timeout` seconds. Raises `NotSo` (`closed`) once the server is gone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._fetched:
            left = _SLICE_MS if deadline is None else int((deadline - time.monotonic()) * 1000)
            self._fetch(max(0, min(_SLICE_MS, left)))
            if left <= 0:
                break
        return Message.received(self._fetched.popleft()) if self._fetched else None

    def messages(self, *, timeout: float | None = None) -> Iterator[Message]:
        """Messages as they come, until `timeout` seconds have passed altogether (for ever when None)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            found = self.next_message(timeout=left)
            if found is None:
                return
            yield found

    def close(self) -> None:
        """Say DISCONNECT and close. Idempotent."""
        self._client.disconnect(_GOODBYE_MS)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None, timeout: float
    ) -> int:
        fields = properties.as_json() if properties is not None else None
        while True:
            ticket = self._call(lambda: self._client.publish(topic, payload, qos, retain, fields))
            if ticket is not None:
                return ticket
            self._flush()
            self._wait(lambda slice_ms: self._client.has_room(slice_ms) or None, timeout, "room for more")

    def _finished(self, topic: str, under_way: set[int], timeout: float) -> Iterator[int]:
        """The codes of those that are over, waiting for the first."""
        self._flush()
        deadline = time.monotonic() + timeout
        while not (done := under_way & self._results.keys()):
            if time.monotonic() > deadline:
                raise NotSo("server sent no acknowledgement in time", code="timeout")
            self._fetch(_SLICE_MS)
        under_way -= done
        for ticket in sorted(done):
            code = self._results.pop(ticket)[0]
            if code >= FAILURE:
                raise refusal("publish to", topic, code)
            yield code

    def _fetch(self, slice_ms: int) -> None:
        room = _BATCH if len(self._fetched) < _BATCH else 0
        messages, results = self._call(lambda: self._client.poll(room, slice_ms))
        self._fetched.extend(messages)
        self._results.update(results)

    def _flush(self) -> None:
        self._client.flush()

    def _call(self, call: Callable[[], _T]) -> _T:
        from sealmq import _engine

        try:
            return call()
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def _wait(self, ask: Callable[[int], _T | None], timeout: float, what: str) -> _T:
        """Ask in slices until there is an answer. Raises `NotSo` with code `timeout`."""
        deadline = time.monotonic() + timeout
        while True:
            left = int((deadline - time.monotonic()) * 1000)
            slice_ms = max(0, min(_SLICE_MS, left))
            found = self._call(functools.partial(ask, slice_ms))
            if found is not None:
                return found
            if left <= 0:
                raise NotSo(f"server sent no {what} in time", code="timeout")
