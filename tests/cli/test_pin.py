"""`sealmq pin`: what is pinned, what holds, and that a rotation which strands devices is refused."""

from __future__ import annotations

import json

import pytest

from programs import run_sealmq
from sealmq.testing import EphemeralBroker

BACKUP = "ab" * 32


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    assert run_sealmq("--data", folder, "device", "add", "sensor-1").returncode == 0
    return folder


def pin(data, *words):
    return run_sealmq("--data", data, "pin", *words)


def pin_of(data, file) -> str:
    return json.loads(pin(data, "show", data / file, "--json").stdout)[0]["pin"]


def test_a_list_needs_a_backup(data):
    done = pin(data, "add", data / "ca" / "root.pem")
    assert done.returncode == 2
    assert "single pin" in done.stderr
    assert not (data / "pins.txt").exists()
    done = pin(data, "add", data / "ca" / "root.pem", f"sha256:{BACKUP}")
    assert (done.returncode, done.stdout) == (0, f"2 pins in {data}/pins.txt\n")


def test_the_plan_tells_what_a_change_strands(data):
    assert pin(data, "plan").returncode == 1
    pin(data, "add", data / "ca" / "root.pem", BACKUP)
    plan = json.loads(pin(data, "plan", "--json").stdout)
    root = pin_of(data, "ca/root.pem")
    holding = {one["event"]: one["holding"] for one in plan["outlook"]}
    assert holding["now"] == holding["ca rotate servers"] == holding["ca rotate root --switch"] == [root]
    assert holding["ca rotate root --drain"] == []
    assert [one["key"] is None for one in plan["pins"]] == [False, True]


def test_a_rotation_that_strands_is_refused_unless_told(data):
    pin(data, "add", data / "ca" / "root.pem", BACKUP)
    rotate = ["--data", data, "ca", "rotate", "root"]
    for step in ("--stage", "--publish", "--switch"):
        done = run_sealmq(*rotate, step, "--threshold", "0")
        assert done.returncode == 0, done.stderr
    done = run_sealmq(*rotate, "--drain", "--threshold", "0")
    assert done.returncode == 1
    assert "strand" in done.stderr or "no certificate under the new root" in done.stderr
    assert run_sealmq(*rotate, "--drain", "--force").returncode == 0
    assert pin(data, "plan").returncode == 1  # the pins that devices have are of nobody any more


def test_the_pin_of_a_server():
    with EphemeralBroker() as broker:
        done = run_sealmq("--json", "pin", "show", broker.url, broker.folder.server_dir / "cert.pem")
    shown, filed = json.loads(done.stdout)[:2]
    assert shown["pin"] == filed["pin"]


def test_wrong_words(data):
    assert pin(data, "add", "abc").returncode == 2
    assert pin(data, "show", data / "nothing").returncode == 2
    assert pin(data, "show", "mqtts://127.0.0.1:1").returncode == 1
