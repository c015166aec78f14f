"""A load of many clients on any broker, and what it came to: rates, waiting times, the broker's CPU and memory.

It refuses to print, and to know whose broker it is. One process, one event loop, one thread per connection below.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealmq.client.client import Client
from sealmq.errors import NotSo, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from typing import Literal

    from sealmq.client.identity import Identity
    from sealmq.client.opening import OpeningOptions
    from sealmq.tls.presharedkey import Psk

_STAMP = 8  # bytes at the start of a payload: when it was published, nanoseconds
_WINDOW = 1000  # messages a publisher is ahead of its subscribers
_PAUSE = 0.0005
_DIALLING = 50  # connections that are being made at a time
_CLOSED = frozenset({"tls-closed", "closed"})  # how it looks when one is closed that was just accepted


class Kind(enum.StrEnum):
    """Who talks to whom."""

    CONNECT = "connect"
    PUB = "pub"
    SUB = "sub"
    PAIR = "pair"
    FAN_IN = "fan-in"
    FAN_OUT = "fan-out"
    SPARSE = "sparse"


@dataclass(frozen=True, kw_only=True)
class Load:
    """`clients` are connections, or pairs; `count` messages per publisher, `rate` a second of each, 0: no limit.

    `size` is of the payload, bytes, `seconds` how long at most, `is_full` makes every handshake a full one.
    """

    kind: Kind
    clients: int = 10
    count: int = 10_000
    rate: float = 0.0
    size: int = 64
    qos: Literal[0, 1, 2] = 0
    seconds: float = 60.0
    topic: str = "bench"
    is_full: bool = True
    pid: int | None = None

    def __post_init__(self) -> None:
        """Raises `UsageError` for a payload too small to tell its time."""
        if self.size < _STAMP:
            raise UsageError(f"payload of {self.size} bytes is too small", mend=f"at least {_STAMP} bytes")

    @property
    def publishers(self) -> int:
        """How many connections publish."""
        return {Kind.CONNECT: 0, Kind.SUB: 0, Kind.FAN_OUT: 1}.get(self.kind, self.clients)

    @property
    def subscribers(self) -> int:
        """How many connections subscribe."""
        return {Kind.CONNECT: 0, Kind.PUB: 0, Kind.FAN_IN: 1}.get(self.kind, self.clients)


@dataclass
class Tally:
    """What has happened so far; `latency` and `connecting` in seconds."""

    connected: int = 0
    resumed: int = 0
    published: int = 0
    delivered: int = 0
    seconds: float = 0.0
    latency: array[float] = field(default_factory=lambda: array("d"))
    connecting: array[float] = field(default_factory=lambda: array("d"))


class Generator:
    """One load on one broker; `tally` may be looked at while it runs."""

    def __init__(self, url: str, identity: Identity | Psk, options: OpeningOptions, load: Load) -> None:
        """`options` are those of `Client`; their client id is the beginning of every client's."""
        self._url, self._identity, self._options = url, identity, options
        self.load = load
        self.tally = Tally()

    async def run(self) -> dict[str, Any]:
        """Do it. Raises what connecting raises; a load that does not end in time is told by its figures.

        `connections`, `resumed`, `published`, `delivered`, `seconds`, `per_second`; `connect_ms` and `latency_ms`
        {`p50`, `p90`, `p99`, `max`}; with a pid `broker` {`cpu_seconds`, `cpu_us_per_message`, `cpu_ms_per_connection`,
        `rss_mib`}.
        """
        before = _broker(self.load.pid)
        if self.load.kind is Kind.CONNECT:
            clients = [self._client("c", number) for number in range(self.load.clients)]
            if not self.load.is_full:
                await self._warm(clients)
                before = _broker(self.load.pid)
            await self._storm(clients)
            after = _broker(self.load.pid)
        else:
            async with contextlib.AsyncExitStack() as stack:
                subscribers = [
                    await stack.enter_async_context(one) async for one in self._connect("s", self.load.subscribers)
                ]
                publishers = [
                    await stack.enter_async_context(one) async for one in self._connect("p", self.load.publishers)
                ]
                for number, client in enumerate(subscribers):
                    await client.subscribe(self._filter(number), qos=self.load.qos)
                before = _broker(self.load.pid)
                await self._talk(publishers, subscribers)
                after = _broker(self.load.pid)
        return self._report(before, after)

    # --- connecting

    async def _warm(self, clients: list[Client]) -> None:
        """Give every client a ticket: it comes behind the handshake, and an acknowledgement comes behind the ticket."""
        for client in clients:
            async with client:
                await client.unsubscribe("bench/none")

    async def _storm(self, clients: list[Client]) -> None:
        began = time.perf_counter()
        gate = asyncio.Semaphore(_DIALLING)

        async def one(client: Client) -> None:
            async with gate, self._timed(client):
                pass

        try:
            async with asyncio.timeout(self.load.seconds):
                await asyncio.gather(*(one(client) for client in clients))
        except TimeoutError:
            raise NotSo(
                f"{self.tally.connected} of {len(clients)} connections were made in {self.load.seconds:g} s",
                mend="give it more time: --seconds",
                code="timeout",
            ) from None
        self.tally.seconds = time.perf_counter() - began

    async def _connect(self, role: str, count: int) -> AsyncIterator[contextlib.AbstractAsyncContextManager[Client]]:
        for number in range(count):
            yield self._timed(self._client(role, number))

    @contextlib.asynccontextmanager
    async def _timed(self, client: Client) -> AsyncIterator[Client]:
        began = time.perf_counter()
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(client)
            except NotSo as error:
                raise self._turned_away(error) from None
            self.tally.connecting.append(time.perf_counter() - began)
            self.tally.connected += 1
            tls = client.connack()["tls"]
            self.tally.resumed += bool(tls and tls["resumed"])
            yield client

    def _turned_away(self, error: NotSo) -> NotSo:
        """Whoever let others in and then closes without a word bounds the connections of an address, most likely."""
        if not self.tally.connected or error.code not in _CLOSED:
            return error
        mend = (
            "a broker may bound how many connections come from one address and how fast: in sealmq, raise"
            " limits.max_connect_rate_per_address and limits.max_connections_per_address for the test"
        )
        return NotSo(f"after {self.tally.connected} connections: {error.message}", mend=mend, code=error.code)

    def _client(self, role: str, number: int) -> Client:
        options = self._options.copy()
        options["client_id"] = f"{self._options.get('client_id', 'bench')}-{role}{number}"
        return Client(self._url, identity=self._identity, reconnect=None, **options)

    # --- messages

    def _topic(self, publisher: int) -> str:
        return self.load.topic if self.load.kind is Kind.FAN_OUT else f"{self.load.topic}/{publisher}"

    def _filter(self, subscriber: int) -> str:
        if self.load.kind in (Kind.FAN_IN, Kind.SUB):
            return f"{self.load.topic}/#"
        return self._topic(subscriber)

    async def _talk(self, publishers: list[Client], subscribers: list[Client]) -> None:
        load, tally = self.load, self.tally
        copies = len(subscribers) if load.kind is Kind.FAN_OUT else int(bool(subscribers))
        expected = len(publishers) * load.count * copies if publishers else load.count * len(subscribers)
        began = time.perf_counter()
        receiving = [asyncio.ensure_future(self._receive(one)) for one in subscribers]
        sending = [asyncio.ensure_future(self._send(number, one, copies)) for number, one in enumerate(publishers)]
        try:
            async with asyncio.timeout(load.seconds):
                await asyncio.gather(*sending)
                while subscribers and tally.delivered < expected and not any(one.done() for one in receiving):  # noqa: ASYNC110 - looking costs less than telling
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            pass
        finally:
            tally.seconds = time.perf_counter() - began
            for task in (*sending, *receiving):
                task.cancel()
            ended = await asyncio.gather(*sending, *receiving, return_exceptions=True)
        for one in ended:
            if isinstance(one, Exception):
                raise one

    async def _receive(self, client: Client) -> None:
        tally, now, latency = self.tally, time.time_ns, self.tally.latency
        async for message in client.messages:
            tally.delivered += 1
            latency.append((now() - int.from_bytes(message.payload[:_STAMP])) / 1e9)

    async def _send(self, number: int, client: Client, copies: int) -> None:
        load, tally, topic, rest = self.load, self.tally, self._topic(number), bytes(self.load.size - _STAMP)
        under_way: deque[asyncio.Future[int]] = deque()
        began = time.perf_counter()
        ahead = _WINDOW * len(str(copies))
        for sent in range(load.count):
            if load.rate:
                await asyncio.sleep(max(0.0, began + sent / load.rate - time.perf_counter()))
            while copies and tally.published * copies - tally.delivered > ahead * load.publishers:  # noqa: ASYNC110 - the same
                await asyncio.sleep(_PAUSE)
            payload = time.time_ns().to_bytes(_STAMP) + rest
            if load.qos == 0:
                await client.publish(topic, payload)
            else:
                under_way.append(client.publish_nowait(topic, payload, qos=load.qos))
                if len(under_way) >= _WINDOW:
                    await under_way.popleft()
            tally.published += 1
        await asyncio.gather(*under_way)

    # --- what it came to

    def _report(self, before: Broker | None, after: Broker | None) -> dict[str, Any]:
        tally = self.tally
        messages = tally.delivered or tally.published
        done = tally.connected if self.load.kind is Kind.CONNECT else messages
        found: dict[str, Any] = {
            "kind": str(self.load.kind),
            "qos": self.load.qos,
            "connections": tally.connected,
            "resumed": tally.resumed,
            "published": tally.published,
            "delivered": tally.delivered,
            "seconds": round(tally.seconds, 3),
            "per_second": round(done / tally.seconds) if tally.seconds else 0,
            "connect_ms": percentiles(tally.connecting),
            "latency_ms": percentiles(tally.latency),
        }
        if before is not None and after is not None:
            cpu = after.cpu - before.cpu
            found["broker"] = {
                "cpu_seconds": round(cpu, 3),
                "cpu_us_per_message": round(cpu / messages * 1e6, 2) if messages else None,
                "cpu_ms_per_connection": round(cpu / tally.connected * 1e3, 3) if not messages else None,
                "rss_mib": round(after.rss / 2**20, 1),
            }
        return found


@dataclass(frozen=True)
class Broker:
    """A process: CPU used, seconds; resident memory, bytes."""

    cpu: float
    rss: int


def _broker(pid: int | None) -> Broker | None:
    if pid is None:
        return None
    try:
        tasks = [task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        raise NotSo(f"process {pid} is not to be seen on this machine", mend="--pid is of the broker") from None
    return Broker(sum(int(text.split()[0]) for text in tasks) / 1e9, int(pages) * 4096)


def percentiles(seconds: Iterable[float]) -> dict[str, float] | None:
    """Milliseconds that half, nine tenths, 99 of a hundred and all of the samples stay within; None without samples."""
    found = sorted(seconds)
    if not found:
        return None
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(found[min(len(found) - 1, int(len(found) * at))] * 1e3, 3) for name, at in places.items()}
