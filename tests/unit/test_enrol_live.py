"""A running broker between control socket, HTTPS door and data plane; and the agent at that door."""

import json
import socket
import subprocess
from pathlib import Path

import fake_engine
import pytest
from cryptography import x509
from enrol_door import DAY, NOW

from sealmq.broker import control
from sealmq.client.agent import Agent
from sealmq.client.registration import RegistrationServer
from sealmq.datafolder import DataFolder
from sealmq.errors import NotSo, PeerFault, UsageError
from sealmq.pki.authority import Authority
from sealmq.pki.devicefiles import DeviceFiles
from sealmq.pki.operations import device_add, device_revoke, device_token
from sealmq.pki.registry import Registry
from sealmq.pki.tokens import EnrolmentUri
from sealmq.testing import ThrowawayCA


def test_a_revocation_reaches_the_data_plane_and_every_configuration_after_it(at_door, identity, tmp_path):
    pair = identity(at_door)
    sha256 = at_door.service.registry.device("sensor-1").certificates[0].sha256
    found = control.call(at_door.service.folder, "device-revoke", {"id": "sensor-1", "reason": "key-compromise"})
    assert (found["sessions_closed"], found["already"]) == (2, False)
    assert 0 < found["milliseconds"] < 10_000
    node = fake_engine.Node.started[-1]
    assert node.revoked == [{"devices": ["sensor-1"], "certificates": [sha256]}]
    at_door.service.reload()
    assert node.reloaded[-1]["revoked"] == {"devices": ["sensor-1"], "certificates": [sha256]}
    status, _, crl = at_door.ask("GET", "/crl")
    assert status == 200
    (tmp_path / "crl.pem").write_bytes(crl + at_door.service.authority.client_ca_pem())
    verify = ["openssl", "verify", "-partial_chain", "-crl_check", "-CAfile", tmp_path / "crl.pem", pair[0]]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert done.returncode != 0
    assert "certificate revoked" in done.stdout + done.stderr
    assert "device sensor-1 is revoked (key-compromise); 2 sessions closed" in at_door.log.getvalue()


def test_retiring_purges_what_the_broker_keeps(at_door):
    at_door.token()
    found = control.call(at_door.service.folder, "device-retire", {"id": "sensor-1"})
    assert (found["sessions_purged"], found["retained_purged"]) == (1, 3)
    with pytest.raises(NotSo) as caught:
        control.call(at_door.service.folder, "device-add", {"id": "sensor-1"})
    assert caught.value.code == "device-retired"


def test_an_id_that_is_given_out_again_is_taken_off_the_deny_list(at_door):
    at_door.token()
    control.call(at_door.service.folder, "device-retire", {"id": "sensor-1"})
    control.call(at_door.service.folder, "device-add", {"id": "sensor-1", "reuse_retired": True})
    assert fake_engine.Node.started[-1].reloaded[-1]["revoked"]["devices"] == []


def test_what_was_revoked_while_no_broker_ran_is_refused_from_its_start(opened, tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    authority = Authority.create(folder, now=NOW - DAY)
    with Registry.open(folder) as registry:
        device_add(folder, authority, registry, id="sensor-1")
        device_revoke(folder, authority, registry, id="sensor-1")
    opened()
    config = fake_engine.Node.started[-1].config
    assert config["revoked"]["devices"] == ["sensor-1"]
    assert len(config["revoked"]["certificates"]) == 1


def test_a_connection_with_a_certificate_is_remembered(at_door, identity):
    identity(at_door)
    (record,) = at_door.service.registry.device("sensor-1").certificates
    event = {"event": "connected", "at": 0, "client_id": "sensor-1", "device": "sensor-1", "peer": "127.0.0.1:1"}
    node = fake_engine.Node.started[-1]
    node.events.put(json.dumps({**event, "certificate": {"sha256": record.sha256}}))
    at_door.service.__exit__(None, None, None)
    with Registry.open(at_door.service.folder) as registry:
        assert registry.certificate(record.sha256).first_seen_at is not None


# --- the agent's side -------------------------------------------------------------------------------------------------


@pytest.fixture
def agent_of(tmp_path):
    """`agent_of(door, uri)`: an agent with files of its own that talks to the door; its proofs are in `proven`."""

    def make(at_door, uri=None):
        proven = []
        agent = Agent(
            DeviceFiles.inside(tmp_path / "device"),
            RegistrationServer(at_door.service.urls()[-1]),
            prove=lambda files, device_id, port: proven.append((files.cert.name, device_id, port)),
            tell=lambda _line: None,
            chance=lambda: 0.5,
            uri=uri,
        )
        return agent, proven

    return make


def uri_for(at_door, *, pin=None):
    made = device_token(*at_door.three(), id="sensor-1", new=True)
    return EnrolmentUri(at_door.host, at_door.port, "sensor-1", made["token"], pin or made["pin"])


def test_the_agent_enrols_by_the_pin_and_renews_when_told(opened, agent_of, tmp_path):
    at_door = opened()
    agent, proven = agent_of(at_door, uri_for(at_door))
    assert agent.step() > 3600
    files = DeviceFiles.inside(tmp_path / "device")
    assert files.fit()
    assert files.ca.read_bytes() == at_door.service.authority.server_ca_pem()
    assert proven == []
    before = files.key.read_bytes()
    record = at_door.service.registry.device("sensor-1").certificates[0]
    late = record.not_before + (record.not_after - record.not_before) * 0.9
    agent._now = lambda: late
    agent.step()
    assert proven == [("cert.pem.new", "sensor-1", 8883)]
    assert files.key.read_bytes() != before
    assert len(at_door.service.registry.device("sensor-1").certificates) == 2


def test_the_agent_takes_no_server_that_does_not_fit_the_pin(opened, agent_of):
    at_door = opened()
    agent, _ = agent_of(at_door, uri_for(at_door, pin="00" * 32))
    with pytest.raises(NotSo) as caught:
        agent.step()
    assert caught.value.code == "pin-mismatch"
    assert at_door.service.registry.device("sensor-1").certificates == ()


def test_the_agent_tells_what_the_server_said(opened, agent_of):
    at_door = opened()
    uri = uri_for(at_door)
    agent_of(at_door, uri)[0].step()
    control.call(at_door.service.folder, "device-revoke", {"id": "sensor-1"})
    with pytest.raises(NotSo) as caught:
        agent_of(at_door, uri)[0].round()
    assert (caught.value.code, caught.value.message) == ("device-revoked", "device sensor-1 is revoked")
    assert "retire" in caught.value.mend


def test_a_server_that_is_not_there_and_urls_of_none():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    server = RegistrationServer(f"https://127.0.0.1:{port}")
    with pytest.raises(NotSo) as caught:
        server.roots_by_pin("00" * 32)
    assert caught.value.code == "server-unreachable"
    for url in ("http://h", "https://", "https://h/path", "https://h:x"):
        with pytest.raises(UsageError):
            RegistrationServer(url)


def test_a_server_without_a_root_does_not_empty_what_a_device_trusts(monkeypatch):
    ca = ThrowawayCA()
    files = ca.issue_client("sensor-1")
    chain = x509.load_pem_x509_certificates(files.cert_pem)
    monkeypatch.setattr(RegistrationServer, "_cacerts", lambda _self, _context: chain)
    monkeypatch.setattr("sealmq.client.registration._identified", lambda _files: None)
    with pytest.raises(PeerFault, match="cacerts"):
        RegistrationServer("https://localhost:8443").roots(DeviceFiles(*[Path("none.pem")] * 3))
