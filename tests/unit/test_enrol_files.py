"""The two slots of a device's files: after a cut at any point one whole pair is there. Knows nothing of servers."""

import os
import shutil

import pytest
from tiny_disk import tiny_disk

from sealmq.errors import Environment
from sealmq.pki import devicefiles, signing
from sealmq.pki.devicefiles import DeviceFiles
from sealmq.testing.ca import ThrowawayCA


@pytest.fixture(scope="module")
def pairs():
    ca = ThrowawayCA()
    return [ca.issue_client("sensor-1") for _ in range(2)]


@pytest.fixture
def files(tmp_path, pairs):
    old, _ = pairs
    return devicefiles.write_new(tmp_path / "sensor-1", **parts(old), ca_pem=b"ca")


def parts(issued):
    return {"cert_chain_pem": issued.cert_pem, "key_pem": issued.key_pem}


def test_a_renewal_goes_through_the_second_slot(files, pairs):
    old, new = pairs
    devicefiles.stage(files, **parts(new))
    assert files.fit()
    assert files.staged.fit()
    assert files.key.read_bytes() == old.key_pem
    assert files.staged.key.stat().st_mode & 0o777 == 0o600
    devicefiles.promote(files)
    assert (files.key.read_bytes(), files.cert.read_bytes()) == (new.key_pem, new.cert_pem)
    assert sorted(path.name for path in files.cert.parent.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


def test_a_power_cut_between_the_two_renames_is_finished(files, pairs):
    _, new = pairs
    devicefiles.stage(files, **parts(new))
    files.staged.key.replace(files.key)
    assert not files.fit()
    devicefiles.recover(files)
    assert files.fit()
    assert files.cert.read_bytes() == new.cert_pem
    assert not files.staged.cert.exists()


@pytest.mark.parametrize("half", ["key.pem.new", "cert.pem.new"])
def test_half_a_pair_in_the_second_slot_is_thrown_away(files, pairs, half):
    old, new = pairs
    devicefiles.stage(files, **parts(new))
    for path in (files.staged.key, files.staged.cert):
        if path.name != half:
            path.unlink()
    devicefiles.recover(files)
    assert files.key.read_bytes() == old.key_pem
    assert files.fit()
    assert not files.staged.key.exists()
    assert not files.staged.cert.exists()


def test_a_whole_pair_that_was_not_proven_stays(files, pairs):
    devicefiles.stage(files, **parts(pairs[1]))
    devicefiles.recover(files)
    assert files.staged.fit()


def test_a_rename_that_fails_is_named_and_finished_later(files, pairs, monkeypatch):
    devicefiles.stage(files, **parts(pairs[1]))
    rename = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda one, other: fail() if "cert" in str(one) else rename(one, other))
        with pytest.raises(Environment) as caught:
            devicefiles.promote(files)
    assert caught.value.code == "disk-full"
    devicefiles.recover(files)
    assert files.cert.read_bytes() == pairs[1].cert_pem
    assert files.fit()


def fail():
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_second_slot_empty(tmp_path, pairs):
    with tiny_disk(tmp_path / "disk") as disk:
        old, new = pairs
        files = devicefiles.write_new(disk.path / "sensor-1", **parts(old), ca_pem=b"ca")
        disk.fill()
        with pytest.raises(Environment) as caught:
            devicefiles.stage(files, **parts(new))
        assert caught.value.code == "disk-full"
        assert not files.staged.key.exists()
        assert not files.staged.cert.exists()
        assert files.fit()


def test_a_key_that_others_can_read_is_refused(files):
    files.key.chmod(0o644)
    with pytest.raises(Environment) as caught:
        files.fit()
    assert (caught.value.code, "chmod 600" in caught.value.mend) == ("secret-exposed", True)


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_half_a_key_pair_fits_nothing(files, name):
    (files.cert.parent / name).unlink()
    assert not files.fit()
    assert not files.exist()


def test_a_key_of_another_certificate_does_not_fit(files, pairs):
    shutil.copy(files.cert, files.cert.with_suffix(".kept"))
    files.cert.write_bytes(signing.certificate_pem(pairs[1].certificate))
    assert not files.fit()
    assert DeviceFiles(files.cert.with_suffix(".kept"), files.key, files.ca).fit()
