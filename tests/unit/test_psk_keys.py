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


def test_a_new_key_is_good_beside_the_old_until_it_was_seen(three):
    folder, _, registry = three
    operations.device_add_psk(*three, id="a")
    operations.device_add_psk(*three, id="b")
    file = folder.devices_dir / "a" / "psk.txt"
    first = file.read_text().strip()
    made = operations.device_renew(*three, id="a")
    assert made == {"id": "a", "identity": "a~2", "replaces": "a", "files": {"psk": str(file)}}
    second = file.read_text().strip()
    assert [one.line for one in psk.of_device(folder, "a")] == [first, second]
    assert second.startswith("a~2:")
    assert mode(file) == 0o600
    assert psk.awaited(folder) == {"a~2": "a"}
    assert [one.get("identity") for one in psk.for_engine(folder, registry)] == [None, "a~2", None]
    assert psk.settle(folder, "a") is None  # the old one was seen: nothing changes
    assert psk.settle(folder, "a~2").line == first
    assert psk.settle(folder, "a~2") is None
    assert [one.line for one in psk.of_device(folder, "a")] == [second]
    assert psk.awaited(folder) == {}


def test_a_new_key_that_was_never_seen_makes_way_for_the_next(three):
    folder, _, _ = three
    operations.device_add_psk(*three, id="a")
    operations.device_renew(*three, id="a")
    assert operations.device_renew(*three, id="a")["identity"] == "a~3"
    assert [one.identity for one in psk.of_device(folder, "a")] == ["a", "a~3"]
    operations.device_revoke(*three, id="a")
    assert psk.for_engine(folder, three[2]) == []
    operations.device_retire(*three, id="a")
    assert psk.load(folder) == []


def test_the_new_line_can_be_made_elsewhere_and_for_nobody_else(three, tmp_path):
    folder, _, _ = three
    operations.device_add_psk(*three, id="a", out=tmp_path / "away")
    with pytest.raises(NotSo) as caught:
        operations.device_renew(*three, id="a")
    assert (caught.value.code, psk.awaited(folder)) == ("device-files-missing", {})
    made = operations.device_renew(*three, id="a", out=tmp_path / "new")
    assert (tmp_path / "new" / "a" / "psk.txt").read_text().startswith("a~2:")
    assert made["files"] == {"psk": str(tmp_path / "new" / "a" / "psk.txt")}
    for name, code in (("b", "device-unknown"), ("c", "device-revoked")):
        if name == "c":
            operations.device_add_psk(*three, id=name)
            operations.device_revoke(*three, id=name)
        with pytest.raises(NotSo) as caught:
            operations.device_renew(*three, id=name, out=tmp_path / "x")
        assert caught.value.code == code


def test_a_file_from_before_keys_had_numbers_is_read(three):
    folder, _, _ = three
    operations.device_add_psk(*three, id="a")
    path = folder.path / "psk.json"
    path.write_text(path.read_text().replace(',\n      "number": 1', ""))
    assert "number" not in path.read_text()
    assert [one.identity for one in psk.load(folder)] == ["a"]
