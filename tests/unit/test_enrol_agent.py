"""The agent of a device, on a clock of its own and with a server in the same process. Knows nothing of sockets."""

import random
from datetime import timedelta

import pytest
from cryptography import x509

from sealmq.client.agent import JITTER, LADDER, Agent
from sealmq.client.registration import RenewalInfo
from sealmq.datafolder import DataFolder
from sealmq.errors import Environment, NotSo
from sealmq.pki import devicefiles, enrolment, renewal, requests, signing
from sealmq.pki.authority import Authority
from sealmq.pki.devicefiles import DeviceFiles
from sealmq.pki.fingerprints import certificate_sha256, spki_sha256
from sealmq.pki.operations import device_revoke, device_token
from sealmq.pki.registry import Registry
from sealmq.pki.tokens import EnrolmentUri

START = signing.utc_now()
DAY = timedelta(days=1)


class World:
    """A CA, a registry, a clock, and a server and a broker that can be down; `events` is what happened, in order."""

    def __init__(self, tmp_path):
        self.folder = DataFolder.create_or_open(tmp_path / "data")
        self.authority = Authority.create(self.folder, now=START - timedelta(hours=1))
        self.registry = Registry.open(self.folder)
        self.now = START
        self.is_down = False
        self.broker_is_down = False
        self.events = []
        self.told = []
        self.files = DeviceFiles.inside(tmp_path / "device")
        self.random = random.Random(7)  # noqa: S311

    def uri(self, *, profile="default", device_id="sensor-1", pin=None):
        made = device_token(
            self.folder, self.authority, self.registry, id=device_id, new=True, profile=profile, now=self.now
        )
        return EnrolmentUri("broker.example", 8443, device_id, made["token"], pin or made["pin"])

    def agent(self, uri=None):
        return Agent(
            self.files,
            self,
            prove=self.prove,
            tell=self.told.append,
            now=lambda: self.now,
            chance=self.random.random,
            uri=uri,
        )

    # the server, as the agent sees it

    def roots_by_pin(self, pin):
        self.reach("roots")
        if pin != spki_sha256(self.authority.root.certificate):
            raise NotSo("server is of another CA", mend="ask for a new token", code="pin-mismatch")
        return self.authority.server_ca_pem()

    def roots(self, _files):
        self.reach("roots")
        return self.authority.server_ca_pem()

    def enrol(self, request, *, token, ca_pem):
        self.reach("enrol")
        assert ca_pem == self.authority.server_ca_pem()
        issued = enrolment.by_token(self.authority, self.registry, token=token, request=request, now=self.now)
        return issued.chain_pem

    def renew(self, request, files):
        self.reach("renew")
        sha256 = certificate_sha256(leaf(files))
        return enrolment.by_certificate(
            self.authority, self.registry, sha256=sha256, request=request, now=self.now
        ).chain_pem

    def renewal_info(self, files):
        self.reach("info")
        record, _ = enrolment.holder(
            self.authority, self.registry, sha256=certificate_sha256(leaf(files)), now=self.now
        )
        found = renewal.window(record)
        pause = renewal.retry_after(found, self.now).total_seconds()
        return RenewalInfo(found.start, found.end, found.reason, pause, 1, 18883)

    def prove(self, files, device_id, port):
        self.events.append("prove")
        assert (device_id, port or 18883) == ("sensor-1", 18883)
        assert files.fit()
        if self.broker_is_down:
            raise NotSo("broker does not answer", code="connection-refused")
        self.registry.certificates_seen({certificate_sha256(leaf(files)): self.now})

    def reach(self, what):
        if self.is_down:
            raise NotSo("server cannot be reached", code="server-unreachable")
        self.events.append(what)

    def live(self, agent, until):
        """Let the agent work until a moment; the time left of its certificate at each round."""
        left = []
        while self.now < until:
            pause = agent.round()
            assert pause > 0
            if self.files.exist():
                left.append(leaf(self.files).not_valid_after_utc - self.now)
            self.now += timedelta(seconds=pause)
        return left

    def happened(self, *which):
        return [event for event in self.events if event in which]


def leaf(files):
    return x509.load_pem_x509_certificate(files.cert.read_bytes())


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.registry.close()


def test_a_year_in_a_moment(world):
    agent = world.agent(world.uri())
    left = world.live(agent, START + 300 * DAY)
    assert min(left) > 8 * DAY
    renewals = world.happened("renew")
    assert 14 <= len(renewals) <= 20
    assert world.happened("prove", "renew") == ["renew", "prove"] * len(renewals)
    statuses = [record.status for record in world.registry.device("sensor-1").certificates]
    assert statuses == ["active"] + ["superseded"] * len(renewals)
    assert world.files.fit()
    assert world.files.key.stat().st_mode & 0o777 == 0o600


def test_every_renewal_has_a_key_of_its_own(world):
    agent = world.agent(world.uri(profile="short"))
    keys = set()
    while len(world.happened("renew")) < 3:
        world.now += timedelta(seconds=agent.round())
        keys.add(world.files.key.read_bytes())
    assert len(keys) == 4


def test_the_wrong_pin_costs_no_token(world):
    uri = world.uri(pin="00" * 32)
    with pytest.raises(NotSo) as caught:
        world.agent(uri).step()
    assert caught.value.code == "pin-mismatch"
    assert world.happened("enrol") == []
    assert not world.files.cert.exists()


def test_a_pair_that_does_not_work_is_never_put_in_place(world):
    agent = world.agent(world.uri())
    agent.round()
    before = world.files.cert.read_bytes()
    world.broker_is_down = True
    world.live(agent, START + 25 * DAY)
    assert world.files.cert.read_bytes() == before
    assert world.files.staged.fit()
    assert len(world.happened("renew")) == 1  # what was issued is tried again, not asked for again
    assert len(world.happened("prove")) > 10
    world.broker_is_down = False
    world.live(agent, START + 26 * DAY)
    assert world.files.cert.read_bytes() != before
    assert not world.files.staged.key.exists()


def test_a_server_that_is_down_for_forty_days(world):
    """The certificate runs out meanwhile; the grace lets the device renew all the same."""
    agent = world.agent(world.uri())
    agent.round()
    world.is_down = True
    world.live(agent, START + 40 * DAY)
    assert leaf(world.files).not_valid_after_utc < world.now
    assert any("own dates" in line for line in world.told)
    world.is_down = False
    world.live(agent, world.now + DAY)
    assert leaf(world.files).not_valid_after_utc > world.now + 20 * DAY


def test_the_ladder_of_retries_has_jitter_and_starts_again_after_success(world):
    agent = world.agent(world.uri())
    world.is_down = True
    pauses = [agent.round() for _ in range(8)]
    steps = [*LADDER, LADDER[-1], LADDER[-1]]
    for pause, step in zip(pauses, steps, strict=True):
        assert step * (1 - JITTER) <= pause <= step * (1 + JITTER)
        assert pause != step
    world.is_down = False
    agent.round()
    world.is_down = True
    world.now += 22 * DAY
    assert agent.round() <= LADDER[0] * (1 + JITTER)


def test_a_revoked_device_is_over(world):
    agent = world.agent(world.uri())
    agent.round()
    device_revoke(world.folder, world.authority, world.registry, id="sensor-1", now=world.now)
    with pytest.raises(NotSo) as caught:
        agent.round()
    assert caught.value.code == "device-revoked"


def test_a_token_is_not_tried_twice_in_vain(world):
    uri = world.uri()
    world.agent(uri).step()
    world.files.cert.unlink()
    agent = world.agent(uri)
    assert agent.round() > 0
    assert "used already" in world.told[-1]


def test_without_a_certificate_and_without_a_uri(world):
    with pytest.raises(NotSo) as caught:
        world.agent().round()
    assert caught.value.code == "not-enrolled"
    assert "--enrol" in caught.value.mend


@pytest.mark.parametrize("half", ["cert", "key"])
def test_half_a_key_pair_is_not_used(world, half):
    world.agent(world.uri()).step()
    getattr(world.files, half).unlink()
    with pytest.raises(NotSo) as caught:
        world.agent().step()
    assert caught.value.code == "not-enrolled"


def test_a_renewal_cut_between_its_two_renames_goes_on(world):
    agent = world.agent(world.uri())
    agent.step()
    key = signing.new_key()
    key_pem, request = signing.key_pem(key), requests.build(key, subject=x509.Name([]), names=[])
    devicefiles.stage(world.files, cert_chain_pem=world.renew(request, world.files), key_pem=key_pem)
    world.files.staged.key.replace(world.files.key)
    world.agent().step()
    assert world.files.fit()
    assert world.files.key.read_bytes() == key_pem


def test_a_key_that_others_can_read_stops_a_single_run(world):
    world.agent(world.uri()).step()
    world.files.key.chmod(0o640)
    with pytest.raises(Environment) as caught:
        world.agent().step()
    assert caught.value.code == "secret-exposed"
    assert world.agent().round() > 0
    assert "chmod 600" in world.told[-1]


def test_new_roots_are_fetched(world):
    agent = world.agent(world.uri())
    agent.step()
    world.files.ca.write_bytes(b"older")
    world.agent().step()
    assert world.files.ca.read_bytes() == world.authority.server_ca_pem()
