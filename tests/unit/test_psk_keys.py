"""Keys of devices without a certificate: made, kept, dropped. Knows nothing of handshakes."""

import stat

import pytest

from sealmq.datafolder import DataFolder
from sealmq.errors import DataFolderError, Environment, NotSo, UsageError
from sealmq.pki import operations, psk
from sealmq.pki.authority import Authority
from sealmq.pki.registry import Registry


@pytest.fixture
def three(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with Registry.open(folder) as registry:
        yield folder, Authority.open_or_create(folder), registry


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_one_line_as_mosquitto_has_it_and_nobody_else_reads_it(three, tmp_path):
    folder, _, registry = three
    made = operations.device_add_psk(*three, id="sensor-1", out=tmp_path / "out", groups=["plant"])
    file = tmp_path / "out" / "sensor-1" / "psk.txt"
    assert made == {"id": "sensor-1", "groups": ["plant"], "identity": "sensor-1", "files": {"psk": str(file)}}
    identity, key = file.read_text().rstrip("\n").split(":")
    assert (identity, len(bytes.fromhex(key))) == ("sensor-1", 32)
    assert (mode(file), mode(file.parent), mode(folder.path / "psk.json")) == (0o600, 0o700, 0o600)
    assert psk.for_engine(folder, registry) == [{"device": "sensor-1", "key": key}]
    assert key not in repr(psk.load(folder))
    assert key.encode() not in folder.registry_path.read_bytes()
    assert registry.device("sensor-1").status == "active"


def test_every_key_is_another(three):
    folder, _, _ = three
    for number in range(8):
        operations.device_add_psk(*three, id=f"s{number}")
    assert len({one.key for one in psk.load(folder)}) == 8


def test_a_device_that_exists_keeps_its_key(three):
    folder, _, _ = three
    operations.device_add_psk(*three, id="a")
    before = psk.load(folder)
    with pytest.raises(NotSo) as caught:
        operations.device_add_psk(*three, id="a")
    assert caught.value.code == "device-exists"
    assert psk.load(folder) == before
    for bad in ("a/b", "a:b", "", "a\0b"):
        with pytest.raises(UsageError):
            operations.device_add_psk(*three, id=bad)


def test_nothing_is_left_when_the_files_cannot_be_placed(three, tmp_path):
    folder, _, registry = three
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "mine").touch()
    with pytest.raises(Environment):
        operations.device_add_psk(*three, id="a", out=tmp_path / "out")
    assert not registry.has_device("a")
    assert psk.load(folder) == []


def test_a_revoked_device_has_no_key_and_one_that_is_retired_leaves_none(three):
    folder, _, registry = three
    for name in ("a", "b"):
        operations.device_add_psk(*three, id=name)
    operations.device_revoke(*three, id="a")
    assert [one["device"] for one in psk.for_engine(folder, registry)] == ["b"]
    assert operations.device_retire(*three, id="a")["files_removed"]
    assert [one.device for one in psk.load(folder)] == ["b"]
    assert not (folder.devices_dir / "a").exists()
    operations.device_add(*three, id="a", reuse_retired=True)
    assert [one["device"] for one in psk.for_engine(folder, registry)] == ["b"]


def test_a_damaged_or_exposed_file_is_named_and_not_shown(three):
    folder, _, _ = three
    path = folder.path / "psk.json"
    path.write_text('{"keys": [{"device": "a"}]}')
    path.chmod(0o600)
    with pytest.raises(DataFolderError) as caught:
        psk.load(folder)
    assert caught.value.code == "psk-damaged"
    path.chmod(0o644)
    with pytest.raises(Environment) as exposed:
        psk.load(folder)
    assert exposed.value.code == "secret-exposed"
