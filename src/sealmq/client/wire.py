"""The connections of one asynchronous client, one after the other: publishes, requests and messages across them.

It refuses to know when to connect again, and what a message means.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from sealmq.client.backlog import Backlog, Publish
from sealmq.client.reasons import FAILURE, refusal
from sealmq.client.requests import Requests
from sealmq.enginefaults import from_engine
from sealmq.errors import NotSo, SealmqError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq import _engine

Raw = tuple[str, bytes, int, bool, str]
BATCH = 500  # messages fetched from the data plane at once
_GOODBYE_MS = 5000


class Wire:
    """What the data plane does for a client. `lost` is done once the present connection is over."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.requests = Requests()
        self.fetched: deque[Raw] = deque()
        self.unflushed = 0
        self.lost: asyncio.Future[None] | None = None
        self.over: SealmqError | None = None
        self._engine: _engine.Client | None = None
        self._is_opening = False
        self._connack: dict[str, Any] | None = None
        self._pending: dict[int, Publish | asyncio.Future[bytes]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connack is not None

    @property
    def connack(self) -> dict[str, Any]:
        """The present server's answer. Raises `NotSo` while there is none."""
        if self._connack is None:
            raise self.over or NotSo("client is not connected", code="closed")
        return self._connack

    @property
    def closing(self) -> dict[str, Any]:
        """Why the last connection ended, as `_engine.Client.closing` has it; empty when it did not."""
        found: dict[str, Any] = json.loads((self._engine.closing() if self._engine is not None else None) or "{}")
        return found

    # --- opening and closing

    async def connect(self, config: str) -> None:
        """Connect and take over what the last connection left. Raises what the data plane says."""
        from sealmq import _engine

        loop = asyncio.get_running_loop()
        try:
            engine = _engine.Client.open(config, self._engine)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        self._engine = engine
        self._is_opening = True
        rung = asyncio.Event()
        loop.add_reader(engine.fileno(), rung.set)
        try:
            while (answer := engine.connack(0)) is None:
                rung.clear()
                await rung.wait()
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        except asyncio.CancelledError:
            engine.disconnect(0)
            raise
        finally:
            self._is_opening = False
            loop.remove_reader(engine.fileno())
        self._connack = json.loads(answer)
        self.lost = loop.create_future()
        loop.add_reader(engine.fileno(), self._on_news)
        self._on_news()

    async def disconnect(self) -> None:
        """Say DISCONNECT after all that was published, and close."""
        engine = self._engine
        if engine is not None:
            asyncio.get_running_loop().remove_reader(engine.fileno())
            await asyncio.to_thread(engine.disconnect, _GOODBYE_MS)

    def begin(self) -> None:
        """A client that was closed is opened again: the tickets of its last connection are still good."""
        self.over = None
        self.backlog.open()

    def finish(self, error: SealmqError) -> None:
        """Nothing more will happen: whoever waits hears why."""
        self.over = self.over or error
        self._connack = None
        waiting = [one.result if isinstance(one, Publish) else one for one in self._pending.values()]
        waiting += [self.backlog.pop().result for _ in range(len(self.backlog))]
        self._pending.clear()
        for one in waiting:
            if one is not None and not one.done():
                one.set_exception(self.over)
                one.exception()  # nobody need ask
        self._wake()

    def check_open(self) -> None:
        """Raise why nothing more will happen."""
        if self.over is not None:
            raise self.over

    async def news(self) -> None:
        """Sleep until something happened. Raises once the client is over."""
        self.check_open()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    # --- what somebody wants

    async def ask(self, ask: Callable[[_engine.Client], int]) -> bytes:
        """The codes that answer a SUBSCRIBE or UNSUBSCRIBE."""
        from sealmq import _engine

        while self._engine is None or self._connack is None:
            await self.news()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            self._pending[ask(self._engine)] = answer
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        return await answer

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: str | None) -> int | None:
        """Hand a publish to the data plane: its ticket, 0 for QoS 0, None when it cannot be taken now."""
        from sealmq import _engine

        engine = self._engine
        if engine is None or self._connack is None:
            return None
        try:
            ticket = engine.publish(topic, payload, qos, retain, properties)
        except _engine.EngineError as error:
            if error.args[0] == "closed":
                return None
            raise from_engine(*error.args) from None
        # what is published in one turn of the event loop leaves together
        if self.unflushed == 0:
            asyncio.get_running_loop().call_soon(self._flush)
        self.unflushed += 1
        return ticket

    def send(self, publish: Publish) -> bool:
        """Hand over a publish and remember who waits for it; False when it cannot be taken now."""
        topic, payload, qos, retain, properties, result, _ = publish
        try:
            ticket = self.publish(topic, payload, qos, retain, properties)
        except SealmqError as error:
            self.backlog.forget(publish)
            if result is not None and not result.done():
                result.set_exception(error)
            return True
        if ticket is None:
            return False
        if ticket:
            self._pending[ticket] = publish
        elif result is not None and not result.done():
            result.set_result(0)
        return True

    def fetch(self) -> bool:
        """Messages from the data plane to `fetched`; whether there were any."""
        messages = self._poll(BATCH)
        wanted = [raw for raw in messages if not self.requests.take(raw)] if self.requests else messages
        self.fetched.extend(wanted)
        return bool(messages)

    def fetch_for_requests(self) -> None:
        """While somebody waits for an answer, messages are looked at without anybody asking for them."""
        while self.requests and len(self.fetched) < BATCH and self.fetch():
            pass

    # --- what the data plane says

    def _on_news(self) -> None:
        """The descriptor is readable."""
        self._poll(0)
        self.fetch_for_requests()

    def _poll(self, most: int) -> list[Raw]:
        """Up to so many messages; results to whom they belong, and whoever waits looks again.

        Whatever made the descriptor readable is dealt with here: it is silent afterwards.
        """
        from sealmq import _engine

        # while it opens its news are for `connect`: whoever took them would leave that waiting
        if self._engine is None or self._is_opening:
            return []
        try:
            messages, results = self._engine.poll(most, 0)
        except _engine.EngineError as error:
            self._on_loss(self._engine, from_engine(*error.args))
            return []
        for ticket, codes in results:
            self._settle(ticket, codes)
        while self.backlog and self.send(self.backlog.first()):
            self.backlog.pop()
        self._wake()
        return messages

    def _settle(self, ticket: int, codes: bytes) -> None:
        waiting = self._pending.pop(ticket, None)
        if isinstance(waiting, Publish):
            self.backlog.forget(waiting)
            if waiting.result is not None and not waiting.result.done():
                if codes[0] >= FAILURE:
                    waiting.result.set_exception(refusal("publish to", waiting.topic, codes[0]))
                else:
                    waiting.result.set_result(codes[0])
        elif waiting is not None and not waiting.done():
            waiting.set_result(codes)

    def _on_loss(self, engine: _engine.Client, error: SealmqError) -> None:
        """Requests end with the connection; publishes go over to the next one."""
        if self._connack is None:
            return
        asyncio.get_running_loop().remove_reader(engine.fileno())
        self._connack = None
        for ticket, waiting in list(self._pending.items()):
            if not isinstance(waiting, Publish):
                del self._pending[ticket]
                if not waiting.done():
                    waiting.set_exception(error)
        if self.lost is not None and not self.lost.done():
            self.lost.set_result(None)
        self._wake()

    def _flush(self) -> None:
        self.unflushed = 0
        if self._engine is not None:
            self._engine.flush()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
