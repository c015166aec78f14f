"""`sealmq.Client`: MQTT over verified TLS for asyncio, connected again when the connection is lost.

It refuses to run callbacks, and to connect to a server that it has not verified. Bytes, packets and TLS are the data
plane's; here is who waits for what.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sealmq.client.backlog import Backlog, Publish
from sealmq.client.backoff import Backoff
from sealmq.client.identity import Identity
from sealmq.client.message import Message, Properties
from sealmq.client.opening import Opening
from sealmq.client.reasons import FAILURE, refusal
from sealmq.client.requests import Requests
from sealmq.client.subscription import SubscribeOptions
from sealmq.client.target import Target
from sealmq.enginefaults import from_engine
from sealmq.errors import NotSo, SealmqError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from types import TracebackType

    from sealmq import _engine
    from sealmq.client.message import QoS
    from sealmq.client.opening import OpeningOptions

Payload = bytes | bytearray | str
_BATCH = 500  # messages fetched from the data plane at once
_TURN = 64  # publishes after which the event loop gets a turn
_LASTING = 10.0  # seconds: a connection that lived as long is none that failed
_GOODBYE = 5.0  # seconds for what is left to say
_TAKEN_OVER = 0x8E


class Client:
    """A client that stays connected; an asynchronous context manager.

    ```
    async with sealmq.Client("mqtts://broker.example", identity="devices/sensor-1") as client:
        await client.subscribe("devices/sensor-1/set/#", qos=1)
        await client.publish("devices/sensor-1/temperature", "21.5", qos=1)
        async for message in client.messages:
            print(message.topic, message.payload)
    ```
    """

    def __init__(
        self,
        url: str,
        *,
        identity: Identity | Path | str | Callable[[], Identity] | None = None,
        reconnect: Backoff | None = Backoff(),  # noqa: B008 - frozen
        queue_size: int = 1000,
        queue_file: Path | None = None,
        **options: Unpack[OpeningOptions],
    ) -> None:
        """`identity` is an `Identity`, the folder that `sealmq device add` wrote (read again for every connection, so that
        renewed files count), something that gives an `Identity`, or None: the public CAs, and no certificate of one's own.

        `reconnect` None: the first loss ends the client. `queue_size` publishes wait while there is no connection, those
        of QoS 1 and 2 in `queue_file` when one is named. `options` are the fields of `sealmq.client.opening.Opening`.

        Raises `UsageError` for a URL or options that make no sense, `Environment` for a queue file that cannot be used.
        """
        self._opening = Opening(target=Target.parse(url), **options)
        self._identity = _source(identity)
        self._backoff = reconnect
        self._backlog = Backlog(queue_size, queue_file)
        self._engine: _engine.Client | None = None
        self._connack: dict[str, Any] | None = None
        self._pending: dict[int, Publish | asyncio.Future[bytes]] = {}
        self._subscribed: dict[str, tuple[int, SubscribeOptions]] = {}
        self._fetched: deque[tuple[str, bytes, int, bool, str]] = deque()
        self._requests = Requests()
        self._waiters: list[asyncio.Future[None]] = []
        self._unflushed = 0
        self._lost: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._over: SealmqError | None = None

    # --- what is known

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connack is not None

    def connack(self) -> dict[str, Any]:
        """What the server answered last: `session_present`, `assigned_client_id`, `receive_maximum`, `tls`
        {`version`, `cipher`, `group`, `resumed`}, … Raises `NotSo` while there is no connection."""
        if self._connack is None:
            raise self._over or NotSo("client is not connected", code="closed")
        return self._connack

    # --- opening and closing

    async def __aenter__(self) -> Client:
        """Connect once. Raises what `Connection.open` raises: only what was connected is connected again."""
        await self._connect(is_first=True)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="sealmq.Client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say DISCONNECT after all that was published, and close."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._finish(NotSo("client is closed", code="closed"))
        engine, self._engine = self._engine, None
        if engine is not None:
            asyncio.get_running_loop().remove_reader(engine.fileno())
            await asyncio.to_thread(engine.disconnect, int(_GOODBYE * 1000))
        self._backlog.close()

    # --- publishing

    async def publish(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: QoS = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int:
        """Publish; for QoS 1 and 2 until the server has it, across connections if need be. The reason code, below 0x80.

        While there is no connection the message waits in the queue; with a full one this call waits. Raises `NotSo` with
        code `reason-0x87` and the like when the server refuses, `closed` when the client ends first.
        """
        engine = self._engine
        if qos == 0 and engine is not None and self._connack is not None and not self._backlog:
            fields = None if properties is None else properties.as_json()
            if self._publish(engine, topic, _bytes(payload), 0, retain, fields) == 0:
                if self._unflushed >= _TURN:
                    await asyncio.sleep(0)
                return 0
        while self._backlog.is_full:
            await self._news()
        return await self.publish_nowait(topic, payload, qos=qos, retain=retain, properties=properties)

    def publish_nowait(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: QoS = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> asyncio.Future[int]:
        """Publish without waiting; what comes of it is in the future, as `publish` gives it.

        Raises `NotSo` with code `queue-full` when the network is slower than the program, or gone.
        """
        self._check_open()
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        fields = None if properties is None else properties.as_json()
        publish = self._backlog.kept(Publish(topic, _bytes(payload), qos, retain, fields, result))
        if self._backlog or not self._send(publish):
            self._backlog.append(publish)
        return result

    async def publish_many(
        self,
        messages: Iterable[tuple[str, Payload]],
        *,
        qos: QoS = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publish `(topic, payload)` pairs one after the other as fast as the server takes them; return when it has them all.

        Raises `NotSo` for the first that the server refuses, once all are through.
        """
        last: deque[asyncio.Future[int]] = deque()
        refused: SealmqError | None = None
        for topic, payload in messages:
            if qos == 0:
                await self.publish(topic, payload, retain=retain, properties=properties)
                continue
            while self._backlog.is_full:
                await self._news()
            last.append(self.publish_nowait(topic, payload, qos=qos, retain=retain, properties=properties))
            if self._unflushed >= _TURN:
                await asyncio.sleep(0)
            while last and last[0].done():
                refused = refused or _error(last.popleft())
        while last:
            await asyncio.wait([last[0]])
            refused = refused or _error(last.popleft())
        if refused is not None:
            raise refused

    # --- subscribing

    async def subscribe(
        self, topic_filter: str | Sequence[str], *, qos: QoS = 0, options: SubscribeOptions | None = None
    ) -> list[int]:
        """Subscribe, now and after every new connection without a session; the granted QoS of each filter.

        Raises `NotSo` for the first filter that the server refuses, `closed` when the connection is lost meanwhile.
        """
        filters = [topic_filter] if isinstance(topic_filter, str) else list(topic_filter)
        chosen = options or SubscribeOptions()
        codes = await self._subscribe(filters, qos, chosen)
        for one, code in zip(filters, codes, strict=True):
            if code >= FAILURE:
                raise refusal("subscribe to", one, code)
            self._subscribed[one] = (qos, chosen)
        return list(codes)

    async def unsubscribe(self, topic_filter: str | Sequence[str]) -> list[int]:
        """Unsubscribe; the reason code of each filter, 0x11 when there was no such subscription."""
        filters = [topic_filter] if isinstance(topic_filter, str) else list(topic_filter)
        for one in filters:
            self._subscribed.pop(one, None)
        return list(await self._ask(lambda engine: engine.unsubscribe(filters)))

    @property
    def messages(self) -> AsyncIterator[Message]:
        """The messages as they come; ends when the client is closed, raises when it is lost for good.

        A message of QoS 1 or 2 is acknowledged when it is fetched, shortly before it is given. While nobody iterates, the
        server is told nothing and soon sends nothing.
        """
        return self._messages()

    async def _messages(self) -> AsyncIterator[Message]:
        fetched, received = self._fetched, Message.received
        while True:
            while fetched:
                yield received(fetched.popleft())
            if not self._fetch():
                if self._over is not None:
                    if self._keeper is not None and self._keeper.cancelled():
                        return
                    raise self._over
                await self._news()

    # --- requests

    async def request(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: QoS = 1,
        response_topic: str | None = None,
        timeout: float = 10.0,
    ) -> Message:
        """Publish a request and wait for its answer (MQTT 5.0 section 4.10); it does not come by `messages`.

        The answer is wanted on `response_topic`, by default one of the device's own. Raises `NotSo` with code `timeout`,
        `UsageError` for MQTT 3.1.1 and for a client without a topic of its own.
        """
        own = response_topic or self._requests.own_topic(self._opening.version, self._identity().device)
        if own not in self._subscribed:
            await self.subscribe(own, qos=qos)
        correlation, answer = self._requests.expect()
        try:
            asking = Properties(response_topic=own, correlation=correlation)
            await self.publish(topic, payload, qos=qos, properties=asking)
            self._fetch_for_requests()
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NotSo(f"no answer to the request on {topic} came within {timeout:g} s", code="timeout") from None
        finally:
            self._requests.forget(correlation)

    async def respond(self, request: Message, payload: Payload = b"", *, qos: QoS = 1) -> int:
        """Answer a request. Raises `NotSo` with code `response-unwanted` when it names no topic for the answer."""
        if request.response_topic is None:
            raise NotSo(f"message on {request.topic} asks for no answer", code="response-unwanted")
        return await self.publish(
            request.response_topic, payload, qos=qos, properties=Properties(correlation=request.correlation)
        )

    # --- the connection

    async def _keep(self) -> None:
        """Connect again whenever the connection is lost, until that makes no sense."""
        failures, since = 0, time.monotonic()
        while self._engine is not None and self._lost is not None:
            await self._lost
            closing = json.loads(self._engine.closing() or "{}")
            failures = 0 if time.monotonic() - since >= _LASTING else failures
            if self._backoff is None or closing.get("reason_code") == _TAKEN_OVER:
                # a newer connection with this client id: two that reconnect would take it from one another for ever
                self._finish(_closed(closing))
                return
            while self._connack is None:
                await asyncio.sleep(self._backoff.delay(failures, hint=closing.get("retry_after")))
                failures += 1
                try:
                    await self._connect(is_first=False)
                except SealmqError:
                    closing = json.loads(self._engine.closing() or "{}")
            since = time.monotonic()

    async def _connect(self, *, is_first: bool) -> None:
        from sealmq import _engine

        loop = asyncio.get_running_loop()
        opening = self._opening
        keeps_session = bool(opening.session_expiry) or (opening.version == "3.1.1" and not opening.clean_start)
        clean_start = opening.clean_start if is_first or not keeps_session else False
        identity = await asyncio.to_thread(self._identity)
        try:
            engine = _engine.Client.open(opening.as_json(identity, clean_start=clean_start), self._engine)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        self._engine = engine
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
            loop.remove_reader(engine.fileno())
        self._connack = json.loads(answer)
        self._lost = loop.create_future()
        loop.add_reader(engine.fileno(), self._on_news)
        if not is_first and not self._connack["session_present"]:
            await self._subscribe_again()
        self._on_news()

    async def _subscribe_again(self) -> None:
        """All subscriptions, one request for those alike. What is refused now is given up."""
        alike: dict[tuple[int, SubscribeOptions], list[str]] = {}
        for one, how in self._subscribed.items():
            alike.setdefault(how, []).append(one)
        for (qos, options), filters in alike.items():
            for start in range(0, len(filters), _TURN):
                part = filters[start : start + _TURN]
                codes = await self._subscribe(part, qos, options)
                for one, code in zip(part, codes, strict=True):
                    if code >= FAILURE:
                        self._subscribed.pop(one, None)

    async def _subscribe(self, filters: list[str], qos: int, options: SubscribeOptions) -> bytes:
        wanted = [options.of(one, qos) for one in filters]
        return await self._ask(lambda engine: engine.subscribe(wanted, options.as_json()))

    async def _ask(self, ask: Callable[[_engine.Client], int]) -> bytes:
        """The codes that answer a SUBSCRIBE or UNSUBSCRIBE."""
        from sealmq import _engine

        while not self.is_connected:
            await self._news()
        assert self._engine is not None  # noqa: S101
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            self._pending[ask(self._engine)] = answer
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        return await answer

    # --- what the data plane says

    def _on_news(self) -> None:
        """The descriptor is readable: results to whom they belong, and whoever waits looks again."""
        from sealmq import _engine

        engine = self._engine
        if engine is None:
            return
        try:
            _, results = engine.poll(0, 0)
        except _engine.EngineError as error:
            self._on_loss(from_engine(*error.args))
            return
        for ticket, codes in results:
            self._settle(ticket, codes)
        while self._backlog and self._send(self._backlog.first()):
            self._backlog.pop()
        self._fetch_for_requests()
        self._wake()

    def _settle(self, ticket: int, codes: bytes) -> None:
        waiting = self._pending.pop(ticket, None)
        if isinstance(waiting, Publish):
            self._backlog.forget(waiting)
            if waiting.result is not None and not waiting.result.done():
                if codes[0] >= FAILURE:
                    waiting.result.set_exception(refusal("publish to", waiting.topic, codes[0]))
                else:
                    waiting.result.set_result(codes[0])
        elif waiting is not None and not waiting.done():
            waiting.set_result(codes)

    def _on_loss(self, error: SealmqError) -> None:
        """Requests end with the connection; publishes go over to the next one."""
        assert self._engine is not None  # noqa: S101
        asyncio.get_running_loop().remove_reader(self._engine.fileno())
        self._connack = None
        for ticket, waiting in list(self._pending.items()):
            if not isinstance(waiting, Publish):
                del self._pending[ticket]
                if not waiting.done():
                    waiting.set_exception(error)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._wake()

    def _send(self, publish: Publish) -> bool:
        """Hand a publish over; False when it has to wait."""
        engine = self._engine
        if engine is None or self._connack is None:
            return False
        topic, payload, qos, retain, properties, result, _ = publish
        try:
            ticket = self._publish(engine, topic, payload, qos, retain, properties)
        except SealmqError as error:
            if error.code == "closed":
                return False
            self._backlog.forget(publish)
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

    def _publish(
        self, engine: _engine.Client, topic: str, payload: bytes, qos: int, retain: bool, properties: str | None
    ) -> int | None:
        from sealmq import _engine

        try:
            ticket = engine.publish(topic, payload, qos, retain, properties)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        # what is published in one turn of the event loop leaves together
        if self._unflushed == 0:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed += 1
        return ticket

    def _flush(self) -> None:
        self._unflushed = 0
        if self._engine is not None:
            self._engine.flush()

    def _fetch(self) -> bool:
        """Messages from the data plane, as far as there are any now."""
        from sealmq import _engine

        if self._engine is None:
            return False
        try:
            messages, results = self._engine.poll(_BATCH, 0)
        except _engine.EngineError:
            return False  # the descriptor tells of the loss
        for ticket, codes in results:
            self._settle(ticket, codes)
        if self._requests:
            messages = [raw for raw in messages if not self._requests.take(raw)]
        self._fetched.extend(messages)
        return bool(messages)

    def _fetch_for_requests(self) -> None:
        if self._requests and len(self._fetched) < _BATCH:
            while self._fetch() and len(self._fetched) < _BATCH:
                pass

    # --- who waits

    async def _news(self) -> None:
        """Sleep until something happened. Raises once the client is over."""
        self._check_open()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _check_open(self) -> None:
        if self._over is not None:
            raise self._over

    def _finish(self, error: SealmqError) -> None:
        """Nothing more will happen: whoever waits hears why."""
        self._over = self._over or error
        self._connack = None
        waiting = [one.result if isinstance(one, Publish) else one for one in self._pending.values()]
        waiting += [self._backlog.pop().result for _ in range(len(self._backlog))]
        self._pending.clear()
        for one in waiting:
            if one is not None and not one.done():
                one.set_exception(self._over)
                one.exception()  # nobody need ask
        self._wake()


def _source(identity: Identity | Path | str | Callable[[], Identity] | None) -> Callable[[], Identity]:
    if identity is None:
        return Identity.system
    if isinstance(identity, Identity):
        return lambda: identity
    if isinstance(identity, str | Path):
        return lambda: Identity.bundle(Path(identity))
    return identity


def _bytes(payload: Payload) -> bytes:
    return payload.encode() if isinstance(payload, str) else bytes(payload)


def _closed(closing: dict[str, Any]) -> SealmqError:
    return from_engine(closing.get("code", "closed"), closing.get("message", ""), closing.get("mend", ""))


def _error(done: asyncio.Future[int]) -> SealmqError | None:
    error = done.exception()
    if error is None or isinstance(error, SealmqError):
        return error
    raise error
