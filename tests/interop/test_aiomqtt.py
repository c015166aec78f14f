"""aiomqtt with an `ssl.SSLContext` of ours: messages as an asynchronous iterator, wills, denials."""

from __future__ import annotations

import asyncio
import socket

import aiomqtt
import pytest
from stock import V5

from programs import PATIENCE
from sealmq.tls import client_context


@pytest.fixture
def connect(broker, files, device, version):
    protocol = aiomqtt.ProtocolVersion.V5 if version == V5 else aiomqtt.ProtocolVersion.V311
    context = client_context(ca=files.ca, certificate=files.cert, key=files.key)

    def client(role: str, **options) -> aiomqtt.Client:
        return aiomqtt.Client(
            "localhost", broker.port, identifier=f"{device}:{role}", tls_context=context, protocol=protocol, **options
        )

    return client


def run(main):
    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_messages_as_an_iterator(connect, device):
    async def main():
        async with connect("sub") as listener, connect("pub") as sender:
            await listener.subscribe(f"devices/{device}/#", qos=2)
            for number in range(100):
                await sender.publish(f"devices/{device}/n", str(number), qos=number % 3)
            got = []
            async for message in listener.messages:
                got.append((int(message.payload), message.qos))
                if len(got) == 100:
                    break
            assert sorted(got) == [(number, number % 3) for number in range(100)]
            assert [number for number, qos in got if qos == 1] == list(range(1, 100, 3))

    run(main)


def test_a_will(connect, device):
    async def main():
        topic = f"devices/{device}/status"
        async with connect("watcher") as watcher:
            await watcher.subscribe(topic, qos=1)
            doomed = connect("doomed", will=aiomqtt.Will(topic, "lost", qos=1, retain=True))
            await doomed.__aenter__()
            doomed._client.socket().shutdown(socket.SHUT_RDWR)
            with pytest.raises(aiomqtt.MqttError):
                await anext(doomed.messages)
            await doomed.__aexit__(None, None, None)
            message = await anext(watcher.messages)
            assert (message.payload, message.retain) == (b"lost", False)

    run(main)


def test_many_clients_at_once(broker, connect, device):
    async def main():
        clients = [connect(f"n{number}") for number in range(20)]
        await asyncio.gather(*(client.__aenter__() for client in clients))
        try:
            await clients[0].subscribe(f"devices/{device}/#", qos=1)
            await asyncio.gather(*(client.publish(f"devices/{device}/x", "m", qos=1) for client in clients))
            for _ in clients:
                await anext(clients[0].messages)
            assert broker.broker.stats()["connections"] >= len(clients)
        finally:
            await asyncio.gather(*(client.__aexit__(None, None, None) for client in clients))

    run(main)


def test_a_denied_subscription(connect, version):
    async def main():
        async with connect("a") as client:
            codes = await client.subscribe("devices/somebody-else/#")
            assert (codes[0] if isinstance(codes[0], int) else codes[0].value) == (0x87 if version == V5 else 0x80)

    run(main)
