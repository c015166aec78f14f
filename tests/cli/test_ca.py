"""`sealmq ca`: what is typed and what comes out. Knows nothing of how a CA is made."""

import json
import subprocess

import pytest

from sealmq.cli.app import run
from sealmq.datafolder import DataFolder
from sealmq.pki.authority import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority.create(DataFolder.create_or_open(tmp_path / "data"))


@pytest.fixture
def sealmq(tmp_path, capsys):
    def call(*args):
        status = run(["--data", str(tmp_path / "data"), *map(str, args)])
        return (status, *capsys.readouterr())

    return call


def test_show(sealmq, authority):
    status, out, err = sealmq("ca", "show")
    assert (status, err) == (0, "")
    for role in ("root", "devices", "servers"):
        assert f"\n{role}\n" in out
    assert f"CN={authority.fleet} Root 1" in out
    assert "3649 days" in out or "3650 days" in out
    assert "PRIVATE KEY" not in out
    assert "\x1b" not in out


def test_show_json_has_the_fingerprints(sealmq, authority, tmp_path):
    found = json.loads(sealmq("ca", "show", "--json")[1])
    assert found["fleet"] == authority.fleet
    root = found["authorities"][0]
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    command = ["openssl", "x509", "-in", tmp_path / "root.pem", "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert root["sha256"] in told.replace(":", "").lower()
    assert (root["role"], len(root["spki_sha256"])) == ("root", 64)


def test_export_to_stdout_is_the_root_and_nothing_else(sealmq, authority):
    assert sealmq("ca", "export") == (0, authority.root_pem.decode(), "")


def test_export_to_a_file(sealmq, authority, tmp_path):
    status, out, _ = sealmq("ca", "export", "--out", tmp_path / "ca.pem")
    assert status == 0
    assert str(tmp_path / "ca.pem") in out
    assert (tmp_path / "ca.pem").read_bytes() == authority.root_pem
    assert (tmp_path / "ca.pem").stat().st_mode & 0o777 == 0o644
    found = json.loads(sealmq("ca", "export", "--out", tmp_path / "ca.pem", "--json")[1])
    assert found["file"] == str(tmp_path / "ca.pem")


def test_export_json(sealmq, authority):
    assert json.loads(sealmq("ca", "export", "--json")[1])["pem"] == authority.root_pem.decode()


@pytest.mark.usefixtures("authority")
def test_export_where_it_cannot_be_written(sealmq, tmp_path):
    status, out, err = sealmq("ca", "export", "--out", tmp_path / "no" / "such" / "ca.pem")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")


@pytest.mark.parametrize("verb", ["show", "export"])
def test_without_a_ca_nothing_is_made(sealmq, tmp_path, verb):
    assert sealmq("ca", verb)[0] == 2
    assert not (tmp_path / "data").exists()
    DataFolder.create_or_open(tmp_path / "data")
    status, _, err = sealmq("ca", verb)
    assert status == 2
    assert "holds no CA yet" in err
    assert not (tmp_path / "data" / "ca").exists()


# --- rotate --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("authority")
def test_a_whole_rotation_of_the_root(sealmq, tmp_path):
    assert sealmq("device", "add", "sensor-1")[0] == 0
    assert sealmq("ca", "rotate", "root", "--stage")[0] == 0
    assert sealmq("ca", "rotate", "root", "--publish")[0] == 0
    status, out, err = sealmq("ca", "rotate", "root", "--switch")
    assert (status, out) == (1, "")
    assert "1 of 1 devices do not hold bundle 2" in err
    assert "sensor-1" in err
    assert "mend: " in err
    told = sealmq("ca", "rotate", "status")[1]
    assert "without it  " in told
    assert "sealmq ca rotate root --switch" in told
    found = json.loads(sealmq("ca", "rotate", "root", "--switch", "--force", "--json")[1])
    assert [(one["kind"], one["state"]) for one in found["authorities"][:1]] == [("root", "draining")]
    assert "old root only  sensor-1" in sealmq("ca", "rotate", "status")[1]
    assert sealmq("ca", "export")[1].count("BEGIN CERTIFICATE") == 2
    assert sealmq("ca", "rotate", "root", "--drain")[0] == 1
    assert sealmq("ca", "rotate", "root", "--drain", "--force")[0] == 0
    status, out, _ = sealmq("ca", "rotate", "root", "--retire")
    assert (status, "rotation is complete" in out) == (0, True)
    shown = sealmq("ca", "show")[1]
    assert "Root 2" in shown
    assert "Root 1" not in shown
    assert not (tmp_path / "data" / "ca" / "root.key").exists()


@pytest.mark.usefixtures("authority")
def test_a_new_issuing_ca_shows_beside_the_old_one(sealmq):
    status, out, _ = sealmq("ca", "rotate", "devices")
    assert (status, "old one retires by itself" in out) == (0, True)
    found = json.loads(sealmq("ca", "show", "--json")[1])["authorities"]
    assert [(one["role"], one["number"], one["state"]) for one in found] == [
        ("root", 1, "signing"),
        ("devices", 2, "signing"),
        ("devices", 1, "draining"),
        ("servers", 1, "signing"),
    ]
    assert sealmq("ca", "rotate", "servers")[0] == 0


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["root"], 2, "one step at a time, 0 were given"),
        (["root", "--stage", "--publish"], 2, "one step at a time, 2 were given"),
        (["root", "--retire"], 1, "no rotation of the root is under way"),
        (["root", "--stage", "--threshold", "101"], 2, "threshold"),
    ],
)
def test_steps_that_cannot_be_taken(sealmq, args, status, words):
    found, out, err = sealmq("ca", "rotate", *args)
    assert (found, out) == (status, "")
    assert words in err
