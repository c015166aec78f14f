"""Replacing a CA: each step, the gate before it, what peers trust in between, and a crash at every write."""

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sealmq.broker import soundness
from sealmq.datafolder import DataFolder
from sealmq.errors import DataFolderError, NotSo
from sealmq.pki import profiles, readiness, revocation, rotation, signing
from sealmq.pki.authority import Authority, Kind, State, files, record
from sealmq.pki.authority import ca as authority_ca
from sealmq.pki.operations import (
    ca_rotate,
    ca_rotation,
    device_add,
    device_add_psk,
    device_files,
    device_renew,
    device_revoke,
    device_token,
)
from sealmq.pki.registry import Registry
from sealmq.pki.rotation import Step

NOW = signing.utc_now()
DAY = timedelta(days=1)
GRACE = 90 * DAY
EVERY = list(Step)


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


@pytest.fixture
def authority(folder):
    return Authority.create(folder, now=NOW)


@pytest.fixture
def registry(folder):
    with Registry.open(folder) as opened:
        yield opened


@pytest.fixture
def three(folder, authority, registry):
    return folder, authority, registry


def go(authority, upto):
    """Take every step up to that one."""
    for step in EVERY[: EVERY.index(upto) + 1]:
        rotation.advance(authority, step, now=NOW)


def verifies_server(trusted_pem, chain_pem, name="localhost"):
    leaf, *between = x509.load_pem_x509_certificates(chain_pem)
    store = Store(x509.load_pem_x509_certificates(trusted_pem))
    verifier = PolicyBuilder().store(store).time(NOW + timedelta(hours=1)).build_server_verifier(x509.DNSName(name))
    try:
        verifier.verify(leaf, between)
    except VerificationError:
        return False
    return True


def verifies_client(trusted_pem, chain_pem):
    leaf, *between = x509.load_pem_x509_certificates(chain_pem)
    store = Store(x509.load_pem_x509_certificates(trusted_pem))
    try:
        PolicyBuilder().store(store).time(NOW + timedelta(hours=1)).build_client_verifier().verify(leaf, between)
    except VerificationError:
        return False
    return True


def states(authority, kind=Kind.ROOT):
    return [str(entry.state) for entry in authority.record.of(kind)]


# --- the steps -----------------------------------------------------------------------------------------------------


def test_what_each_step_does_to_the_roots_and_the_bundle(authority):
    told = []
    for step in EVERY:
        assert rotation.next_step(authority.record) is step
        rotation.advance(authority, step, now=NOW)
        roots = authority.server_ca_pem().count(b"BEGIN CERTIFICATE")
        told.append((str(step), *states(authority), authority.record.bundle, roots))
    assert told == [
        ("stage", "signing", "staged", 1, 1),
        ("publish", "signing", "published", 2, 2),
        ("switch", "draining", "signing", 2, 2),
        ("drain", "drained", "signing", 3, 1),
        ("retire", "retired", "signing", 3, 1),
    ]
    assert rotation.next_step(authority.record) is Step.STAGE


@pytest.mark.parametrize("step", EVERY[1:])
def test_a_step_out_of_its_order_changes_nothing(authority, step):
    before = authority.record
    with pytest.raises(NotSo) as caught:
        rotation.advance(authority, step, now=NOW)
    assert caught.value.code == "rotation-order"
    assert "--stage" in caught.value.mend
    assert authority.record == before


def test_a_second_rotation_follows_the_first(authority):
    go(authority, Step.RETIRE)
    go(authority, Step.RETIRE)
    assert states(authority) == ["retired", "retired", "signing"]
    assert authority.root.certificate.subject.rfc4514_string() == f"CN={authority.fleet} Root 3"
    assert authority.record.bundle == 5


@pytest.mark.parametrize("step", EVERY)
def test_every_state_is_found_again_on_disk(authority, folder, step):
    go(authority, step)
    found = Authority.open(folder)
    assert found.record == authority.record
    assert found.bundle() == authority.bundle()
    assert found.client_ca_pem() == authority.client_ca_pem()
    assert found.bridges() == authority.bridges()


def test_the_key_of_a_retired_root_is_destroyed_and_those_below_it_with_the_drain(authority, folder):
    go(authority, Step.SWITCH)
    assert (folder.ca_dir / "devices.key").exists()
    rotation.advance(authority, Step.DRAIN, now=NOW)
    assert not (folder.ca_dir / "devices.key").exists()
    assert (folder.ca_dir / "root.key").exists()
    rotation.advance(authority, Step.RETIRE, now=NOW)
    assert not (folder.ca_dir / "root.key").exists()
    assert (folder.ca_dir / "root.pem").exists()
    assert [path.stat().st_mode & 0o777 for path in folder.ca_dir.glob("*.key")] == [0o600] * 3


# --- what peers verify in between ----------------------------------------------------------------------------------


def test_whoever_trusts_the_old_root_the_new_one_or_both_verifies_the_broker_after_the_switch(authority):
    old = authority.root_pem
    before = authority.ensure_server_certificate(now=NOW)
    go(authority, Step.SWITCH)
    after = authority.ensure_server_certificate(now=NOW + timedelta(minutes=10))
    assert after.cert_chain_pem != before.cert_chain_pem
    assert after.cert_chain_pem.count(b"BEGIN CERTIFICATE") == 3  # leaf, issuing CA, bridge
    for trusted in (old, authority.root_pem, authority.server_ca_pem()):
        assert verifies_server(trusted, after.cert_chain_pem)
    rotation.advance(authority, Step.DRAIN, now=NOW)
    drained = authority.ensure_server_certificate(now=NOW + timedelta(minutes=10))
    assert drained.cert_chain_pem.count(b"BEGIN CERTIFICATE") == 2
    assert drained.certificate == after.certificate  # the chain changes, the leaf stays
    assert verifies_server(authority.server_ca_pem(), drained.cert_chain_pem)
    assert not verifies_server(old, drained.cert_chain_pem)


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("trust", ["old", "new", "both"])
def test_openssl_and_gnutls_verify_the_chain_with_the_bridge(authority, tmp_path, trust):
    roots = {"old": authority.root_pem}
    go(authority, Step.SWITCH)
    roots |= {"new": authority.root_pem, "both": authority.server_ca_pem()}
    (tmp_path / "trusted.pem").write_bytes(roots[trust])
    chain = tmp_path / "chain.pem"
    chain.write_bytes(authority.ensure_server_certificate(now=NOW).cert_chain_pem)
    openssl = ["-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost", "-untrusted", chain, chain]
    done = run("openssl", "verify", "-CAfile", tmp_path / "trusted.pem", *openssl)
    assert done.returncode == 0, done.stderr
    gnutls = ["--load-ca-certificate", tmp_path / "trusted.pem", "--verify-hostname", "localhost", "--infile", chain]
    done = run("certtool", "--verify", *gnutls)
    assert done.returncode == 0, done.stdout


def test_device_certificates_under_both_roots_are_accepted_until_the_drain(authority):
    old = authority.issue_device("sensor-1", now=NOW)
    go(authority, Step.SWITCH)
    new = authority.issue_device("sensor-2", now=NOW)
    assert old.certificate.issuer != new.certificate.issuer
    for bundle in (old, new):
        assert verifies_client(authority.client_ca_pem(), bundle.cert_chain_pem)
    rotation.advance(authority, Step.DRAIN, now=NOW)
    assert not verifies_client(authority.client_ca_pem(), old.cert_chain_pem)
    assert verifies_client(authority.client_ca_pem(), new.cert_chain_pem)


def test_a_root_of_path_length_one_gets_no_bridge(folder, monkeypatch, registry):
    short = profiles.CaProfile("Root", timedelta(days=3650), timedelta(minutes=5), 1, profiles.Usage.NONE)
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "ROOT", short)
        authority = Authority.create(folder, now=NOW)
    device_add(folder, authority, registry, id="sensor-1", now=NOW)
    go(authority, Step.PUBLISH)
    ready = readiness.measure(authority, registry, now=NOW)
    assert not ready.bridged
    with pytest.raises(NotSo) as caught:  # every device must hold the bundle, whatever the threshold
        ca_rotate(folder, authority, registry, kind="root", step="switch", threshold=0.0, now=NOW)
    assert "the old root allows no bridge" in caught.value.message
    registry.bundles.confirm("sensor-1", 2, at=NOW)
    ca_rotate(folder, authority, registry, kind="root", step="switch", now=NOW)
    assert authority.bridges() == []
    assert verifies_server(authority.server_ca_pem(), authority.ensure_server_certificate(now=NOW).cert_chain_pem)


# --- the gate ------------------------------------------------------------------------------------------------------


def test_the_switch_waits_for_the_fleet_and_names_who_is_missing(three):
    folder, authority, registry = three
    for number in range(20):
        device_add(*three, id=f"sensor-{number:02}", now=NOW)
    go(authority, Step.PUBLISH)
    for number in range(18):
        registry.bundles.confirm(f"sensor-{number:02}", 2, at=NOW)
    with pytest.raises(NotSo) as caught:
        ca_rotate(*three, kind="root", step="switch", now=NOW + DAY)
    assert caught.value.code == "fleet-not-ready"
    assert caught.value.message == (
        "step switch waits: 2 of 20 devices do not hold bundle 2, 90.0% do and 95% must: sensor-18, sensor-19"
    )
    assert states(authority) == ["signing", "published"]
    registry.bundles.confirm("sensor-18", 1, at=NOW)  # an older bundle does not count
    found = ca_rotation(*three, now=NOW + DAY)
    assert (found["next"], found["confirmed"], found["missing"]) == ("switch", 18, ["sensor-18", "sensor-19"])
    registry.bundles.confirm("sensor-18", 2, at=NOW)
    ca_rotate(*three, kind="root", step="switch", now=NOW + DAY)  # 95 %
    assert states(authority) == ["draining", "signing"]
    assert Authority.open(folder).record == authority.record


def test_force_and_a_lower_threshold_go_on(three):
    _, authority, _ = three
    device_add(*three, id="asleep", now=NOW)
    go(authority, Step.PUBLISH)
    ca_rotate(*three, kind="root", step="switch", force=True, now=NOW + DAY)
    with pytest.raises(NotSo):
        ca_rotate(*three, kind="root", step="drain", threshold=0.0, now=NOW + DAY)  # its certificate is of the old root
    ca_rotate(*three, kind="root", step="drain", force=True, now=NOW + DAY)
    assert states(authority) == ["drained", "signing"]


def test_a_device_that_was_made_after_the_bundle_holds_it(three):
    _, authority, registry = three
    go(authority, Step.PUBLISH)
    device_add(*three, id="young", now=NOW + DAY)
    assert readiness.measure(authority, registry, now=NOW + DAY).missing == ()


def test_devices_without_a_certificate_keep_nobody_waiting(three):
    """They verify nothing by a bundle: a pre-shared key is one, and who has not enrolled yet is given the newest."""
    authority = three[1]
    device_add_psk(*three, id="meter")
    device_token(*three, id="to-come", new=True)
    device_add(*three, id="sensor", now=NOW)
    go(authority, Step.PUBLISH)
    with pytest.raises(NotSo, match=r"1 of 1 devices do not hold bundle 2, .*: sensor$"):
        ca_rotate(*three, kind="root", step="switch", now=NOW + DAY)


def test_the_drain_waits_for_devices_that_have_no_certificate_under_the_new_root(three):
    _, authority, registry = three
    device_add(*three, id="sensor-1", now=NOW)
    go(authority, Step.PUBLISH)
    registry.bundles.confirm("sensor-1", 2, at=NOW)
    ca_rotate(*three, kind="root", step="switch", now=NOW)
    with pytest.raises(NotSo) as caught:
        ca_rotate(*three, kind="root", step="drain", now=NOW + DAY)
    assert "1 of 1 devices have no certificate under the new root: sensor-1" in caught.value.message
    ca_rotate(*three, kind="root", step="drain", now=NOW + 31 * DAY)  # it has expired: nothing is cut off


# --- issuing CAs ---------------------------------------------------------------------------------------------------


def test_an_issuing_ca_gets_a_successor_at_a_third_left_and_retires_with_its_last_leaf(three):
    folder, authority, registry = three
    device_add(*three, id="sensor-1", profile="sleepy", now=NOW + 200 * DAY)
    assert rotation.look_after(authority, registry, grace=GRACE, now=NOW + 243 * DAY) == []
    told = rotation.look_after(authority, registry, grace=GRACE, now=NOW + 244 * DAY)
    assert len(told) == 2
    assert states(authority, Kind.DEVICES) == ["draining", "signing"]
    assert states(authority, Kind.SERVERS) == ["retired", "signing"]
    assert authority.client_ca_pem().count(b"BEGIN CERTIFICATE") == 2
    assert rotation.look_after(authority, registry, grace=GRACE, now=NOW + 244 * DAY) == []
    assert rotation.look_after(authority, registry, grace=GRACE, now=NOW + 364 * DAY) == []  # sensor-1 has its leaf
    assert rotation.look_after(authority, registry, grace=GRACE, now=NOW + 454 * DAY) == []  # and may still renew it
    assert rotation.look_after(authority, registry, grace=GRACE, now=NOW + 456 * DAY)
    assert states(authority, Kind.DEVICES) == ["retired", "signing"]
    assert authority.client_ca_pem().count(b"BEGIN CERTIFICATE") == 1
    assert not (folder.ca_dir / "devices.key").exists()


def test_a_retired_issuing_ca_gets_nobody_in_through_its_root(authority, registry):
    old = authority.issue_device("sensor-1", now=NOW)  # not in the registry, as if its key had been stolen
    rotation.replace_issuer(authority, Kind.DEVICES, now=NOW)
    assert verifies_client(authority.client_ca_pem(), old.cert_chain_pem)
    rotation.look_after(authority, registry, grace=GRACE, now=NOW)
    assert not verifies_client(authority.client_ca_pem(), old.cert_chain_pem)


def test_successors_end_with_their_root(authority, registry):
    """At the end of a root's life its issuing CAs cannot last longer; no successor is made that would not."""
    late = NOW + 3600 * DAY
    rotation.look_after(authority, registry, grace=GRACE, now=late)
    count = len(authority.record.entries)
    assert rotation.look_after(authority, registry, grace=GRACE, now=late + 45 * DAY) == []
    assert len(authority.record.entries) == count
    assert rotation.root_is_due(authority, now=late)
    assert not rotation.root_is_due(authority, now=NOW)


# --- a crash at every write ----------------------------------------------------------------------------------------


class PowerCut(BaseException):
    pass


def cut_after(monkeypatch, writes):
    left = writes

    def cutting(write):
        def cut(path, data):
            nonlocal left
            if left == 0:
                raise PowerCut
            left -= 1
            write(path, data)

        return cut

    for module in (files, authority_ca):
        for name in ("write_private", "write_public"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, cutting(getattr(module, name)))


WRITES = {Step.STAGE: 5, Step.PUBLISH: 1, Step.SWITCH: 5, Step.DRAIN: 1, Step.RETIRE: 1}


@pytest.mark.parametrize(("step", "at"), [(step, at) for step, count in WRITES.items() for at in range(count)])
def test_a_crash_at_any_write_leaves_the_state_before_and_the_step_can_be_taken_again(
    folder, authority, monkeypatch, step, at
):
    if step is not Step.STAGE:
        go(authority, EVERY[EVERY.index(step) - 1])
    before = authority.record
    with monkeypatch.context() as patch:
        cut_after(patch, at)
        with pytest.raises(PowerCut):
            rotation.advance(authority, step, now=NOW)
    again = Authority.open(folder)
    assert again.record == before
    assert verifies_client(again.client_ca_pem(), again.issue_device("sensor-1", now=NOW).cert_chain_pem)
    assert verifies_server(again.server_ca_pem(), again.ensure_server_certificate(now=NOW).cert_chain_pem)
    rotation.advance(again, step, now=NOW)
    assert Authority.open(folder).record == again.record
    assert rotation.next_step(again.record) is not step


@pytest.mark.parametrize("step", WRITES)
def test_the_writes_above_are_all_there_are(authority, monkeypatch, step):
    if step is not Step.STAGE:
        go(authority, EVERY[EVERY.index(step) - 1])
    cut_after(monkeypatch, WRITES[step])
    rotation.advance(authority, step, now=NOW)


def test_a_crash_before_a_key_is_destroyed_is_made_good(folder, authority, monkeypatch):
    go(authority, Step.DRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(files, "destroy_keys", lambda *_: (_ for _ in ()).throw(PowerCut))
        with pytest.raises(PowerCut):
            rotation.advance(authority, Step.RETIRE, now=NOW)
    assert (folder.ca_dir / "root.key").exists()
    assert states(Authority.open(folder)) == ["retired", "signing"]
    assert not (folder.ca_dir / "root.key").exists()


@pytest.mark.parametrize("content", [None, b"{", b'{"format": 1}', b'{"format": 1, "bundle": 3, "authorities": []}'])
def test_a_lost_or_damaged_record_is_named_and_nothing_signs(folder, authority, content):
    go(authority, Step.SWITCH)
    path = folder.ca_dir / record.NAME
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFolderError) as caught:
        Authority.open(folder)
    assert caught.value.code == "ca-damaged"
    assert record.NAME in caught.value.message


def test_a_record_of_a_newer_sealmq(folder, authority):
    go(authority, Step.STAGE)
    path = folder.ca_dir / record.NAME
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(DataFolderError) as caught:
        Authority.open(folder)
    assert caught.value.code == "data-folder-newer"


def test_keys_are_not_printed(authority):
    go(authority, Step.SWITCH)
    text = f"{authority!r} {authority.members!r}"
    assert State.DRAINING in text
    assert "EllipticCurve" not in text


def test_revocation_lists_cover_every_issuing_ca_that_is_accepted(three):
    folder, authority, _ = three
    device_add(*three, id="before", now=NOW)
    rotation.replace_issuer(authority, Kind.DEVICES, now=NOW)
    device_add(*three, id="after", now=NOW)
    for device in ("before", "after"):
        device_revoke(*three, id=device, now=NOW)
    written = revocation.crl_path(folder).read_bytes()
    new, old = soundness.crls(written)
    assert (len(new), len(old)) == (1, 1)
    assert new.is_signature_valid(authority.device_issuer.key.public_key())
    assert new.issuer != old.issuer


@pytest.mark.parametrize("lists_before", [True, False])
def test_a_rotation_leaves_a_revocation_list_of_each_issuing_ca_that_is_accepted(three, lists_before):
    folder, authority, registry = three
    if lists_before:
        revocation.write_crl(folder, authority, registry, now=NOW)

    def numbers_with_list():
        listed = [one.issuer for one in soundness.crls(revocation.crl_path(folder).read_bytes())]
        members = [one for one in authority.members if one.entry.kind is Kind.DEVICES]
        assert set(listed) <= {one.certificate.subject for one in members}
        return [one.entry.number for one in members if one.certificate.subject in listed]

    ca_rotate(*three, kind="devices", now=NOW)
    assert numbers_with_list() == [1, 2]
    for step in EVERY[: EVERY.index(Step.DRAIN) + 1]:
        ca_rotate(*three, kind="root", step=step, force=True, now=NOW)
    assert numbers_with_list() == [3]


def test_a_successor_that_the_broker_made_by_itself_makes_the_revocation_list_due(three):
    folder, authority, registry = three
    revocation.write_crl(folder, authority, registry, now=NOW)
    assert not revocation.crl_is_due(*three, now=NOW)
    rotation.replace_issuer(authority, Kind.DEVICES, now=NOW)
    assert revocation.crl_is_due(*three, now=NOW)
    revocation.refresh_crl(*three, now=NOW)
    assert not revocation.crl_is_due(*three, now=NOW)


def test_a_full_disk_at_the_revocation_list_does_not_undo_a_rotation(three):
    folder, authority, _ = three
    revocation.crl_path(folder).mkdir()  # nothing can be written there
    assert ca_rotate(*three, kind="devices", now=NOW)["authorities"]
    assert len(authority.device_issuers()) == 2


def test_renewing_the_files_of_a_device_brings_the_present_roots(three):
    folder, authority, _ = three
    device_add(*three, id="sensor-1", now=NOW)
    files = device_files(folder, "sensor-1")
    assert files.ca.read_bytes() == authority.root_pem
    go(authority, Step.SWITCH)
    device_renew(*three, id="sensor-1", now=NOW)
    assert files.ca.read_bytes() == authority.server_ca_pem()
    assert verifies_client(authority.client_ca_pem(), files.cert.read_bytes())
