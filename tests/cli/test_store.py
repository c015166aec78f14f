"""`sealmq store` as it is typed, beside a broker and without one, and what `sealmq status` and metrics show of it."""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
import stat

import pytest

from programs import run_sealmq
from sealmq.datafolder import DataFolder
from sealmq.testing import EphemeralBroker
from security import raw_mqtt as raw

WAITING = [b"1", b"2", b"3", b"kept"]
NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval


def store_of(data, *args: object):
    return run_sealmq("--data", data, "store", *args)


def queue(running, count: int, *, session: str = "sensor-1:queue") -> None:
    """So many acknowledged messages for a session that is away, and one retained."""
    files = running.device()
    port = running.ready["mqtts"]
    with raw.Wire.open(port, files) as away:
        away.send(raw.connect(session, flags=0, properties=NEVER))
        assert away.packet().body[1] == 0
        away.send(raw.subscribe("devices/sensor-1/#", qos=1))
        answers = iter(away.packet, None)
        assert next(answer for answer in answers if answer.kind == raw.SUBACK).body[-1] == 1
        away.send(raw.packet(0xE0))
        away.rest()
    with raw.Wire.join(port, files, "sensor-1") as sender:
        for number in range(1, count + 1):
            sender.send(raw.publish("devices/sensor-1/x", b"%d" % number, qos=1, packet_id=number))
            assert sender.packet().kind == raw.PUBACK
        sender.send(raw.publish("devices/sensor-1/last", b"kept", qos=1, packet_id=count + 1, retain=1))
        assert sender.packet().kind == raw.PUBACK


def fetch(running, count: int = 4, *, session: str = "sensor-1:queue") -> tuple[int, list[bytes]]:
    """Whether the session is there, and the first payloads that wait for it; none is acknowledged."""
    with raw.Wire.open(running.ready["mqtts"], running.device()) as back:
        back.send(raw.connect(session, flags=0, properties=NEVER))
        present = back.packet().body[0] & 1
        packets = [back.packet() for _ in range(count)]
        return present, [packet.body.rsplit(b"\0", 1)[1] for packet in packets]


def stop(running) -> None:
    running.signal(15)
    assert running.wait() == 0


@pytest.fixture
def filled(up):
    """A broker with three messages and a retained one for a session that is away."""
    running = up()
    queue(running, 3)
    return running


def test_status_shows_what_is_kept(filled):
    shown = filled.sealmq("status").stdout
    assert re.search(
        r"^  keeps +durability sync: 4 messages \(\d+ B\) for 1 session, \d+ retained; .* good$", shown, re.MULTILINE
    )
    assert re.search(r"^ +\d+ commits, \d+ synced; p50 \d+\.\d\d ms, p99 \d+\.\d\d ms$", shown, re.MULTILINE)
    found = json.loads(filled.sealmq("status", "--json").stdout)
    assert found["durability"]["default"] == "sync"
    assert found["counts"]["store"]["queued_messages"] == 4


def test_status_says_when_nothing_is_kept(up, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text('[durability]\ndefault = "memory"\n', encoding="utf-8")
    running = up("--config", config)
    assert "  keeps    durability memory: nothing on disk\n" in running.sealmq("status").stdout
    done = running.sealmq("store", "stats")
    assert done.returncode == 1
    assert done.stderr.startswith("error: broker keeps everything in memory\nmend: ")


def test_metrics(filled):
    context = ssl.create_default_context(cafile=filled.data / "ca" / "root.pem")
    import urllib.request

    url = f"https://localhost:{filled.ready['https']}/metrics"
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    assert "sealmq_store_queued_messages 4.0" in lines
    assert 'sealmq_store_health{state="good"} 1.0' in lines
    assert any(line.startswith('sealmq_store_commit_seconds{quantile="0.99"} 0.') for line in lines)


def test_backup_beside_a_broker_and_back(filled, up, tmp_path):
    copy = tmp_path / "copy.sqlite3"
    done = filled.sealmq("store", "backup", copy, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    assert (made["path"], made["messages"], made["sessions"]) == (str(copy), 4, 1)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert fetch(filled) == (1, WAITING)
    again = filled.sealmq("store", "backup", copy)
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: {copy} is there already\nmend: ")

    stop(filled)
    refused = store_of(filled.data, "restore", copy)
    assert refused.returncode == 2
    assert "mend: give --replace: what is there is kept under another name\n" in refused.stderr
    replaced = json.loads(store_of(filled.data, "restore", copy, "--replace", "--json").stdout)
    assert replaced["messages"] == 4
    assert replaced["kept"].startswith(f"{filled.data}/store.sqlite3.before-restore-")
    assert sorted(path.name for path in filled.data.glob("store.sqlite3.restored*")) == []
    assert stat.S_IMODE((filled.data / "store.sqlite3").stat().st_mode) == 0o600
    assert fetch(up()) == (1, WAITING)


def test_restore_after_a_kill_takes_the_log_along(filled, up, tmp_path):
    """The log of the old store must not be played into the new one."""
    copy = tmp_path / "copy.sqlite3"
    assert filled.sealmq("store", "backup", copy).returncode == 0
    queue(filled, 5)
    filled.signal(9)
    filled.wait()
    log = filled.data / "store.sqlite3-wal"
    assert log.stat().st_size > 0
    done = store_of(filled.data, "restore", copy, "--replace", "--json")
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)["kept"]
    assert not log.exists()
    check = sqlite3.connect(f"file:{kept}?mode=ro", uri=True)
    # four and six; the retained one again when it came before the subscriber had left
    assert check.execute("SELECT count(*) FROM queue").fetchone()[0] in (10, 11)
    check.close()
    assert fetch(up()) == (1, WAITING)


def test_restore_where_there_is_no_store(filled, up, tmp_path):
    copy = tmp_path / "copy.sqlite3"
    stop(filled)
    assert store_of(filled.data, "backup", copy).returncode == 0
    (filled.data / "store.sqlite3").unlink()
    done = store_of(filled.data, "restore", copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 messages for 1 session" in done.stdout
    assert fetch(up()) == (1, WAITING)


def test_the_store_of_another_fleet_is_refused(filled, tmp_path):
    """Its sessions belong to devices that this CA has never heard of."""
    copy = tmp_path / "copy.sqlite3"
    assert filled.sealmq("store", "backup", copy).returncode == 0
    stop(filled)
    other = DataFolder.create_or_open(tmp_path / "other")
    words = f"is that of fleet {DataFolder.open(filled.data).fleet}, not of {other.fleet}\nmend: "
    refused = store_of(other.path, "restore", copy)
    assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    assert not other.store_path.exists()
    # nor does a file that was put in its place get by
    (filled.data / "store.sqlite3").rename(other.store_path)
    up = run_sealmq("--data", other.path, "up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert (up.returncode, words in up.stderr) == (2, True), up.stderr
    assert store_of(other.path, "backup", tmp_path / "own").returncode == 0
    assert store_of(other.path, "restore", tmp_path / "own", "--replace", "--other-fleet").returncode == 0
    with EphemeralBroker(data=other.path) as broker:
        assert broker.broker.store_stats()["queued_messages"] == 4


def test_restore_beside_a_broker_is_refused(filled, tmp_path):
    copy = tmp_path / "copy.sqlite3"
    filled.sealmq("store", "backup", copy)
    done = filled.sealmq("store", "restore", copy, "--replace")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: data folder {filled.data} is in use by process {filled.pid}\nmend: ")


def test_restore_of_what_is_no_backup_changes_nothing(filled, tmp_path):
    stop(filled)
    before = sorted((path.name, path.read_bytes()) for path in filled.data.glob("store.sqlite3*"))
    torn = tmp_path / "torn.sqlite3"
    torn.write_bytes((filled.data / "store.sqlite3").read_bytes()[:9000])
    other = tmp_path / "other.sqlite3"
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE contacts (name TEXT)")
    made.close()
    for source, status in ((torn, 2), (other, 2), (tmp_path / "none", 1)):
        done = store_of(filled.data, "restore", source, "--replace")
        assert done.returncode == status, done.stderr
        assert re.fullmatch(r"error: .*\nmend: .*\n", done.stderr)
        assert str(source) in done.stderr
    assert sorted((path.name, path.read_bytes()) for path in filled.data.glob("store.sqlite3*")) == before


@pytest.mark.parametrize("is_running", [True, False])
def test_check_and_stats(filled, is_running):
    if not is_running:
        stop(filled)
    done = store_of(filled.data, "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"store {filled.data}/store.sqlite3 is sound\n", "")
    assert json.loads(store_of(filled.data, "check", "--json").stdout)["findings"] == []
    found = json.loads(store_of(filled.data, "stats", "--json").stdout)
    assert (found["sessions"], found["queued_messages"], found["health"]) == (1, 4, "good")
    assert "4 messages" in store_of(filled.data, "stats").stdout


def test_check_finds_a_changed_payload(filled):
    stop(filled)
    path = DataFolder.open(filled.data).store_path
    content = path.read_bytes()
    path.write_bytes(content.replace(b"devices/sensor-1/lastkept", b"devices/sensor-1/lastKept", 1))
    assert path.read_bytes() != content
    done = store_of(filled.data, "check")
    assert done.returncode == 1
    assert "error: store " in done.stderr
    assert "is damaged: 1 finding\nmend: stop the broker" in done.stderr
    assert len(json.loads(store_of(filled.data, "check", "--json").stdout)["findings"]) == 1


def test_without_a_store(tmp_path):
    data = tmp_path / "data"
    run_sealmq("--data", data, "device", "add", "sensor-1")
    for words in (["stats"], ["check"], ["backup", tmp_path / "copy"]):
        done = store_of(data, *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert done.stderr.startswith(f"error: store {data}/store.sqlite3 does not exist\nmend: ")
    assert list(data.glob("store*")) == []
