"""A device is thrown out: its sessions, its certificate, its tickets, its tokens, over restarts too."""

from __future__ import annotations

import contextlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import raw_mqtt
from raw_mqtt import V5, V311, Wire

from sealmq.broker import control
from sealmq.datafolder import DataFolder
from sealmq.pki.authority import Authority
from sealmq.pki.operations import device_files, device_revoke
from sealmq.pki.registry import Registry
from sealmq.testing import EphemeralBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PUBACK, DISCONNECT = 4, 14
ADMINISTRATIVE = 0x98


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[EphemeralBroker]:
    """A broker with its own CA, on a data folder that is kept."""
    with EphemeralBroker(data=tmp_path / "data") as running:
        yield running


def gets_in(broker: EphemeralBroker, files: raw_mqtt.Credentials, client_id: str) -> bool:
    try:
        with Wire.join(broker.port, files, client_id) as wire:
            wire.send(raw_mqtt.packet(0xE0))
            return True
    except (ssl.SSLError, EOFError, ConnectionError, AssertionError):
        return False


def revoke(broker: EphemeralBroker, device: str, **args: object) -> dict[str, object]:
    return control.call(broker.folder, "device-revoke", {"id": device, **args})


def test_every_session_is_closed_when_the_call_returns_and_nobody_elses(fleet: EphemeralBroker) -> None:
    files, others = fleet.device("sensor-1"), fleet.device("sensor-2")
    with ExitStack() as stack:
        new = [stack.enter_context(Wire.join(fleet.port, files, f"sensor-1:{n}", version=V5)) for n in range(3)]
        old = stack.enter_context(Wire.join(fleet.port, files, "sensor-1:old", version=V311))
        other = stack.enter_context(Wire.join(fleet.port, others, "sensor-2"))
        found = revoke(fleet, "sensor-1", reason="key-compromise")
        assert (found["sessions_closed"], found["already"]) == (4, False)
        assert [one["client_id"] for one in fleet.broker.sessions() if one["connected"]] == ["sensor-2"]
        for wire in new:
            last = wire.rest()[-1]
            assert (last.kind, last.body[0]) == (DISCONNECT, ADMINISTRATIVE)
            assert last.reason_string(1)
        assert old.rest() == []  # MQTT 3.1.1 has no DISCONNECT from a server
        other.round_trip()
    assert not gets_in(fleet, files, "sensor-1:again")
    assert gets_in(fleet, others, "sensor-2:again")
    assert fleet.wait_event("refused", cause="revoked")["mend"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_ticket_of_before_opens_nothing(fleet: EphemeralBroker, version: ssl.TLSVersion) -> None:
    files = fleet.device("sensor-1")
    context = raw_mqtt.client_context(files)
    context.minimum_version = context.maximum_version = version
    ticket = with_ticket(fleet, context, None)
    assert ticket is not None
    assert ticket.has_ticket
    revoke(fleet, "sensor-1")
    with contextlib.suppress(ssl.SSLError, EOFError, ConnectionError):
        assert with_ticket(fleet, context, ticket) is None, "a revoked device came back by resumption"


def with_ticket(
    fleet: EphemeralBroker, context: ssl.SSLContext, ticket: ssl.SSLSession | None
) -> ssl.SSLSession | None:
    """The session of a connection that was let in, None for one that was not."""
    with raw_mqtt.dial(fleet.port, context, session=ticket) as connection:
        connection.sendall(raw_mqtt.connect("sensor-1:ticket"))
        answer = connection.recv(4096)
        assert not answer or answer[0] == 0x20
        return connection.session if answer and answer[3] == 0 else None


def test_it_holds_over_a_restart_and_when_no_broker_ran(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as first:
        live, resting = first.device("live"), first.device("resting")
        revoke(first, "live")
    folder = DataFolder.open(data)
    with Registry.open(folder) as registry:
        found = device_revoke(folder, Authority.open(folder), registry, id="resting")
    assert found["sessions_closed"] == 0
    with EphemeralBroker(data=data) as second:
        assert not gets_in(second, live, "live")
        assert not gets_in(second, resting, "resting")
        assert gets_in(second, second.device("other"), "other")


def test_a_reload_forgets_nobody(fleet: EphemeralBroker) -> None:
    files = fleet.device("sensor-1")
    revoke(fleet, "sensor-1")
    fleet.reload()
    assert not gets_in(fleet, files, "sensor-1")


def test_many_that_revoke_at_once_revoke_once(fleet: EphemeralBroker) -> None:
    files = fleet.device("sensor-1")
    with Wire.join(fleet.port, files, "sensor-1"), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: revoke(fleet, "sensor-1"), range(8)))
    assert sorted(one["already"] for one in found) == [False] + [True] * 7
    assert sum(one["sessions_closed"] for one in found) == 1


def test_a_revoked_device_is_out_while_reloads_go_on(fleet: EphemeralBroker) -> None:
    """A reload that began before must not hand an older deny list over after the revocation."""
    devices = {name: fleet.device(name) for name in (f"sensor-{number}" for number in range(10))}
    with ThreadPoolExecutor(4) as pool:
        reloads = [pool.submit(fleet.reload) for _ in range(20)]
        list(pool.map(lambda name: revoke(fleet, name), devices))
        for reload in reloads:
            reload.result()
    assert [name for name, files in devices.items() if gets_in(fleet, files, name)] == []


def test_an_id_that_is_given_out_again_is_let_in_with_its_new_certificate_alone(
    fleet: EphemeralBroker, tmp_path: Path
) -> None:
    old = fleet.device("sensor-1")
    kept = {name: getattr(old, name).read_bytes() for name in ("cert", "key", "ca")}
    control.call(fleet.folder, "device-retire", {"id": "sensor-1"})
    control.call(fleet.folder, "device-add", {"id": "sensor-1", "reuse_retired": True})
    assert gets_in(fleet, device_files(fleet.folder, "sensor-1"), "sensor-1")
    stolen = type(old).inside(tmp_path / "kept")
    stolen.cert.parent.mkdir()
    for name, content in kept.items():
        getattr(stolen, name).write_bytes(content)
    assert not gets_in(fleet, stolen, "sensor-1")


def test_a_retired_device_leaves_neither_session_nor_retained_message(fleet: EphemeralBroker) -> None:
    files = fleet.device("sensor-1")
    with Wire.join(fleet.port, files, "sensor-1:keeps", version=V311) as wire:
        wire.send(raw_mqtt.publish("devices/sensor-1/state", b"on", retain=True, qos=1, version=V311))
        assert wire.packet().kind == PUBACK
    found = control.call(fleet.folder, "device-retire", {"id": "sensor-1"})
    assert found["retained_purged"] == 1
    assert [one for one in fleet.broker.sessions() if one["device"] == "sensor-1"] == []


def test_one_certificate_from_two_addresses_is_closed_when_so_configured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    DataFolder.create_or_open(data)
    (data / "sealmq.toml").write_text('[identity]\ncloned = "close"\n')
    with EphemeralBroker(data=data) as broker, ExitStack() as stack:
        files = broker.device("sensor-1")
        wires = [stack.enter_context(from_address(broker, files, f"127.0.0.{n}", f"sensor-1:{n}")) for n in (1, 2)]
        event = broker.wait_event("cloned", device="sensor-1")
        assert (event["addresses"], event["closed"]) == (["127.0.0.1", "127.0.0.2"], 2)
        for wire in wires:
            assert wire.rest()[-1].body[0] == ADMINISTRATIVE


def from_address(broker: EphemeralBroker, files: raw_mqtt.Credentials, address: str, client_id: str) -> Wire:
    """A connection that comes from that loopback address."""
    wire = Wire(raw_mqtt.dial(broker.port, raw_mqtt.client_context(files), source=address))
    wire.send(raw_mqtt.connect(client_id))
    assert wire.packet().body[1] == 0
    return wire
