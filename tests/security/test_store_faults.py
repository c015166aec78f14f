"""Faults of the store, provoked for real at a running broker: no room, failing writes, read-only, damaged, not its own.

Knows nothing of how the store is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import raw_mqtt as raw
import small_disks

from programs import Program, run_sealmq
from sealmq.testing import EphemeralBroker

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.ext4"), reason="mounts small disks")
QUOTA_EXCEEDED = 0x97
NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval
MIB = small_disks.MIB
TOPIC = "devices/pump/x"


def absent(port: int, files, *, client_id: str = "pump:queue") -> None:
    """Leave a session behind that keeps what comes on TOPIC."""
    with raw.Wire.open(port, files) as wire:
        wire.send(raw.connect(client_id, flags=0, properties=NEVER) + raw.subscribe(TOPIC, qos=1))
        assert wire.packet().body[1] == 0
        assert wire.packet().body[-1] == 1


def send(wire: raw.Wire, number: int, size: int, *, topic: str = TOPIC) -> int:
    """One message at QoS 1; the reason code of its PUBACK."""
    wire.send(raw.publish(topic, b"%d " % number + b"x" * size, qos=1, packet_id=number))
    puback = wire.packet()
    assert puback.kind == raw.PUBACK, puback
    return puback.body[2] if len(puback.body) > 2 else 0


def waiting(port: int, files, count: int, *, client_id: str = "pump:queue") -> list[int]:
    """The numbers of the first messages that the session left behind is given."""
    found: list[int] = []
    with raw.Wire.open(port, files) as wire:
        wire.send(raw.connect(client_id, flags=0, properties=NEVER))
        assert wire.packet().body[0] == 1, "session present"
        while len(found) < count:
            packet = wire.packet()
            end = 2 + len(TOPIC)
            found.append(int(packet.body[end + 3 :].split(b" ", 1)[0]))
            wire.send(raw.packet(0x40, packet.body[end : end + 2]))
        wire.round_trip()
    return found


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_full_disk(tmp_path, kind):
    """Refused, told, everything else served; and when there is room it goes on. Nothing acknowledged is lost."""
    with getattr(small_disks, kind)(tmp_path, size=32 * MIB) as disk:
        with EphemeralBroker(data=disk.path / "data") as broker:
            files = broker.device("pump")
            absent(broker.port, files)
            with raw.Wire.join(broker.port, files, "pump") as wire:
                disk.fill(spare=6 * MIB)
                kept = [number for number in range(1, 2000) if send(wire, number, 15_000) == 0]
                assert 0 < len(kept) < 1999
                event = broker.wait_event("store", health="full")
                assert "free space on its disk" in event["mend"]
                assert f"warning {event['summary']}\n    mend: {event['mend']}\n" in broker.log_text
                assert broker.broker.stats()["store"]["health"] == "full"
                assert send(wire, 50_000, 10) == QUOTA_EXCEEDED
                serves_the_rest(wire)
                disk.make_room()
                broker.wait_event("store", health="good")
                assert send(wire, 40_000, 10) == 0
        with EphemeralBroker(data=disk.path / "data") as again:
            assert waiting(again.port, again.device("pump"), len(kept) + 1) == [*kept, 40_000]


def test_a_full_store(tmp_path):
    """`durability.max_bytes` is a bound like the disk's own; its least value is 16 MiB."""
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as made:
        made.device("pump")
    (data / "sealmq.toml").write_text(f"[durability]\nmax_bytes = {16 * MIB}\n", encoding="utf-8")
    with EphemeralBroker(data=data) as broker:
        files = broker.device("pump")
        absent(broker.port, files)
        with raw.Wire.join(broker.port, files, "pump") as wire:
            codes = [send(wire, number, 200_000) for number in range(1, 101)]
            assert set(codes) == {0, QUOTA_EXCEEDED}
            broker.wait_event("store", health="full")
            serves_the_rest(wire)
        kept = [number for number, code in enumerate(codes, start=1) if code == 0]
        assert waiting(broker.port, files, len(kept)) == kept
        broker.wait_event("store", health="good")


def serves_the_rest(wire: raw.Wire) -> None:
    """What needs no store goes on: QoS 0, and QoS 1 that no kept session waits for."""
    wire.send(raw.subscribe("devices/pump/live", qos=0, packet_id=60_000))
    assert wire.packet().kind == raw.SUBACK
    wire.send(raw.publish("devices/pump/live", b"still here"))
    assert wire.packet().body.endswith(b"still here")
    assert send(wire, 60_001, 10, topic="devices/pump/nobody") in (0, 0x10)  # 0x10: no matching subscribers


def up(data, *words: object, settings: str = "") -> Program:
    """A broker as a program."""
    if settings:
        (data / "sealmq.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "sealmq", "--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "off"]
    return Program(*command, *words)


@needs_root
@pytest.mark.parametrize("when_failed", ["degrade", "stop"])
def test_a_sync_that_fails(tmp_path, when_failed):
    """A disk that answers EIO: nothing more is acknowledged, and all that was is there once the disk is mended."""
    with small_disks.thin(tmp_path, size=96 * MIB, real=24 * MIB) as disk:
        data = disk.path / "data"
        with EphemeralBroker(data=data) as made:
            files = made.device("pump")
            files = type(files)(*(shutil.copy(path, tmp_path) for path in (files.cert, files.key, files.ca)))
        with up(data, settings=f'[durability]\nwhen_failed = "{when_failed}"\n') as broker:
            port = int(broker.expect(r"^ready mqtts://.*:(\d+)").group(1))
            absent(port, files)
            acknowledged = []
            with raw.Wire.join(port, files, "pump") as wire:
                disk.run_out()
                try:
                    for number in range(1, 400):
                        if send(wire, number, 100_000) == 0:
                            acknowledged.append(number)
                        else:
                            break
                except (AssertionError, EOFError, OSError):
                    pass  # whoever waits for a promise that cannot be kept is told by the end of the connection
                assert number < 399
            broker.expect("store has failed, nothing more is acknowledged that needs it: ")
            broker.expect("mend: look at the disk")
            if when_failed == "stop":
                assert broker.wait() == 1
                assert re.search(r"^error: broker has stopped: store has failed", broker.err, re.MULTILINE)
            else:
                with raw.Wire.join(port, files, "pump") as wire:
                    assert send(wire, 1000, 10) >= 0x80
                    serves_the_rest(wire)
                broker.signal(15)
                broker.wait()
        with small_disks.mended(disk) as good, EphemeralBroker(data=good.path / "data") as again:
            assert waiting(again.port, again.device("pump"), len(acknowledged))[: len(acknowledged)] == acknowledged


@needs_root
def test_a_read_only_disk(tmp_path):
    with small_disks.ext4(tmp_path, size=32 * MIB) as disk:
        with EphemeralBroker(data=disk.path / "data") as broker:
            broker.device("pump")
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
        done = run_sealmq("--data", disk.path / "data", "up", "--mqtts", "127.0.0.1:0", "--https", "off")
        assert done.returncode == 2
        assert re.fullmatch(r"error: .*read-only.*\nmend: .*\n", done.stderr), done.stderr


@pytest.fixture
def stopped(tmp_path):
    """A data folder whose broker was stopped cleanly, with a session that messages wait for."""
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as broker:
        files = broker.device("pump")
        absent(broker.port, files)
        with raw.Wire.join(broker.port, files, "pump") as wire:
            assert [send(wire, number, 500) for number in range(1, 50)] == [0] * 49
    return data


def overwritten(path) -> None:
    """The page that holds the sessions, as a disk that lost it would give it back."""
    content = path.read_bytes()
    at = content.index(b"pump:queue") // 4096 * 4096
    path.write_bytes(content[:at] + b"\xff" * 4096 + content[at + 4096 :])


def headless(path) -> None:
    """The first page is another."""
    path.write_bytes(b"\x5a" * 4096 + path.read_bytes()[4096:])


def cut(path) -> None:
    """Half of it is gone."""
    os.truncate(path, path.stat().st_size // 8192 * 4096)


def emptied(path) -> None:
    """All of it is gone but the name."""
    os.truncate(path, 0)


def lost_beside_its_log(path) -> None:
    """The file is gone and its log is not."""
    path.with_name(path.name + "-wal").write_bytes(path.read_bytes())
    path.unlink()


@pytest.mark.parametrize("damage", [overwritten, headless, cut, emptied, lost_beside_its_log])
def test_a_damaged_file_is_never_taken_for_a_new_one(stopped, damage):
    store = stopped / "store.sqlite3"
    damage(store)
    before = {path.name: path.stat().st_size for path in stopped.glob("store.sqlite3*")}
    done = run_sealmq("--data", stopped, "up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert done.returncode == 2
    assert re.fullmatch(rf"(?s).*error: store {store} is damaged: .*\nmend: .*sealmq store restore.*\n", done.stderr)
    checked = run_sealmq("--data", stopped, "store", "check", "--json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["findings"]
    assert {path.name: path.stat().st_size for path in stopped.glob("store.sqlite3*")} == before


def test_a_store_of_a_newer_version(stopped):
    store = stopped / "store.sqlite3"
    with closing(sqlite3.connect(store)) as newer:
        newer.execute("PRAGMA user_version = 99")
    for words in (["up", "--mqtts", "127.0.0.1:0", "--https", "off"], ["store", "check"], ["store", "stats"]):
        done = run_sealmq("--data", stopped, *words)
        assert done.returncode == 2, words
        wanted = (
            rf"(?s).*error: store {store} has schema 99, this version knows up to \d+\nmend: start the version .*\n"
        )
        assert re.fullmatch(wanted, done.stderr)


def test_a_file_of_another_program(stopped):
    store = stopped / "store.sqlite3"
    store.unlink()
    with closing(sqlite3.connect(store)) as other, other:
        other.execute("CREATE TABLE contacts (name TEXT)")
    done = run_sealmq("--data", stopped, "up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert done.returncode == 2
    assert str(store) in done.stderr
    assert "mend: " in done.stderr


def test_a_store_that_another_process_has(stopped):
    with (stopped / "store.sqlite3.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = run_sealmq("--data", stopped, "up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert done.returncode == 2
    assert re.search(
        r"^error: store .* is in use by another process\nmend: stop the other broker", done.stderr, re.MULTILINE
    )


def test_a_second_broker_on_the_folder(stopped):
    with up(stopped) as first:
        first.expect("^ready ")
        done = run_sealmq("--data", stopped, "up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: data folder {stopped} is in use by process {first.pid}\nmend: ")
