"""Enrolment at a running broker: what the MQTT side does with those who came in, and with those who may only renew."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import raw_mqtt
from cryptography import x509
from raw_mqtt import Wire

from sealmq.broker import control
from sealmq.client.agent import Agent, prove_by_connecting
from sealmq.client.registration import RegistrationServer
from sealmq.datafolder import DataFolder
from sealmq.errors import NotSo
from sealmq.pki import enrolment, requests, signing
from sealmq.pki.authority import Authority
from sealmq.pki.devicefiles import DeviceFiles, write_new
from sealmq.pki.operations import device_token
from sealmq.pki.registry import Registry
from sealmq.pki.tokens import EnrolmentUri
from sealmq.testing import EphemeralBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = timedelta(days=1)


@pytest.fixture
def files(tmp_path: Path) -> DeviceFiles:
    return DeviceFiles.inside(tmp_path / "device")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose CA is 100 days old."""
    Authority.create(DataFolder.create_or_open(tmp_path / "data"), now=signing.utc_now() - 100 * DAY)
    return tmp_path / "data"


@pytest.fixture
def broker(data: Path) -> Iterator[EphemeralBroker]:
    with EphemeralBroker(data=data, https=True) as running:
        yield running


def enrolled_then(data: Path, files: DeviceFiles, *, days_ago: int) -> None:
    """A device that enrolled some days ago and then slept."""
    folder, now = DataFolder.open(data), signing.utc_now() - days_ago * DAY
    authority, key = Authority.open(folder), signing.new_key()
    with Registry.open(folder) as registry:
        token = device_token(folder, authority, registry, id="sensor-1", new=True, now=now)["token"]
        request = requests.build(key, subject=x509.Name([]), names=[])
        issued = enrolment.by_token(authority, registry, token=token, request=request, now=now)
    write_new(
        files.cert.parent,
        cert_chain_pem=issued.chain_pem,
        key_pem=signing.key_pem(key),
        ca_pem=authority.server_ca_pem(),
    )


def agent(broker: EphemeralBroker, files: DeviceFiles, uri: EnrolmentUri | None = None) -> Agent:
    server = RegistrationServer(f"https://{broker.host}:{broker.port_of('https')}")
    return Agent(
        files,
        server,
        prove=prove_by_connecting(broker.host),
        tell=lambda _line: None,
        chance=lambda: 0.5,
        uri=uri,
    )


def gets_in(broker: EphemeralBroker, files: DeviceFiles) -> bool:
    try:
        with Wire.join(broker.port, files, "sensor-1:probe") as wire:
            wire.send(raw_mqtt.packet(0xE0))
            return True
    except (ssl.SSLError, EOFError, ConnectionError, AssertionError):
        return False


def test_an_expired_device_may_renew_and_nothing_else(data: Path, files: DeviceFiles) -> None:
    enrolled_then(data, files, days_ago=40)
    with EphemeralBroker(data=data, https=True) as broker:
        assert not gets_in(broker, files)
        broker.wait_event("refused", cause="certificate-expired")
        agent(broker, files).step()
        assert gets_in(broker, files)


def test_past_the_grace_it_may_not_even_that(data: Path, files: DeviceFiles) -> None:
    enrolled_then(data, files, days_ago=99)
    (data / "sealmq.toml").write_text('[enrolment]\ngrace = "30d"\n')
    with EphemeralBroker(data=data, https=True) as broker:
        with pytest.raises(NotSo) as caught:
            agent(broker, files).step()
        assert caught.value.code == "certificate-expired"
        assert broker.wait_event("refused", cause="certificate-expired", stage="enrolment")["listener"] == "https"


def test_a_renewal_is_proven_and_the_old_certificate_superseded(data: Path, files: DeviceFiles) -> None:
    enrolled_then(data, files, days_ago=25)
    with EphemeralBroker(data=data, https=True) as broker:
        before = files.key.read_bytes()
        agent(broker, files).step()
        assert files.key.read_bytes() != before
        broker.wait_event("connected", client_id="sensor-1:agent")
        broker.wait_event("superseded", device="sensor-1")
        shown = control.call(broker.folder, "device-show", {"id": "sensor-1"})["certificates"]
        assert [one["status"] for one in shown] == ["active", "superseded"]


def test_a_pair_that_the_broker_does_not_let_in_is_not_put_in_place(data: Path, files: DeviceFiles) -> None:
    """The broker of MQTT listens elsewhere: the proof fails, the old pair stays."""
    enrolled_then(data, files, days_ago=25)
    with EphemeralBroker(data=data, https=True) as broker:
        before = files.cert.read_bytes()
        worker = agent(broker, files)
        worker._prove = lambda pair, device, _port: prove_by_connecting(broker.host)(pair, device, 1)
        with pytest.raises(NotSo):
            worker.step()
        assert files.cert.read_bytes() == before
        assert files.staged.fit()
        assert gets_in(broker, files)


def test_one_token_in_many_hands_is_one_certificate(broker: EphemeralBroker) -> None:
    token = control.call(broker.folder, "device-token", {"id": "sensor-1", "new": True})["token"]
    context = ssl.create_default_context(cadata=control.call(broker.folder, "ca-export")["pem"])

    def ask(_number: int) -> int:
        door = http.client.HTTPSConnection(broker.host, broker.port_of("https"), context=context, timeout=10)
        request = requests.build(signing.new_key(), subject=x509.Name([]), names=[])
        with contextlib.closing(door):
            door.request("POST", "/enrol", body=request, headers={"Authorization": f"Bearer {token}"})
            return door.getresponse().status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(8)))
    assert sorted(statuses) == [200] + [401] * 7
    assert len(control.call(broker.folder, "device-show", {"id": "sensor-1"})["certificates"]) == 1


def test_the_agent_gets_in_with_nothing_but_the_uri(broker: EphemeralBroker, files: DeviceFiles) -> None:
    made = control.call(broker.folder, "device-token", {"id": "sensor-1", "new": True, "groups": ["roof"]})
    uri = EnrolmentUri(broker.host, broker.port_of("https"), "sensor-1", made["token"], made["pin"])
    agent(broker, files, uri).step()
    assert gets_in(broker, files)
    assert made["token"] not in broker.log_text
