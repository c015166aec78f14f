"""CAs replaced under 200 connected clients: nobody is dropped, and at each step the right ones get in."""

from __future__ import annotations

import base64
import http.client
import shutil
import ssl
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
import raw_mqtt
from raw_mqtt import Wire

from programs import finished
from sealmq.broker import control, soundness
from sealmq.errors import NotSo
from sealmq.pki.operations import device_files
from sealmq.pki.signing import utc_now
from sealmq.testing import EphemeralBroker, ThrowawayCA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealmq.pki.operations import DeviceFiles

CLIENTS = 200
PERCENT = 95


class Fleet:
    """Devices of one broker, each with its files and, once joined, a connection that is kept."""

    def __init__(self, broker: EphemeralBroker, kept: ExitStack, clients: int) -> None:
        self.broker = broker
        self.ids = [f"sensor-{number:03}" for number in range(clients)]
        for device in self.ids:
            broker.device(device)
        self.wires = {
            device: kept.enter_context(Wire.join(broker.port, self.files(device), device)) for device in self.ids
        }

    def files(self, device: str) -> DeviceFiles:
        return device_files(self.broker.folder, device)

    def all_answer(self) -> None:
        """Every connection is the one that was opened at the beginning, and it works."""
        for wire in self.wires.values():
            wire.round_trip()
        gone = [event for event in self.broker.events() if event["event"] == "disconnected"]
        assert [event for event in gone if event["client_id"] in self.wires] == []

    def rotate(self, **args: object) -> dict[str, Any]:
        return control.call(self.broker.folder, "ca-rotate", args)

    def fetch_bundle(self, device: str) -> bytes:
        """What `curl --cert … https://…/.well-known/est/cacerts` does."""
        context = raw_mqtt.client_context(self.files(device))
        door = http.client.HTTPSConnection("127.0.0.1", self.broker.port_of("https"), context=context, timeout=10)
        try:
            door.request("GET", "/.well-known/est/cacerts")
            answer = door.getresponse()
            assert answer.status == 200
            return answer.read()
        finally:
            door.close()


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with EphemeralBroker(https=True) as broker, ExitStack() as kept:
        yield Fleet(broker, kept, CLIENTS)


@pytest.fixture
def few() -> Iterator[Fleet]:
    with EphemeralBroker(https=True) as broker, ExitStack() as kept:
        yield Fleet(broker, kept, 8)


def gets_in(broker: EphemeralBroker, files: DeviceFiles, device: str, *, ca: Path | None = None) -> bool:
    """Whether a new connection with these files verifies the broker and is let in."""
    context = raw_mqtt.client_context(files, ca=ca)
    try:
        with Wire.open(broker.port, files, context=context) as wire:
            wire.send(raw_mqtt.connect(f"{device}:again"))
            done = wire.packet().kind == raw_mqtt.CONNACK
            wire.send(raw_mqtt.packet(0xE0))
            return done
    except (ssl.SSLError, EOFError, ConnectionError):
        return False


@pytest.mark.timeout(180)
def test_the_root_is_replaced_under_200_clients_and_none_is_dropped(fleet, tmp_path):
    broker, folder = fleet.broker, fleet.broker.folder
    old = shutil.copytree(folder.devices_dir / "sensor-000", tmp_path / "old")
    old_files = type(fleet.files("sensor-000")).inside(old)
    old_root = old_files.ca
    began = time.monotonic()

    fleet.rotate(kind="root", step="stage")
    fleet.rotate(kind="root", step="publish")
    fleet.all_answer()

    enough = CLIENTS * PERCENT // 100
    for device in fleet.ids[: enough - 1]:
        fleet.fetch_bundle(device)
    with pytest.raises(NotSo) as caught:
        fleet.rotate(kind="root", step="switch")
    assert caught.value.code == "fleet-not-ready"
    assert f"{CLIENTS - enough + 1} of {CLIENTS} devices do not hold bundle 2" in caught.value.message
    assert fleet.ids[-1] in caught.value.message or "more" in caught.value.message
    fleet.fetch_bundle(fleet.ids[enough - 1])
    fleet.rotate(kind="root", step="switch")
    fleet.all_answer()

    new_root = tmp_path / "new-root.pem"
    new_root.write_bytes(broker._service.authority.root_pem)
    assert gets_in(broker, old_files, "sensor-000", ca=old_root)  # over the bridge
    assert gets_in(broker, old_files, "sensor-000", ca=new_root)

    with pytest.raises(NotSo, match="have no certificate under the new root"):
        fleet.rotate(kind="root", step="drain", threshold=PERCENT / 100)
    for device in fleet.ids:
        control.call(folder, "device-renew", {"id": device})
    fleet.rotate(kind="root", step="drain")
    fleet.rotate(kind="root", step="retire")
    fleet.all_answer()
    took = time.monotonic() - began

    renewed = fleet.files("sensor-000")
    assert gets_in(broker, renewed, "sensor-000", ca=new_root)
    assert not gets_in(broker, renewed, "sensor-000", ca=old_root)
    assert not gets_in(broker, old_files, "sensor-000", ca=new_root)
    assert broker.wait_event("refused")["stage"] in ("certificate", "handshake")
    print(f"\nroot replaced under {CLIENTS} clients in {took:.1f} s, 0 dropped")


@pytest.mark.timeout(180)
def test_issuing_cas_and_certificates_of_the_broker_are_replaced_under_200_clients(fleet):
    broker = fleet.broker
    fleet.rotate(kind="devices")
    fleet.rotate(kind="servers")
    fleet.all_answer()
    assert gets_in(broker, fleet.files("sensor-000"), "sensor-000")
    broker.device("newcomer")
    assert gets_in(broker, broker.device("newcomer"), "newcomer")
    fleet.all_answer()


def test_the_revocation_list_that_is_served_is_there_for_a_new_issuing_ca(few):
    few.rotate(kind="devices")
    context = ssl.create_default_context(cafile=few.files("sensor-000").ca)
    door = http.client.HTTPSConnection("127.0.0.1", few.broker.port_of("https"), context=context, timeout=10)
    with closing(door):
        door.request("GET", "/crl")
        served = door.getresponse().read()
    issuers = {one.issuer for one in soundness.crls(served)}
    assert issuers == {one.certificate.subject for one in few.broker._service.authority.device_issuers()}
    assert len(issuers) == 2


def test_the_https_door_trusts_and_shows_what_is_in_force(few):
    """A context that listens can forget no CA; the one that is chosen per connection does."""
    before = few.files("sensor-001")
    assert few.fetch_bundle("sensor-001")
    for step in ("stage", "publish", "switch", "drain"):
        few.rotate(kind="root", step=step, force=True)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        few.fetch_bundle("sensor-001")  # its files have the old root and a certificate under it
    before.ca.write_bytes(few.broker._service.authority.server_ca_pem())
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        few.fetch_bundle("sensor-001")


def test_the_bundle_is_a_retained_topic_for_every_device(few):
    few.rotate(kind="root", step="stage")
    few.rotate(kind="root", step="publish")
    wire = few.wires["sensor-007"]
    wire.send(raw_mqtt.subscribe("$ca/bundle"))
    kinds = {}
    while len(kinds) < 2:
        packet = wire.packet()
        kinds[packet.kind] = packet.body
    assert b"# sealmq CA bundle, version 2\n" in kinds[raw_mqtt.PUBLISH]
    assert kinds[raw_mqtt.PUBLISH].count(b"BEGIN CERTIFICATE") == 2
    wire.send(raw_mqtt.publish("$ca/bundle", b"mine", qos=1))
    assert wire.packet().body[2] == 0x87  # not authorized: the broker alone writes it


def test_files_of_others_are_swapped_under_a_connection(tmp_path):
    first, second = ThrowawayCA(), ThrowawayCA()
    with EphemeralBroker(ca=first) as broker, Wire.join(broker.port, broker.device("old"), "old") as wire:
        other = second.issue_client("new").write(tmp_path / "new")
        assert not gets_in(broker, other, "new")
        broker._install(second)  # certificate, key and CA, one file after the other
        broker._service._upkeep.tick(utc_now())
        assert gets_in(broker, other, "new")
        assert not gets_in(broker, broker.device("old"), "old", ca=other.ca)
        wire.round_trip()


def test_a_session_is_resumed_after_a_restart_of_the_broker(tmp_path):
    with EphemeralBroker(data=tmp_path / "data") as broker:
        files = broker.device("sensor-1")
        context = raw_mqtt.client_context(files)
        with Wire.open(broker.port, files, context=context) as wire:
            wire.send(raw_mqtt.connect("sensor-1"))
            assert wire.packet().kind == raw_mqtt.CONNACK  # and with it the ticket
            session = wire.socket.session
            assert not wire.socket.session_reused
    with EphemeralBroker(data=tmp_path / "data") as broker:
        with Wire.open(broker.port, files, context=context, session=session) as wire:
            assert wire.socket.session_reused
            wire.send(raw_mqtt.connect("sensor-1"))
            assert wire.packet().kind == raw_mqtt.CONNACK
        (tmp_path / "data" / "tickets.json").unlink()
    with (
        EphemeralBroker(data=tmp_path / "data") as broker,
        Wire.open(broker.port, files, context=context, session=session) as wire,
    ):
        assert not wire.socket.session_reused


def test_stock_clients_confirm_with_curl_and_learn_the_roots_over_mqtt(few, tmp_path):
    """What docs/rotation.md tells devices to do, as it stands there."""
    broker, device = few.broker, few.ids[0]
    files = few.files(device)
    few.rotate(kind="root", step="stage")
    few.rotate(kind="root", step="publish")
    identity = ["--cacert", files.ca, "--cert", files.cert, "--key", files.key]
    url = f"https://localhost:{broker.port_of('https')}/.well-known/est/cacerts"
    fetched = finished("curl", "-sS", *identity, url)
    assert fetched.returncode == 0, fetched.stderr
    der = base64.b64decode(fetched.stdout)
    (tmp_path / "cacerts.der").write_bytes(der)
    printed = finished("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", tmp_path / "cacerts.der")
    assert printed.stdout.count("BEGIN CERTIFICATE") == 3  # both roots and the issuing CA for devices
    found = control.call(broker.folder, "ca-rotation")
    assert (found["confirmed"], device in found["missing"]) == (1, False)

    identity = ["--cert", files.cert, "--key", files.key, "-i", f"{device}:s"]
    options = ["-h", "localhost", "-p", broker.port, *identity, "-V", "5"]
    learnt = finished("mosquitto_sub", *options, "--cafile", files.ca, "-t", "$ca/bundle", "-C", "1", "-W", "10")
    assert learnt.returncode == 0, learnt.stderr
    (tmp_path / "ca-new.pem").write_text(learnt.stdout)
    for step in ("switch", "drain"):
        few.rotate(kind="root", step=step, force=True)
    control.call(broker.folder, "device-renew", {"id": device})
    message = ["-t", f"devices/{device}/x", "-m", "1", "-q", "1"]
    with_new = finished("mosquitto_pub", *options, "--cafile", tmp_path / "ca-new.pem", *message)
    assert with_new.returncode == 0, with_new.stderr
    (tmp_path / "old.pem").write_bytes((broker.folder.ca_dir / "root.pem").read_bytes())
    assert finished("mosquitto_pub", *options, "--cafile", tmp_path / "old.pem", *message).returncode != 0
