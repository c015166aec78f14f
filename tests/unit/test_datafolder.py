"""The data folder: found, made, refused, owned by one. Knows nothing of the CA in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_disk import tiny_disk

from sealmq.datafolder import DataFolder, Owner
from sealmq.errors import ConfigError, DataFolderError, Environment


def test_option_then_environment_then_default(tmp_path, monkeypatch):
    monkeypatch.setenv("SEALMQ_DATA", "/from/environment")
    assert DataFolder.resolve(tmp_path) == tmp_path
    assert DataFolder.resolve(None) == Path("/from/environment")
    monkeypatch.setenv("SEALMQ_DATA", "")
    assert DataFolder.resolve(None) == Path("sealmq-data")


def test_a_folder_is_made_once_and_keeps_its_fleet(tmp_path):
    made = DataFolder.create_or_open(tmp_path / "data")
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert (made.path / "format").read_text() == "1\n"
    assert made.fleet.startswith("fleet-")
    assert DataFolder.create_or_open(tmp_path / "data").fleet == made.fleet == DataFolder.open(tmp_path / "data").fleet
    assert DataFolder.create_or_open(tmp_path / "other").fleet != made.fleet


def test_paths_are_absolute_and_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = DataFolder.create_or_open(Path("data"))
    paths = [folder.ca_dir, folder.server_dir, folder.devices_dir, folder.registry_path, folder.control_path]
    paths += [folder.lock_path, folder.config_path, folder.rules_path]
    assert {path.parent for path in paths} == {tmp_path / "data"}


def test_a_missing_folder_is_not_made_by_open(tmp_path):
    with pytest.raises(DataFolderError) as caught:
        DataFolder.open(tmp_path / "data")
    assert (caught.value.code, caught.value.exit_status) == ("data-folder-missing", 2)
    assert "sealmq up" in caught.value.mend
    assert isinstance(caught.value, ConfigError)
    assert not (tmp_path / "data").exists()


def test_a_newer_format_is_refused_and_untouched(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    (folder.path / "format").write_text("2\n")
    for opening in (DataFolder.open, DataFolder.create_or_open):
        with pytest.raises(DataFolderError) as caught:
            opening(folder.path)
        assert caught.value.code == "data-folder-newer"
        assert "newer sealmq (format 2, this one knows 1)" in caught.value.message
    assert (folder.path / "format").read_text() == "2\n"


@pytest.mark.parametrize(("name", "content"), [("format", "one"), ("format", ""), ("fleet", "")])
def test_a_damaged_folder_is_named(tmp_path, name, content):
    folder = DataFolder.create_or_open(tmp_path / "data")
    (folder.path / name).write_text(content)
    with pytest.raises(DataFolderError) as caught:
        DataFolder.open(folder.path)
    assert caught.value.code == "data-folder-damaged"
    assert name in caught.value.message


def test_a_folder_of_other_things_is_refused_and_keeps_its_mode(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "diary.txt").write_text("mine")
    for opening in (DataFolder.open, DataFolder.create_or_open):
        with pytest.raises(DataFolderError) as caught:
            opening(home)
        assert caught.value.code == "data-folder-foreign"
    assert home.stat().st_mode & 0o777 == 0o755
    assert [entry.name for entry in home.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("left_over", [["fleet"], [".format.0123456789ab.partial"], ["sealmq.toml", "rules.toml"], []])
def test_a_making_that_was_cut_short_is_finished(tmp_path, left_over):
    (tmp_path / "data").mkdir(mode=0o700)
    for name in left_over:
        (tmp_path / "data" / name).write_text("fleet-7f3a9c\n")
    folder = DataFolder.create_or_open(tmp_path / "data")
    if left_over == ["fleet"]:
        assert folder.fleet == "fleet-7f3a9c"
    assert DataFolder.open(folder.path).fleet == folder.fleet


def test_a_full_disk_at_first_start_is_named_and_mended_by_space(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        disk.fill()
        with pytest.raises(Environment) as caught:
            DataFolder.create_or_open(disk.path)
        assert caught.value.code == "disk-full"
        disk.empty()
        assert DataFolder.create_or_open(disk.path).fleet


def test_a_broker_keeps_the_folder_for_itself(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    assert folder.locked_by() is None
    with folder.lock():
        assert folder.locked_by() == os.getpid()
        with pytest.raises(Environment) as caught, DataFolder.open(folder.path).lock():
            pass
        assert caught.value.code == "data-folder-locked"
        assert f"process {os.getpid()}" in caught.value.message
    assert folder.locked_by() is None
    with folder.lock():
        pass


def test_a_command_that_passes_through_is_not_a_broker(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with folder.lock(owner=Owner.COMMAND):
        assert folder.locked_by() is None


HOLD = """
import sys
from pathlib import Path
from sealmq.datafolder import DataFolder, Owner
with DataFolder.open(Path(sys.argv[1])).lock(owner=Owner[sys.argv[2]]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder: DataFolder, owner: Owner) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path), owner.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_dies_with_its_process_and_a_stale_note_misleads_nobody(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with holder(folder, Owner.BROKER) as process:
        assert folder.locked_by() == process.pid
        process.kill()
        process.communicate()
    assert folder.lock_path.read_text() == f"{process.pid} broker\n"
    assert folder.locked_by() is None
    with folder.lock():
        assert folder.locked_by() == os.getpid()


def test_a_broker_waits_for_a_command_to_end(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with holder(folder, Owner.COMMAND) as process:
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder.path), "BROKER"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with waiting:
            process.communicate("go\n")
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == "held\n"
            assert folder.locked_by() == waiting.pid
            waiting.communicate("go\n")


def test_two_first_starts_at_once_make_one_fleet(tmp_path):
    code = "import sys; from pathlib import Path; from sealmq.datafolder import DataFolder;"
    code += "sys.stdin.readline(); print(DataFolder.create_or_open(Path(sys.argv[1])).fleet)"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("go\n")
        start.stdin.flush()
    fleets = {start.communicate()[0] for start in starts}
    assert fleets == {f"{DataFolder.open(tmp_path / 'data').fleet}\n"}
