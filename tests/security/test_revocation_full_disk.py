"""A device is thrown out while the disk is full: it is out at once, and told is what of that will last."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import raw_mqtt
import small_disks
from raw_mqtt import Wire

from sealmq.broker import identities
from sealmq.client.connection import Connection
from sealmq.client.target import Target
from sealmq.errors import Environment, NotSo
from sealmq.testing import EphemeralBroker
from sealmq.tls.presharedkey import Psk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts small disks")
ADMINISTRATIVE = 0x98


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[small_disks.SmallDisk]:
    with small_disks.tmpfs(tmp_path, size=8 * small_disks.MIB) as mounted:
        yield mounted


def sealmq(broker: EphemeralBroker, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sealmq", "--data", str(broker.folder.path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def gets_in(broker: EphemeralBroker, files: raw_mqtt.Credentials, client_id: str = "sensor-1") -> bool:
    try:
        with Wire.join(broker.port, files, client_id):
            return True
    except (ssl.SSLError, EOFError, ConnectionError, AssertionError):
        return False


def renewal_status(broker: EphemeralBroker, files: raw_mqtt.Credentials) -> int:
    """What the HTTPS door says to the device: 200, or a refusal."""
    connection = http.client.HTTPSConnection(
        broker.host, broker.port_of("https"), timeout=10, context=raw_mqtt.client_context(files)
    )
    with contextlib.closing(connection):
        connection.request("GET", "/renewal-info")
        return connection.getresponse().status


def test_it_is_out_at_once_and_for_good_when_there_is_room(disk: small_disks.SmallDisk) -> None:
    with EphemeralBroker(data=disk.path / "data", https=True) as broker:
        files, other = broker.device("sensor-1"), broker.device("sensor-2")
        assert renewal_status(broker, files) == 200
        with Wire.join(broker.port, files, "sensor-1") as wire:
            disk.fill(spare=0)
            done = sealmq(broker, "device", "revoke", "sensor-1", "--reason", "key-compromise")
            assert done.returncode == 1
            assert done.stdout.startswith("device sensor-1 shut out (key-compromise): 1 session closed in ")
            error, mend = done.stderr.splitlines()
            assert "is out until this broker ends, no longer: disk is full" in error
            assert mend.startswith("mend: free some space")
            assert wire.rest()[-1].body[0] == ADMINISTRATIVE
        assert "warning revocation-unwritten: device sensor-1 is out until this broker ends" in broker.log_text
        assert not gets_in(broker, files)
        assert renewal_status(broker, files) == 403
        broker.reload()
        assert not gets_in(broker, files), "a reload forgot whom the disk did not take"
        assert gets_in(broker, other, "sensor-2")
        assert sealmq(broker, "device", "token", "sensor-1").returncode == 1
        assert json.loads(sealmq(broker, "--json", "device", "show", "sensor-1").stdout)["status"] == "revoked"
        again = sealmq(broker, "--json", "device", "revoke", "sensor-1", "--reason", "key-compromise")
        told = json.loads(again.stdout)
        assert (again.returncode, told["already"], told["unwritten"]["message"][:12]) == (1, False, "disk is full")
        disk.make_room()
        broker.wait_event("revocation-written", timeout=10.0, device="sensor-1")
        last = sealmq(broker, "device", "revoke", "sensor-1")
        assert (last.returncode, last.stdout.splitlines()[-1]) == (0, "it was revoked before")
    with EphemeralBroker(data=disk.path / "data") as after:
        assert not gets_in(after, files)
        assert gets_in(after, other, "sensor-2")


def test_a_device_with_a_pre_shared_key_is_out_as_well(disk: small_disks.SmallDisk) -> None:
    with EphemeralBroker(data=disk.path / "data", psk=True) as broker:
        key = Psk.parse(broker.device_psk("small-1"))
        target = Target.parse(f"mqtts+psk://localhost:{broker.port_of('psk')}")
        with Connection.open(target, key, client_id="small-1") as connection:
            disk.fill(spare=0)
            assert sealmq(broker, "device", "revoke", "small-1").returncode == 1
            with pytest.raises(NotSo):
                connection.publish("devices/small-1/t", b"still here", qos=1)
        broker.reload()
        with pytest.raises(NotSo):
            Connection.open(target, key, client_id="small-1")


def test_what_was_never_written_is_named_at_the_end(
    disk: small_disks.SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def still_full(*_: object, **__: object) -> None:
        raise Environment("disk is full", code="disk-full")

    with EphemeralBroker(data=disk.path / "data") as broker:
        files = broker.device("sensor-1")
        disk.fill(spare=0)
        monkeypatch.setattr(identities, "write_end", still_full)  # the store gives back what it had when it is closed
        assert sealmq(broker, "device", "revoke", "sensor-1").returncode == 1
    assert "the next start lets it in again" in broker.log_text
    disk.make_room()
    with EphemeralBroker(data=disk.path / "data") as after:
        assert gets_in(after, files)


def test_a_retirement_that_cannot_be_written_shuts_out_and_removes_nothing(disk: small_disks.SmallDisk) -> None:
    with EphemeralBroker(data=disk.path / "data") as broker:
        files = broker.device("sensor-1")
        disk.fill(spare=0)
        assert sealmq(broker, "device", "retire", "sensor-1").returncode == 1
        assert not gets_in(broker, files)
        assert files.key.is_file()
        disk.make_room()
        done = sealmq(broker, "device", "retire", "sensor-1")
        assert (done.returncode, files.key.exists()) == (0, False)
        assert "its files here are removed" in done.stdout


def test_without_a_broker_nothing_has_changed(disk: small_disks.SmallDisk) -> None:
    with EphemeralBroker(data=disk.path / "data") as broker:
        files = broker.device("sensor-1")
    disk.fill(spare=0)
    done = sealmq(broker, "device", "revoke", "sensor-1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: disk is full: cannot ")
    disk.make_room()
    with EphemeralBroker(data=disk.path / "data") as after:
        assert gets_in(after, files)
        assert sealmq(after, "device", "revoke", "sensor-1").returncode == 0
        assert not gets_in(after, files)
