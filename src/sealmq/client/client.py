"""`sealmq.Client`: MQTT over verified TLS for asyncio, connected again when the connection is lost.

It refuses to run callbacks, and to connect to a server that it has not verified. Bytes, packets and TLS are the data
plane's; here is who waits for what.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from sealmq.client.subscription import SubscribeOptions
from sealmq.client.target import Target
from sealmq.client.wire import Wire
from sealmq.enginefaults import from_engine
from sealmq.errors import NotSo, SealmqError
from sealmq.tls.presharedkey import FILE, Psk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from types import TracebackType

    from sealmq.client.message import QoS
    from sealmq.client.opening import OpeningOptions

Payload = bytes | bytearray | str
Credential = Identity | Psk
_TURN = 64  # publishes after which the event loop gets a turn
_LASTING = 10.0  # seconds: a connection that lived as long is none that failed
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
        identity: Credential | Path | str | Callable[[], Credential] | None = None,
        reconnect: Backoff | None = Backoff(),  # noqa: B008 - frozen
        queue_size: int = 1000,
        queue_file: Path | None = None,
        **options: Unpack[OpeningOptions],
    ) -> None:
        """`identity` is an `Identity`, for `mqtts+psk://` a `Psk`; or the folder that `sealmq device add` wrote (read
        again for every connection, so that renewed files count), something that gives the one or the other, or None:
        the public CAs, and no certificate.

        `reconnect` None: the first loss ends the client. `queue_size` publishes wait while there is no connection,
        those of QoS 1 and 2 in `queue_file` when one is named. `options` are the fields of
        `sealmq.client.opening.Opening`.

        Raises `UsageError` for a URL or options that make no sense, `Environment` for a queue file that cannot be used.
        """
        self._opening = Opening(target=Target.parse(url), **options)
        self._identity = _source(identity, self._opening.target)
        self._backoff = reconnect
        self._wire = Wire(Backlog(queue_size, queue_file))
        self._subscribed: dict[str, tuple[int, SubscribeOptions]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._is_closed = False

    # --- what is known

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._wire.is_connected

    def connack(self) -> dict[str, Any]:
        """What the server answered last: `session_present`, `assigned_client_id`, `receive_maximum`, `tls`
        {`version`, `cipher`, `group`, `resumed`}, … Raises `NotSo` while there is no connection."""
        return self._wire.connack

    # --- opening and closing

    async def __aenter__(self) -> Client:
        """Connect once. Raises what `Connection.open` raises: only what was connected is connected again."""
        self._is_closed = False
        self._wire.begin()
        await self._connect(is_first=True)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="sealmq.Client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say DISCONNECT after all that was published, and close."""
        self._is_closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._wire.finish(NotSo("client is closed", code="closed"))
        await self._wire.disconnect()
        self._wire.backlog.close()

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

        While there is no connection the message waits in the queue; with a full one this call waits. Raises `NotSo`
        with code `reason-0x87` and the like when the server refuses, `closed` when the client ends first.
        """
        wire = self._wire
        if qos == 0 and not wire.backlog:
            fields = None if properties is None else properties.as_json()
            if wire.publish(topic, _bytes(payload), 0, retain, fields) == 0:
                if wire.unflushed >= _TURN:
                    await asyncio.sleep(0)
                return 0
        while self._wire.backlog.is_full:
            await self._wire.news()
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
        self._wire.check_open()
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        fields = None if properties is None else properties.as_json()
        backlog = self._wire.backlog
        publish = backlog.kept(Publish(topic, _bytes(payload), qos, retain, fields, result))
        if backlog or not self._wire.send(publish):
            backlog.append(publish)
        return result

    async def publish_many(
        self,
        messages: Iterable[tuple[str, Payload]],
        *,
        qos: QoS = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publish `(topic, payload)` pairs as fast as the server takes them; return when it has them all.

        Raises `NotSo` for the first that the server refuses, once all are through.
        """
        last: deque[asyncio.Future[int]] = deque()
        refused: SealmqError | None = None
        for topic, payload in messages:
            if qos == 0:
                await self.publish(topic, payload, retain=retain, properties=properties)
                continue
            while self._wire.backlog.is_full:
                await self._wire.news()
            last.append(self.publish_nowait(topic, payload, qos=qos, retain=retain, properties=properties))
            if self._wire.unflushed >= _TURN:
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
        return list(await self._wire.ask(lambda engine: engine.unsubscribe(filters)))

    @property
    def messages(self) -> AsyncIterator[Message]:
        """The messages as they come; ends when the client is closed, raises when it is lost for good.

        A message of QoS 1 or 2 is acknowledged when it is fetched, shortly before it is given. While nobody iterates,
        the server is told nothing and soon sends nothing.
        """
        return self._messages()

    async def _messages(self) -> AsyncIterator[Message]:
        wire, received = self._wire, Message.received
        while True:
            while wire.fetched:
                yield received(wire.fetched.popleft())
            if not wire.fetch():
                if wire.over is not None and self._is_closed:
                    return
                await wire.news()

    # --- requests

    async def request(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: QoS = 1,
        response_topic: str | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - of the answer, not of this coroutine
    ) -> Message:
        """Publish a request and wait for its answer (MQTT 5.0 section 4.10); it does not come by `messages`.

        The answer is wanted on `response_topic`, by default one of the device's own. Raises `NotSo` with code
        `timeout`, `UsageError` for MQTT 3.1.1 and for a client without a topic of its own.
        """
        own = response_topic or self._wire.requests.own_topic(self._opening.version, self._identity().device)
        if own not in self._subscribed:
            await self.subscribe(own, qos=qos)
        correlation, answer = self._wire.requests.expect()
        try:
            asking = Properties(response_topic=own, correlation=correlation)
            await self.publish(topic, payload, qos=qos, properties=asking)
            self._wire.fetch_for_requests()
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NotSo(f"no answer to the request on {topic} came within {timeout:g} s", code="timeout") from None
        finally:
            self._wire.requests.forget(correlation)

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
        while self._wire.lost is not None:
            await self._wire.lost
            failures = 0 if time.monotonic() - since >= _LASTING else failures
            closing = self._wire.closing
            if self._backoff is None or closing.get("reason_code") == _TAKEN_OVER:
                # a newer connection with this client id: two that reconnect would take it from one another for ever
                self._wire.finish(
                    from_engine(closing.get("code", "closed"), closing.get("message", ""), closing.get("mend", ""))
                )
                return
            while not self._wire.is_connected:
                await asyncio.sleep(self._backoff.delay(failures, hint=self._wire.closing.get("retry_after")))
                failures += 1
                with contextlib.suppress(SealmqError):
                    await self._connect(is_first=False)
            since = time.monotonic()

    async def _connect(self, *, is_first: bool) -> None:
        opening = self._opening
        keeps_session = bool(opening.session_expiry) or (opening.version == "3.1.1" and not opening.clean_start)
        clean_start = opening.clean_start and (is_first or not keeps_session)
        identity = await asyncio.to_thread(self._identity)
        await self._wire.connect(opening.as_json(identity, clean_start=clean_start))
        if not is_first and not self._wire.connack["session_present"]:
            await self._subscribe_again()

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
        return await self._wire.ask(lambda engine: engine.subscribe(wanted, options.as_json()))


def _source(
    identity: Credential | Path | str | Callable[[], Credential] | None, target: Target
) -> Callable[[], Credential]:
    if identity is None:
        return Identity.system
    if isinstance(identity, Identity | Psk):
        return lambda: identity
    if isinstance(identity, str | Path):
        folder = Path(identity)
        return (lambda: Psk.read(folder / FILE)) if target.is_psk else (lambda: Identity.bundle(folder))
    return identity


def _bytes(payload: Payload) -> bytes:
    return payload.encode() if isinstance(payload, str) else bytes(payload)


def _error(done: asyncio.Future[int]) -> SealmqError | None:
    error = done.exception()
    if error is None or isinstance(error, SealmqError):
        return error
    raise error
