"""What a message costs a Python client in CPU: paho, aiomqtt and `sealmq.Client`, one broker, one run.

It refuses to know how the broker does; `python -m bench` measures that.

Each client runs in a process of its own, TLS 1.3 with a certificate, and counts its own user and system time from the
first to the last of its messages: `python -m bench.clients [--count 200000]`. One JSON line each, then the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing as mp
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sealmq import Client, Connection, Identity
from sealmq.client.target import Target

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.sharedctypes import Synchronized as Progress
    from multiprocessing.synchronize import Event

    import aiomqtt
    import paho.mqtt.client as mqtt

PAYLOAD = b"x" * 64
DEVICE = "bench"
_AHEAD = 2000  # messages by which the feeder is ahead of a receiver, so that no broker drops any
_WINDOW = 100  # publishes under way at a time, where a library leaves that to the program
_QUEUED = 20_000  # publishes that paho is given ahead of the network


class Place(NamedTuple):
    """Where the broker is, and the files of the device."""

    port: int
    folder: Path

    @property
    def topic(self) -> str:
        return f"devices/{DEVICE}/t"

    def context(self) -> ssl.SSLContext:
        from sealmq.tls import client_context

        files = self.folder
        return client_context(ca=files / "ca.pem", certificate=files / "cert.pem", key=files / "key.pem")


class Measure:
    """CPU of this process between `start` and `stop`, and how far it is, for the feeder."""

    def __init__(self, ready: Event, progress: Progress) -> None:
        self.ready, self.progress = ready, progress
        self.seen = 0
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def one(self) -> None:
        self.seen += 1
        if self.seen == 1:
            self.start()
        if self.seen & 127 == 0:
            self.progress.value = self.seen

    def result(self, count: int) -> dict[str, float]:
        self.progress.value = count
        used, took = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return {"us_per_message": round(used / count * 1e6, 2), "per_second": round(count / took)}


def paho_client(place: Place, name: str) -> mqtt.Client:
    import paho.mqtt.client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"{DEVICE}:{name}", protocol=mqtt.MQTTv5)
    client.tls_set_context(place.context())
    client.max_inflight_messages_set(_WINDOW)
    client.connect("localhost", place.port)
    return client


def paho_receive(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    client, over = paho_client(place, "paho"), threading.Event()

    def on_message(_client: object, _data: object, _message: object) -> None:
        measure.one()
        if measure.seen == count:
            over.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: measure.ready.set()
    client.subscribe(place.topic, qos)
    client.loop_start()
    over.wait()
    found = measure.result(count)
    client.disconnect()
    return found


def paho_send(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    client, over, acknowledged = paho_client(place, "paho"), threading.Event(), 0

    def on_publish(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1
        if acknowledged == count:
            over.set()

    client.on_publish = on_publish
    client.loop_start()
    measure.start()
    for number in range(count):
        client.publish(place.topic, PAYLOAD, qos)
        while number - acknowledged > _QUEUED:  # beyond 65,535 it gives identifiers twice
            time.sleep(0.001)
    over.wait()
    found = measure.result(count)
    client.disconnect()
    return found


async def counted(messages: AsyncIterator[object], count: int, measure: Measure) -> dict[str, float]:
    """Take so many messages."""
    async for _ in messages:
        measure.one()
        if measure.seen == count:
            break
    return measure.result(count)


def aiomqtt_client(place: Place) -> aiomqtt.Client:
    import aiomqtt

    client = aiomqtt.Client(
        "localhost",
        place.port,
        identifier=f"{DEVICE}:aio",
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=place.context(),
        max_inflight_messages=_WINDOW,
    )
    client.pending_calls_threshold = _WINDOW  # a warning for each publish beyond it would be what is measured
    return client


def _received(
    client: Callable[[Place], AbstractAsyncContextManager[Any]], place: Place, qos: int, count: int, measure: Measure
) -> dict[str, float]:
    """By a client of asyncio, which both have the same face."""

    async def main() -> dict[str, float]:
        async with client(place) as connected:
            await connected.subscribe(place.topic, qos=qos)
            measure.ready.set()
            return await counted(connected.messages, count, measure)

    return asyncio.run(main())


def aiomqtt_receive(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    return _received(aiomqtt_client, place, qos, count, measure)


def aiomqtt_send(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    async def main() -> dict[str, float]:
        async with aiomqtt_client(place) as client:
            measure.start()
            for _ in range(0, count, _WINDOW):
                await asyncio.gather(*(client.publish(place.topic, PAYLOAD, qos=qos) for _ in range(_WINDOW)))
            return measure.result(count)

    return asyncio.run(main())


def sealmq_client(place: Place) -> Client:
    return Client(f"mqtts://localhost:{place.port}", identity=place.folder, client_id=f"{DEVICE}:own")


def sealmq_receive(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    return _received(sealmq_client, place, qos, count, measure)


def sealmq_send(place: Place, qos: int, count: int, measure: Measure) -> dict[str, float]:
    async def main() -> dict[str, float]:
        async with sealmq_client(place) as client:
            measure.start()
            await client.publish_many(((place.topic, PAYLOAD) for _ in range(count)), qos=qos)
        return measure.result(count)  # all of it has left by now

    return asyncio.run(main())


CLIENTS: dict[str, tuple[Callable[..., dict[str, float]], Callable[..., dict[str, float]]]] = {
    "paho": (paho_receive, paho_send),
    "aiomqtt": (aiomqtt_receive, aiomqtt_send),
    "sealmq": (sealmq_receive, sealmq_send),
}


def child(work: Callable[..., dict[str, float]], place: Place, qos: int, count: int, shared: tuple[Any, ...]) -> None:
    ready, progress, answer = shared
    answer.put(work(place, qos, count, Measure(ready, progress)))


def run(work: Callable[..., dict[str, float]], place: Place, qos: int, count: int, *, feed: bool) -> dict[str, float]:
    """One client in its own process; with `feed` this process publishes what it receives."""
    context = mp.get_context("spawn")
    ready, progress, answer = context.Event(), context.Value("l", 0, lock=False), context.Queue()
    running = context.Process(target=child, args=(work, place, qos, count, (ready, progress, answer)))
    running.start()
    if feed:
        ready.wait()
        target, identity = Target("mqtts", "localhost", place.port), Identity.bundle(place.folder)
        with Connection.open(target, identity, client_id=f"{DEVICE}:feed") as feeder:
            for _ in feeder.publish_many(place.topic, _paced(progress, count), qos=qos, timeout=60):
                pass
            found = answer.get()
    else:
        found = answer.get()
    running.join()
    return found


def _paced(progress: Progress, count: int) -> Iterator[bytes | None]:
    for number in range(count):
        if number % 500 == 0:
            yield None
            while number - progress.value > _AHEAD:
                time.sleep(0.0005)
        yield PAYLOAD
    yield None


def main() -> None:
    """Start a broker, run everything, print."""
    options = argparse.ArgumentParser(description="CPU of Python clients per message")
    options.add_argument("--count", type=int, default=200_000)
    options.add_argument("--clients", default=",".join(CLIENTS))
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "sealmq", "--data", data]
        with subprocess.Popen(
            [*command, "up", "--mqtts", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as broker:
            try:
                assert broker.stdout is not None
                port = next(int(line.rpartition(":")[2]) for line in broker.stdout if line.startswith("ready mqtts:"))
                subprocess.run([*command, "device", "add", DEVICE], check=True, stdout=subprocess.DEVNULL)
                place = Place(port, Path(data) / "devices" / DEVICE)
                table(place, given.count, given.clients.split(","))
            finally:
                broker.terminate()


def table(place: Place, count: int, names: list[str]) -> None:
    """Every client, both ways, both QoS."""
    for way, number in (("receive", 0), ("send", 1)):
        for qos in (0, 1):
            found = {name: run(CLIENTS[name][number], place, qos, count, feed=way == "receive") for name in names}
            for name, figures in found.items():
                print(json.dumps({"client": name, "way": way, "qos": qos, "count": count, **figures}), flush=True)
            if "sealmq" in found:
                own = found["sealmq"]["us_per_message"]
                ratios = {name: round(own / figures["us_per_message"], 3) for name, figures in found.items()}
                print(json.dumps({"way": way, "qos": qos, "sealmq_to": ratios}), flush=True)


if __name__ == "__main__":
    main()
