"""`sealmq.Client`, `pub` and `sub` with a pre-shared key: our broker, and servers that mean harm.

Knows nothing of other brokers; those are in the tests that name them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from typing import TYPE_CHECKING

import pytest

import sealmq
from programs import run_sealmq
from programs import sealmq as program
from sealmq.errors import ConfigError, NotSo, SealmqError, UsageError
from sealmq.testing import EphemeralBroker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SECRET = "correct horse battery staple"
SOON = sealmq.Backoff(first=0.01, longest=0.05)


@pytest.fixture(scope="module")
def broker() -> Iterator[EphemeralBroker]:
    with EphemeralBroker(psk=True) as running:
        yield running


@pytest.fixture
def url(broker: EphemeralBroker) -> str:
    return f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}"


@pytest.fixture
def device(broker: EphemeralBroker) -> str:
    """A device of this test alone, with a pre-shared key."""
    name = f"small-{secrets.token_hex(3)}"
    broker.device_psk(name)
    return name


def run(main: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


def test_the_folder_of_a_device_is_an_identity(broker, url, device):
    topic = f"devices/{device}/t"

    async def main() -> None:
        async with sealmq.Client(url, identity=broker.folder.devices_dir / device, client_id=device) as client:
            await client.subscribe(topic, qos=2)
            for qos in (0, 1, 2):
                await client.publish(topic, "21.5", qos=qos)
                assert (await anext(client.messages)).qos == qos
            assert client.connack()["tls"] == {
                "version": "TLS 1.3",
                "cipher": "TLS_AES_128_GCM_SHA256",
                "group": "secp256r1",
                "alpn": "mqtt",
                "resumed": False,
            }

    run(main())
    seen = broker.wait_event("connected", client_id=device)
    assert (seen["device"], seen["certificate"]) == (device, None)


def test_a_revoked_device_is_closed_and_does_not_come_back(broker, url, device):
    topic = f"devices/{device}/t"

    async def main() -> None:
        line = broker.device_psk(device)
        async with sealmq.Client(url, identity=sealmq.Psk.parse(line), client_id=device, reconnect=None) as client:
            await client.subscribe(topic)
            done = await asyncio.to_thread(run_sealmq, "--data", broker.folder.path, "device", "revoke", device)
            assert done.returncode == 0
            with pytest.raises(NotSo):
                await anext(client.messages)
        with pytest.raises(NotSo) as refused:
            async with sealmq.Client(url, identity=sealmq.Psk.parse(line), client_id=device):
                pass
        assert refused.value.code == "tls-psk-refused"

    run(main())
    assert broker.wait_event("refused", cause="revoked")


def test_a_new_key_takes_over_when_it_is_seen_and_the_session_lives(broker, url, device):
    """By the command line, with the broker running; the old line is a copy that somebody kept."""
    topic, kept = f"devices/{device}/t", broker.device_psk(device)
    folder = broker.folder.devices_dir / device

    async def main() -> None:
        async with sealmq.Client(url, identity=sealmq.Psk.parse(kept), client_id=f"{device}:old") as old:
            await old.subscribe(topic)
            done = await asyncio.to_thread(run_sealmq, "--data", broker.folder.path, "device", "renew", device)
            assert (done.returncode, f"{device}~2" in done.stdout) == (0, True)
            assert sealmq.Psk.read(folder / "psk.txt").key.hex() not in done.stdout
            async with sealmq.Client(url, identity=sealmq.Psk.parse(kept), client_id=f"{device}:older"):
                pass  # until then both are good
            async with sealmq.Client(url, identity=folder, client_id=f"{device}:new") as new:
                replaced = await asyncio.to_thread(broker.wait_event, "key-replaced", device=device)
                assert replaced["identity"] == f"{device}~2"
                with pytest.raises(NotSo) as refused:
                    async with sealmq.Client(url, identity=sealmq.Psk.parse(kept), client_id=f"{device}:late"):
                        pass
                assert refused.value.code == "tls-psk-refused"
                await new.publish(topic, "both live", qos=1)
                assert (await anext(old.messages)).text == "both live"
            await asyncio.to_thread(run_sealmq, "--data", broker.folder.path, "device", "revoke", device)
            with pytest.raises(NotSo):
                async with sealmq.Client(url, identity=folder, client_id=f"{device}:new"):
                    pass

    run(main())
    seen = broker.wait_event("connected", client_id=f"{device}:new")
    assert (seen["device"], seen["tls"]["psk"]) == (device, f"{device}~2")


def test_who_is_unknown_and_who_has_another_key_read_the_same(broker, url, device):
    def words(identity: str) -> str:
        with pytest.raises(NotSo) as refused:
            sealmq.Connection.open(
                sealmq.client.Target.parse(url), sealmq.Psk(identity, secrets.token_bytes(32)), client_id="x"
            )
        return f"{refused.value.code} {refused.value} {refused.value.mend}".replace(identity, "ID")

    assert words(device) == words("nobody-at-all")
    assert broker.wait_event("refused", cause="psk-wrong-key")
    assert broker.wait_event("refused", cause="psk-unknown-identity")


def test_a_certificate_and_a_key_do_not_take_the_place_of_one_another(broker, url, device):
    key, files = sealmq.Psk.parse(broker.device_psk(device)), broker.device("sensor-1")
    pair = sealmq.Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    target = sealmq.client.Target.parse
    other = broker.url.replace("mqtts:", "mqtts+psk:")
    with pytest.raises(NotSo) as refused:
        sealmq.Connection.open(target(other), key, client_id=device, password=SECRET)
    assert refused.value.code == "tls-psk-certificate"
    with pytest.raises(NotSo) as refused:
        sealmq.Connection.open(target(url.replace("mqtts+psk:", "mqtts:")), pair, client_id="sensor-1")
    assert refused.value.code == "tls-refused"
    for at, who in ((url, pair), (broker.url, key)):
        with pytest.raises(UsageError):
            sealmq.Connection.open(target(at), who, client_id="x")


def test_as_a_stranger_types_it(broker, url, device, tmp_path):
    data, topic = ["--data", broker.folder.path], f"devices/{device}/t"
    line = broker.device_psk(device)
    copy = tmp_path / "psk.txt"
    copy.write_text(f"{line}\n")
    ways = (["--as", device], ["--psk-file", copy], ["--psk-identity", device, "--psk", line.partition(":")[2]])
    with program(*data, "sub", url, "-t", topic, "--as", device, "-C", "3") as listening:
        listening.expect("^subscribed ")
        for number, way in enumerate(ways):
            done = run_sealmq(*data, "pub", url, "-t", topic, "-m", str(number), "-q", "1", *way)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert listening.wait() == 0
        assert listening.out == "0\n1\n2\n"
    loaded = run_sealmq(*data, "--json", "bench", url, "connect", "--as", device, "-n", "3")
    assert (loaded.returncode, '"connections": 3' in loaded.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "mends"),
    [
        (["--as", "{device}", "--psk-file", "f"], "give one of"),
        (["--as", "{device}", "--cafile", "f"], "leave --cafile"),
        (["--psk", "ab" * 32], "--psk-identity"),
        (["--psk-identity", "a"], "give one of"),
        (["--psk-identity", "a", "--psk", "ab"], "openssl rand"),
        (["--psk-identity", "a", "--psk", "xy" * 32], "psk.txt"),
        (["--psk-file", "/nowhere"], "check path"),
        ([], "--psk-file"),
    ],
)
def test_options_that_do_not_go_together(broker, url, device, words, mends):
    who = [word.format(device=device) for word in words]
    done = run_sealmq("--data", broker.folder.path, "pub", url, "-t", "a", "-m", "b", *who)
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.splitlines()
    assert [line.split(":")[0] for line in said] == ["error", "mend"]
    assert mends in said[1]
    assert "abab" not in done.stderr


def test_the_other_kind_of_device_is_told_its_scheme(broker, url, device):
    broker.device("sensor-1")
    data = ["--data", broker.folder.path]
    done = run_sealmq(*data, "pub", broker.url, "-t", "a", "-m", "b", "--as", device)
    assert (done.returncode, "mqtts+psk://" in done.stderr) == (1, True)
    done = run_sealmq(*data, "pub", url, "-t", "a", "-m", "b", "--as", "sensor-1")
    assert (done.returncode, "mqtts://" in done.stderr) == (1, True)


def test_a_key_never_shows(device):
    key = secrets.token_bytes(32)
    made = sealmq.Psk(device, key)
    assert key.hex() not in f"{made} {made!r}"
    assert device in repr(made)


@pytest.mark.parametrize(
    "line", ["", "a", "a:", ":" + "ab" * 32, "a:ab", "a:" + "xy" * 32, "a:" + "ab" * 65, "\0:" + "ab" * 32]
)
def test_a_line_that_is_none(line):
    with pytest.raises(ConfigError) as raised:
        sealmq.Psk.parse(line)
    assert raised.value.code == "psk-invalid"
    assert "abab" not in f"{raised.value}{raised.value.mend}"


# --- servers that mean harm -------------------------------------------------------------------------------------------


PLAYS: dict[str, tuple[bytes, str]] = {
    "noise": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls-not-tls"),
    "nothing": (b"", "tls-closed"),
    "unknown_psk_identity": (bytes.fromhex("15030300020273"), "tls-psk-refused"),
    "decrypt_error": (bytes.fromhex("15030300020233"), "tls-psk-refused"),
    "handshake_failure": (bytes.fromhex("15030300020228"), "tls-refused"),
    "close_notify": (bytes.fromhex("15030300020100"), "tls-"),
    "a_record_too_large": (bytes.fromhex("160303ffff") + b"\0" * 0xFFFF, "tls-"),
    "a_message_too_large": (bytes.fromhex("16030300040200ffff") + bytes.fromhex("1603034000") + b"\0" * 0x4000, "tls-"),
    "connack_in_clear": (bytes.fromhex("2003000000"), "tls-"),
    "application_data_first": (bytes.fromhex("1703030005") + b"\x20\x03\0\0\0", "tls-"),
}


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], tuple[int, list[bytes]]]]:
    """A server that answers the first bytes with these and ends; its port, and what it heard."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes) -> tuple[int, list[bytes]]:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            heard: list[bytes] = []

            def play() -> None:
                with contextlib.suppress(OSError):
                    peer, _ = listening.accept()
                    with peer:
                        peer.settimeout(5)
                        heard.append(peer.recv(65536))
                        peer.sendall(answer)
                        peer.shutdown(socket.SHUT_WR)
                        while part := peer.recv(65536):
                            heard.append(part)

            thread = threading.Thread(target=play)
            thread.start()
            stack.callback(thread.join, 10)
            return listening.getsockname()[1], heard

        yield start


@pytest.mark.parametrize("play", PLAYS)
def test_whatever_a_server_answers_nothing_of_mqtt_leaves(serve, play):
    answer, code = PLAYS[play]
    port, heard = serve(answer)
    target = sealmq.client.Target.parse(f"mqtts+psk://127.0.0.1:{port}")
    with pytest.raises(SealmqError) as ended:
        sealmq.Connection.open(target, sealmq.Psk("a", b"k" * 32), client_id="x", password=SECRET, timeout=5)
    assert ended.value.code.startswith(code)
    assert heard[0][0] == 0x16
    assert all(part[0] == 0x15 for part in heard[1:])  # an alert at most
    assert SECRET.encode() not in b"".join(heard)


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = sealmq.client.Target.parse(f"mqtts+psk://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(NotSo) as ended:
            sealmq.Connection.open(target, sealmq.Psk("a", b"k" * 32), client_id="x", timeout=0.3)
    assert ended.value.code == "timeout"
