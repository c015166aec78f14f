"""`sealmq.Client` with Debian's mosquitto: certificates and pre-shared keys, TLS 1.2 and 1.3, in one set of tests.

The broker is reached through a relay that a test can cut. Knows nothing of our own broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import secrets
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

import sealmq
from programs import Program, run_sealmq
from programs import sealmq as program
from sealmq.errors import NotSo
from sealmq.testing import ThrowawayCA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from sealmq.client.client import Credential

SOON = sealmq.Backoff(first=0.01, longest=0.05)
KEY = secrets.token_bytes(32)


class Foreign(NamedTuple):
    """A running mosquitto, and who may come in."""

    scheme: str
    port: int
    tls: str
    identity: Credential

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"


@contextlib.contextmanager
def mosquitto(folder: Path, tls: str, *settings: str) -> Iterator[int]:
    # its own `tls_version` says the lowest only
    library = folder / "openssl.cnf"
    library.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n"
        f"[limits]\nMinProtocol = TLSv{tls}\nMaxProtocol = TLSv{tls}\n",
        encoding="utf-8",
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    lines = (f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", *settings, "log_dest stdout")
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Program("mosquitto", "-c", config, env=os.environ | {"OPENSSL_CONF": str(library)}) as running:
        running.expect("mosquitto version .* running")
        yield port


def psk_settings(folder: Path) -> tuple[str, ...]:
    file = folder / "psk_file"
    file.write_text(f"sensor-1:{KEY.hex()}\nsensor-2:{secrets.token_hex(32)}\n", encoding="utf-8")
    return ("psk_hint hint", f"psk_file {file}", "use_identity_as_username true")


@pytest.fixture(scope="module", params=["1.2", "1.3"])
def tls(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["certificate", "psk"])
def broker(request: pytest.FixtureRequest, tls: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    folder = tmp_path_factory.mktemp(f"mosquitto-{request.param}-{tls}")
    if request.param == "psk":
        with mosquitto(folder, tls, *psk_settings(folder)) as port:
            yield Foreign("mqtts+psk", port, f"TLS {tls}", sealmq.Psk("sensor-1", KEY))
        return
    ca = ThrowawayCA()
    server, own = ca.issue_server().write(folder / "tls"), ca.issue_client("sensor-1").write(folder / "sensor-1")
    files = (f"cafile {server.ca}", f"certfile {server.cert}", f"keyfile {server.key}")
    with mosquitto(folder, tls, *files, "require_certificate true", "use_identity_as_username true") as port:
        identity = sealmq.Identity.read(ca=own.ca, certificate=own.cert, key=own.key)
        yield Foreign("mqtts", port, f"TLS {tls}", identity)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return f"test/{request.node.name}"


class Relay:
    """Bytes to and from a port, until `cut`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._pass_on(reader, writer)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        """End every connection without a word of TLS or MQTT."""
        while self._open:
            self._open.pop().transport.abort()

    async def end(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def relayed(broker: Foreign) -> AsyncIterator[Relay]:
    relay = Relay(broker.port)
    async with await asyncio.start_server(relay.take, "127.0.0.1", 0) as server:
        relay.port = server.sockets[0].getsockname()[1]
        yield relay
        await relay.end()


def run(main: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


@pytest.fixture
def client(broker: Foreign) -> Callable[..., sealmq.Client]:
    def make(client_id: str, *, port: int = 0, **options: object) -> sealmq.Client:
        url = f"{broker.scheme}://localhost:{port or broker.port}"
        who = {"identity": broker.identity, "reconnect": SOON} | options
        return sealmq.Client(url, client_id=client_id, **who)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("version", ["5.0", "3.1.1"])
def test_each_quality_of_service_there_and_back(client, broker, topic, version):
    async def main() -> None:
        async with client("talker", version=version) as talker:
            assert talker.connack()["tls"]["version"] == broker.tls
            assert await talker.subscribe(topic, qos=2) == [2]
            for qos in (0, 1, 2):
                await talker.publish(topic, b"\x00\xff", qos=qos)
                message = await anext(talker.messages)
                assert (message.topic, message.payload, message.qos) == (topic, b"\x00\xff", qos)

    run(main())


def test_two_thousand_at_qos_2_in_order(client, topic):
    async def main() -> None:
        async with client("talker") as talker:
            await talker.subscribe(topic, qos=2)
            sending = asyncio.create_task(talker.publish_many(((topic, str(n)) for n in range(2000)), qos=2))
            assert [int((await anext(talker.messages)).payload) for _ in range(2000)] == list(range(2000))
            await sending

    run(main())


def test_a_retained_message_waits(client, topic):
    async def main() -> None:
        async with client("first") as first:
            await first.publish(topic, "on", qos=1, retain=True)
        async with client("second") as second:
            await second.subscribe(topic)
            message = await anext(second.messages)
            assert (message.text, message.retain) == ("on", True)
            await second.publish(topic, b"", qos=1, retain=True)

    run(main())


def test_a_lost_client_leaves_its_will_and_comes_back_to_its_session(client, broker, topic):
    async def main() -> None:
        will = sealmq.Will(f"{topic}/will", b"gone", 1)
        async with relayed(broker) as relay, client("witness") as witness:
            await witness.subscribe(f"{topic}/#", qos=1)
            lost = client("lost", port=relay.port, will=will, session_expiry=300)
            async with lost:
                await lost.subscribe(f"{topic}/for-lost", qos=1)
                relay.cut()
                assert (await anext(witness.messages)).payload == b"gone"
                await witness.publish(f"{topic}/for-lost", "kept", qos=1)
                assert (await anext(lost.messages)).payload == b"kept"
                found = lost.connack()
                assert found["session_present"] is True
                assert found["tls"]["version"] == broker.tls

    run(main())


def test_publishes_under_way_when_the_connection_is_cut_arrive(client, broker, topic):
    async def main() -> None:
        async with relayed(broker) as relay, client("witness") as witness:
            await witness.subscribe(topic, qos=1)
            async with client("lost", port=relay.port, session_expiry=300) as lost:
                sending = [lost.publish_nowait(topic, str(n), qos=1) for n in range(200)]
                await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                relay.cut()
                await asyncio.gather(*sending)
            seen: set[int] = set()
            while len(seen) < 200:
                seen.add(int((await anext(witness.messages)).payload))

    run(main())


def test_fifty_losses_and_with_a_pre_shared_key_every_handshake_is_whole(client, broker, topic):
    """And with certificates every one takes up the last, by mosquitto's ticket."""

    async def main() -> None:
        async with relayed(broker) as relay, client("again", port=relay.port, clean_start=True) as again:
            await again.subscribe(topic)
            for _ in range(50):
                relay.cut()
                await again.publish(topic, "x", qos=1)
                assert again.connack()["tls"]["resumed"] is (broker.scheme == "mqtts")

    run(main())


# --- pre-shared keys alone --------------------------------------------------------------------------------------------


@pytest.fixture
def psk_broker(tls: str, tmp_path: Path) -> Iterator[Foreign]:
    with mosquitto(tmp_path, tls, *psk_settings(tmp_path)) as port:
        yield Foreign("mqtts+psk", port, f"TLS {tls}", sealmq.Psk("sensor-1", KEY))


@pytest.mark.parametrize("identity", ["sensor-1", "sensor-2", "nobody"])
def test_a_key_that_does_not_fit_is_one_clear_sentence(psk_broker, identity):
    wrong = secrets.token_bytes(32)

    async def main() -> None:
        with pytest.raises(NotSo) as refused:
            async with sealmq.Client(psk_broker.url, identity=sealmq.Psk(identity, wrong), client_id="x"):
                pass
        assert refused.value.code in {"tls-psk-refused", "tls-refused"}
        assert refused.value.mend
        assert wrong.hex() not in f"{refused.value} {refused.value.mend}"

    run(main())


def test_the_command_line_reads_the_file_that_mosquitto_reads(psk_broker, topic, tmp_path):
    who = ["--psk-file", tmp_path / "psk_file", "--psk-identity", "sensor-1"]
    with program("sub", psk_broker.url, "-t", topic, *who, "-C", "1", "-v") as listening:
        listening.expect("^subscribed ")
        done = run_sealmq("pub", psk_broker.url, "-t", topic, "-m", "21.5", "-q", "2", *who)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert listening.wait() == 0
        assert listening.out == f"{topic} 21.5\n"
