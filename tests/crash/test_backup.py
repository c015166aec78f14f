"""A backup taken under load is one moment of the store, whole; a broker goes on from it.

Knows nothing of what the store holds.
"""

from __future__ import annotations

import json

from crash import rounds
from crash.broker import BrokerProcess, prepare
from crash.clients import World
from crash.ledger import Ledger
from programs import run_sealmq
from security import raw_mqtt as raw

SESSIONS = ("sub-1", "sub-2", "sub-4", "pub-1", "pub-2")


def test_a_backup_under_load(tmp_path):
    data = tmp_path / "data"
    files = prepare(data, rounds.NAMES, "")
    world = World(Ledger(), seed=1)
    broker = BrokerProcess(data)
    try:
        world.set(port=broker.start(), is_loading=True)
        with rounds.playing(world, rounds.cast(world, files)):
            with world.ledger.changed:
                assert world.ledger.changed.wait_for(lambda: world.ledger.counts["delivered"] > 1000, 15)
            done = run_sealmq("--data", data, "store", "backup", tmp_path / "copy", "--json")
            assert done.returncode == 0, done.stderr
        broker.end()
        assert world.ledger.violations == []
        made = json.loads(done.stdout)
        assert made["sessions"] >= len(SESSIONS)
        assert made["retained"] > 0
        restored = run_sealmq("--data", data, "store", "restore", tmp_path / "copy", "--replace")
        assert restored.returncode == 0, restored.stderr
        checked = run_sealmq("--data", data, "store", "check")
        assert checked.returncode == 0, checked.stdout
        port = broker.start()
        for name in SESSIONS:
            with raw.Wire.open(port, files[name]) as wire:
                wire.send(raw.connect(name, flags=0))
                assert wire.packet().body[:2] == b"\x01\x00", name
        broker.end()
    finally:
        broker.kill()
