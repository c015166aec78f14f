"""A device that is retired leaves nothing in the store, also when no broker was there to take it away.

Knows nothing of how it is taken away.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sealmq.datafolder import DataFolder
from sealmq.pki import operations
from sealmq.pki.authority import Authority
from sealmq.pki.registry import Registry
from sealmq.testing import EphemeralBroker
from security import raw_mqtt as raw

NEVER = b"\x11\xff\xff\xff\xff"  # session expiry interval


def test_what_was_left_is_purged_at_the_next_start(tmp_path):
    """As after a crash between the registry's word and the store's."""
    with EphemeralBroker(data=tmp_path / "data") as broker:
        for device in ("pump", "valve"):
            with raw.Wire.open(broker.port, broker.device(device)) as wire:
                wire.send(raw.connect(device, flags=0, properties=NEVER))
                assert wire.packet().body[1] == 0
                wire.send(raw.publish(f"devices/{device}/state", b"on", qos=1, retain=1))
                assert wire.packet().kind == raw.PUBACK
    folder = DataFolder.open(tmp_path / "data")
    with folder.lock(), Registry.open(folder) as registry:
        operations.device_retire(folder, Authority.open(folder), registry, id="pump")
    with EphemeralBroker(data=tmp_path / "data") as broker:
        assert [session["device"] for session in broker.broker.sessions()] == ["valve"]
    with closing(sqlite3.connect(f"file:{folder.store_path}?mode=ro", uri=True)) as store:
        topics = store.execute("SELECT topic FROM retained WHERE topic LIKE 'devices/%/state'").fetchall()
    assert topics == [("devices/valve/state",)]
