"""Messages larger than what the network takes at once leave the client as they were given to it.

Knows nothing of other brokers; ours ends whoever sends a packet that is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import pytest

import sealmq
from sealmq.testing import EphemeralBroker

COUNT = 40
SIZE = 700_000


@pytest.mark.parametrize("proof", ["certificate", "pre-shared key"])
def test_what_is_published_arrives(proof):
    is_shared = proof == "pre-shared key"
    payloads = [secrets.token_bytes(SIZE) for _ in range(COUNT)]

    with EphemeralBroker(psk=is_shared) as broker:
        if is_shared:
            broker.device_psk("large")
            url = f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}"
        else:
            broker.device("large")
            url = f"mqtts://127.0.0.1:{broker.port}"
        identity = broker.folder.devices_dir / "large"

        async def main() -> None:
            async with (
                sealmq.Client(url, identity=identity, client_id="large:listens") as listener,
                sealmq.Client(url, identity=identity, client_id="large", reconnect=None) as sender,
            ):
                await listener.subscribe("devices/large/t", qos=1)
                messages = [("devices/large/t", payload) for payload in payloads]
                sending = asyncio.create_task(sender.publish_many(messages, qos=1))
                for payload in payloads:
                    arrived = await anext(listener.messages)
                    assert hashlib.sha256(arrived.payload).digest() == hashlib.sha256(payload).digest()
                await sending

        asyncio.run(asyncio.wait_for(main(), 60))
