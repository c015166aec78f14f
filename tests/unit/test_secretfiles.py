"""Files of secrets: modes, whole or not at all, refusals. Knows nothing of what sealmq keeps in them."""

import os
import stat
from pathlib import Path

import pytest
from tiny_disk import tiny_disk

from sealmq.errors import Environment
from sealmq.secretfiles import ensure_private_dir, new_private_dir, read_private, write_private, write_public


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def loose_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("loose_umask")
def test_modes_do_not_depend_on_the_umask(tmp_path):
    ensure_private_dir(tmp_path / "folder")
    write_private(tmp_path / "key", b"secret")
    write_public(tmp_path / "cert", b"open")
    with new_private_dir(tmp_path / "made") as making:
        write_private(making / "key", b"secret")
    assert [mode(tmp_path / name) for name in ("folder", "key", "cert", "made")] == [0o700, 0o600, 0o644, 0o700]


def test_a_tight_umask_does_not_hide_public_files(tmp_path):
    before = os.umask(0o077)
    try:
        write_public(tmp_path / "ca.pem", b"open")
    finally:
        os.umask(before)
    assert mode(tmp_path / "ca.pem") == 0o644


def test_write_replaces_content_and_mode_of_an_older_file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"a much longer old content")
    path.chmod(0o666)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_write_replaces_a_link_and_leaves_what_it_points_to(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "key").symlink_to(victim)
    write_private(tmp_path / "key", b"secret")
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "key").is_symlink()


def test_every_byte_is_synced_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor):
        calls.append("sync dir" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def noted_rename(self, target):
        calls.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    write_private(tmp_path / "key", b"secret")
    assert calls == ["sync file", "rename", "sync dir"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    write_private(tmp_path / "key", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "key").read_bytes() == b"0123456789"


def test_full_disk_keeps_the_old_file_and_leaves_nothing_partial(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        write_private(disk.path / "key", b"old")
        disk.fill()
        with pytest.raises(Environment) as caught:
            write_private(disk.path / "key", b"n" * 100_000)
        assert (caught.value.code, caught.value.exit_status) == ("disk-full", 2)
        assert caught.value.mend
        assert (disk.path / "key").read_bytes() == b"old"
        assert not [entry.name for entry in disk.path.iterdir() if entry.name.endswith(".partial")]


def test_new_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "ca"

    class PowerCut(BaseException):
        pass

    def cut_short():
        with new_private_dir(target) as making:
            write_private(making / "root.key", b"secret")
            assert not target.exists()
            raise PowerCut

    with pytest.raises(PowerCut):
        cut_short()
    assert list(tmp_path.iterdir()) == []
    with new_private_dir(target) as making:
        write_private(making / "root.key", b"secret")
    assert read_private(target / "root.key") == b"secret"


def test_new_folder_never_replaces_one_with_content(tmp_path):
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "root.key").write_bytes(b"the only copy")
    with pytest.raises(Environment) as caught, new_private_dir(tmp_path / "ca") as making:
        write_private(making / "root.key", b"another")
    assert caught.value.code == "folder-exists"
    assert (tmp_path / "ca" / "root.key").read_bytes() == b"the only copy"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ca"]


@pytest.mark.parametrize("writable", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(tmp_path, writable):
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(writable)
    with pytest.raises(Environment) as caught:
        ensure_private_dir(path)
    assert caught.value.code == "folder-writable"
    assert "chmod 700" in caught.value.mend
    assert mode(path) == writable


def test_a_folder_that_others_can_only_read_is_tightened(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(0o755)
    ensure_private_dir(path)
    assert mode(path) == 0o700


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir(mode=0o700)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(Environment) as caught:
        ensure_private_dir(path)
    assert caught.value.code == "folder-owner"


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(Environment) as caught:
        ensure_private_dir(tmp_path / "folder")
    assert (caught.value.code, str(tmp_path / "folder") in caught.value.message) == ("not-a-folder", True)


@pytest.mark.parametrize("exposed", [0o640, 0o604, 0o644])
def test_an_exposed_secret_is_not_read(tmp_path, exposed):
    write_private(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(exposed)
    with pytest.raises(Environment) as caught:
        read_private(tmp_path / "key")
    assert caught.value.code == "secret-exposed"
    assert f"chmod 600 {tmp_path / 'key'}" in caught.value.mend


def test_a_missing_secret_is_named(tmp_path):
    with pytest.raises(Environment) as caught:
        read_private(tmp_path / "key")
    assert caught.value.code == "file-missing"
