"""`sealmq device add --psk`: what is typed, what comes out, and that no key is shown."""

import json

import pytest

from sealmq.cli.app import run


@pytest.fixture
def sealmq(tmp_path, capsys):
    def call(*args):
        status = run(["--data", str(tmp_path / "data"), *map(str, args)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_the_file_is_named_and_its_key_is_not_shown(sealmq, tmp_path):
    status, out, err = sealmq("device", "add", "sensor-1", "--psk", "--out", tmp_path / "out")
    file = tmp_path / "out" / "sensor-1" / "psk.txt"
    assert (status, err) == (0, "")
    assert str(file) in out
    assert "--psk-identity sensor-1" in out
    assert file.read_text().strip().partition(":")[2] not in out


def test_json(sealmq, tmp_path):
    status, out, _ = sealmq("--json", "device", "add", "sensor-1", "--psk", "--group", "plant")
    found = json.loads(out)
    file = tmp_path / "data" / "devices" / "sensor-1" / "psk.txt"
    assert status == 0
    assert found == {"id": "sensor-1", "groups": ["plant"], "identity": "sensor-1", "files": {"psk": str(file)}}
    assert json.loads(sealmq("--json", "device", "show", "sensor-1")[1])["status"] == "active"


@pytest.mark.parametrize("more", [["--token"], ["--profile", "short"], ["--url", "https://localhost:8443"]])
def test_what_does_not_go_with_a_key_is_a_usage_error(sealmq, tmp_path, more):
    status, out, err = sealmq("device", "add", "sensor-1", "--psk", *more)
    assert (status, out) == (2, "")
    assert "mend:" in err
    assert not (tmp_path / "data" / "psk.json").exists()


def test_show_tells_of_a_key_that_waits_for_its_first_use(sealmq):
    sealmq("device", "add", "sensor-1", "--psk")
    assert "pending" not in sealmq("device", "show", "sensor-1")[1]
    sealmq("device", "renew", "sensor-1")
    status, out, _ = sealmq("device", "show", "sensor-1")
    assert status == 0
    assert "pending   pre-shared key sensor-1~2 is not seen yet; the one before it is good until then\n" in out
    keys = json.loads(sealmq("--json", "device", "show", "sensor-1")[1])["keys"]
    assert [(key["identity"], key["pending"]) for key in keys] == [("sensor-1", False), ("sensor-1~2", True)]
    assert all(set(key) == {"identity", "created_at", "pending"} for key in keys), "a key must not be shown"
