"""`sealmq.Client` with our broker: messages, requests, loss and return, tickets across a restart, pins and lists."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import sealmq
from sealmq.broker.service import Service
from sealmq.client.identity import Identity
from sealmq.config.settings import load
from sealmq.errors import NotSo
from sealmq.pki.operations import device_add
from sealmq.testing import EphemeralBroker

SOON = sealmq.Backoff(first=0.01, longest=0.05)
ME = "sensor-1"
TOPIC = f"devices/{ME}/t"


@pytest.fixture
def identity(broker_of_one):
    return Identity.bundle(broker_of_one.device(ME).cert.parent)


@pytest.fixture
def broker_of_one(tmp_path):
    with EphemeralBroker(data=tmp_path / "data") as running:
        yield running


def disconnect(broker):
    broker.broker.disconnect_device(ME, reason_code=0x98, reason="a test")


def run(main):
    return asyncio.run(asyncio.wait_for(main, 30))


async def some(client, count):
    found = []
    async for message in client.messages:
        found.append(message)
        if len(found) == count:
            return found
    return found


@pytest.mark.parametrize("version", ["5.0", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_there_and_back(broker_of_one, identity, version, qos):
    async def main():
        async with sealmq.Client(broker_of_one.url, identity=identity, client_id=ME, version=version) as client:
            assert await client.subscribe(TOPIC, qos=2) == [2]
            assert await client.publish(TOPIC, "21.5", qos=qos) == 0
            assert await client.publish(TOPIC, b"", qos=qos) == 0
            return await some(client, 2)

    first, second = run(main())
    assert (first.topic, first.text, first.qos, second.payload) == (TOPIC, "21.5", qos, b"")


def test_ten_thousand_in_order(broker_of_one, identity):
    """More than the windows of both sides, so that back-pressure is at work."""
    count = 10_000

    async def main():
        async with sealmq.Client(broker_of_one.url, identity=identity, client_id=ME) as client:
            await client.subscribe(TOPIC, qos=1)
            sending = asyncio.create_task(client.publish_many(((TOPIC, str(n)) for n in range(count)), qos=1))
            found = await some(client, count)
            await sending
            return found

    assert [int(message.payload) for message in run(main())] == list(range(count))


def test_a_refusal_names_the_reason(broker_of_one, identity):
    async def main():
        async with sealmq.Client(broker_of_one.url, identity=identity, client_id=ME) as client:
            with pytest.raises(NotSo) as refused:
                await client.publish("elsewhere", b"", qos=1)
            with pytest.raises(NotSo) as denied:
                await client.subscribe("elsewhere/#")
            return refused.value.code, denied.value.code

    assert run(main()) == ("reason-0x87", "reason-0x87")


def test_a_request_and_its_answer(broker_of_one, identity):
    async def main():
        url = broker_of_one.url
        async with (
            sealmq.Client(url, identity=identity, client_id=f"{ME}:server") as server,
            sealmq.Client(url, identity=identity, client_id=f"{ME}:asker") as asker,
        ):
            await server.subscribe(f"devices/{ME}/ask", qos=1)

            async def serve():
                async for message in server.messages:
                    await server.respond(message, message.payload.upper())

            serving = asyncio.create_task(serve())
            answers = await asyncio.gather(*(asker.request(f"devices/{ME}/ask", f"q{n}") for n in range(20)))
            serving.cancel()
            with pytest.raises(NotSo) as late:
                await asker.request(f"devices/{ME}/nobody", "x", timeout=0.05)
            return [answer.text for answer in answers], late.value.code

    assert run(main()) == ([f"Q{n}" for n in range(20)], "timeout")


def test_a_loss_is_mended_and_nothing_acknowledged_is_lost(broker_of_one, identity):
    async def main():
        client = sealmq.Client(broker_of_one.url, identity=identity, client_id=ME, reconnect=SOON)
        async with client:
            await client.subscribe(TOPIC, qos=1)
            seen, last = set(), asyncio.Event()

            async def receive():
                async for message in client.messages:
                    seen.add(int(message.payload))
                    if message.payload == b"-1":
                        last.set()

            async def send():
                for number in range(400):
                    if number in (50, 150, 250):
                        losing.append(asyncio.create_task(asyncio.to_thread(disconnect, broker_of_one)))
                    await client.publish(TOPIC, str(number), qos=1)
                return number + 1

            losing = []
            receiving = asyncio.create_task(receive())
            sent = await send()
            await asyncio.gather(*losing)
            await client.publish(TOPIC, "-1", qos=1)
            await last.wait()
            receiving.cancel()
            return sent, client.connack()["tls"]["resumed"]

    assert run(main()) == (400, True)


def test_resumption_across_a_restart_of_the_broker(tmp_path):
    """Ticket keys are in the data folder: the first connection to the new process costs no certificate."""
    data, address = tmp_path / "data", "127.0.0.1:0"

    def service():
        overrides = {"listen.mqtts": [address], "listen.https": ""}
        return Service(data, lambda: load(data / "sealmq.toml", overrides=overrides, environ={}), log_to=io.StringIO())

    async def main():
        nonlocal address
        with contextlib.ExitStack() as first:
            running = first.enter_context(service())
            made = device_add(running.folder, running.authority, running.registry, id=ME)
            url = running.urls()[0]
            address = url.removeprefix("mqtts://")
            folder = Path(made["files"]["cert"]).parent
            async with sealmq.Client(url, identity=folder, client_id=ME, reconnect=SOON) as client:
                assert client.connack()["tls"]["resumed"] is False
                await client.publish(TOPIC, "before", qos=1)
                await asyncio.to_thread(first.close)
                later = client.publish_nowait(TOPIC, "while it was away", qos=1)
                with service():
                    await later
                    return client.connack()["tls"]

    assert run(main())["resumed"] is True


def spki(pem: bytes) -> str:
    key = x509.load_pem_x509_certificates(pem)[0].public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def test_pins_hold_for_the_anchor_and_not_for_another_key(broker_of_one, identity):
    backup = "ab" * 32

    async def connect(*pins):
        pinned = Identity(identity.ca, identity.certificate, identity.key, pins=pins)
        async with sealmq.Client(broker_of_one.url, identity=pinned, client_id=ME):
            pass

    run(connect(spki(identity.ca), backup))
    with pytest.raises(NotSo) as refused:
        run(connect("cd" * 32, backup))
    assert refused.value.code == "tls-pin-mismatch"
    # nothing of MQTT left: the broker saw a handshake that the client ended
    with pytest.raises(NotSo):
        run(connect(spki(identity.certificate), backup))


def test_the_queue_waits_on_disk_for_the_next_process(broker_of_one, identity, tmp_path):
    file = tmp_path / "queue"

    async def first():
        client = sealmq.Client(
            broker_of_one.url, identity=identity, client_id=ME, queue_file=file, reconnect=None, timeout=5
        )
        async with client:
            await asyncio.to_thread(disconnect, broker_of_one)
            with pytest.raises(NotSo):
                async for _ in client.messages:
                    pass
            with pytest.raises(NotSo):
                client.publish_nowait(TOPIC, "late", qos=1)

    async def second():
        async with sealmq.Client(broker_of_one.url, identity=identity, client_id=ME, queue_file=file) as client:
            await client.subscribe(TOPIC, qos=1)
            client.publish_nowait(TOPIC, "kept", qos=1)
            return await some(client, 1)

    run(first())
    assert [message.text for message in run(second())] == ["kept"]


def test_a_newer_twin_ends_the_older_for_good(broker_of_one, identity):
    async def main():
        url = broker_of_one.url
        async with (
            sealmq.Client(url, identity=identity, client_id=ME, reconnect=SOON) as old,
            sealmq.Client(url, identity=identity, client_id=ME, reconnect=SOON) as new,
        ):
            with pytest.raises(NotSo) as ended:
                async for _ in old.messages:
                    pass
            assert new.is_connected
            return ended.value.message

    assert "taken over" in run(main())


def test_cancellation_says_disconnect(broker_of_one, identity):
    """A will that must not be published: the task is cancelled, the connection ends in order."""

    async def main():
        will = sealmq.Will(TOPIC, b"gone", qos=1)
        entered = asyncio.Event()

        async def live():
            async with sealmq.Client(broker_of_one.url, identity=identity, client_id=f"{ME}:a", will=will) as client:
                entered.set()
                async for _ in client.messages:
                    pass

        async with sealmq.Client(broker_of_one.url, identity=identity, client_id=f"{ME}:b") as watcher:
            await watcher.subscribe(TOPIC, qos=1)
            task = asyncio.create_task(live())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await watcher.publish(TOPIC, "last", qos=1)
            return await some(watcher, 1)

    assert [message.text for message in run(main())] == ["last"]


def test_a_list_that_does_not_speak_of_the_server_is_refused(broker_of_one, identity):
    """The CRL of the device CA says nothing of the broker's certificate: unknown is not good."""
    listed = Identity.read(
        ca=broker_of_one.folder.ca_dir / "root.pem", crl=broker_of_one.folder.ca_dir / "devices.crl.pem"
    )

    async def main():
        with pytest.raises(NotSo) as refused:
            await sealmq.Client(broker_of_one.url, identity=listed, client_id=ME).__aenter__()
        return refused.value.code

    assert run(main()) == "tls-revocation-unknown"
    del identity


def test_the_public_cas_do_not_vouch_for_a_private_broker(broker_of_one):
    async def main():
        with pytest.raises(NotSo) as refused:
            await sealmq.Client(broker_of_one.url, client_id=ME).__aenter__()
        return refused.value.code

    assert run(main()) == "tls-untrusted-issuer"


def test_nothing_but_dangerous_believes_anybody(broker_of_one, identity):
    from sealmq import dangerous

    credulous = dangerous.unverified(Identity(b"", identity.certificate, identity.key))

    async def main():
        async with sealmq.Client(broker_of_one.url, identity=credulous, client_id=ME) as client:
            return client.is_connected

    assert run(main())
