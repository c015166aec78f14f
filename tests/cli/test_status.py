"""`sealmq status`: what the running broker says, and what is said when none runs."""

import json
import subprocess
import sys

import pytest

from sealmq.broker.control import ControlServer
from sealmq.datafolder import DataFolder

ANSWER = {
    "data": "/d",
    "pid": 7,
    "version": "1.2",
    "fleet": "fleet-1",
    "started_at": 1_700_000_000_000,
    "uptime_s": 3_725,
    "listeners": ["mqtts://127.0.0.1:8883", "https://127.0.0.1:8443"],
    "counts": {"connections": 3, "idle": 0},
    "dangerous": [{"setting": "allow_all", "value": "true", "meaning": "no rule is asked"}],
    "refused": {
        "by_cause": {"no-certificate": 2},
        "last": [
            {
                "event": "refused",
                "at": 1_700_000_000_000,
                "peer": "192.0.2.7:1",
                "stage": "certificate",
                "cause": "no-certificate",
                "summary": "device showed no certificate\x1b[2J",
                "mend": "sealmq device add ID",
            }
        ],
    },
}


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


def status(folder, *args):
    command = [sys.executable, "-m", "sealmq", "status", "--data", str(folder.path), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def broker(folder):
    server = ControlServer(folder, {"status": lambda _: ANSWER})
    server.start()
    yield server
    server.stop()


@pytest.mark.usefixtures("broker")
def test_for_people(folder):
    done = status(folder)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "broker 1.2 on /d, process 7, up 1 h 2 min"
    assert "  listens  mqtts://127.0.0.1:8883" in done.stdout
    assert "DANGEROUS allow_all = true: no rule is asked" in done.stdout
    assert "connections" in done.stdout
    assert "idle" not in done.stdout
    assert "192.0.2.7:1  certificate: device showed no certificate\\x1b[2J" in done.stdout
    assert "mend: sealmq device add ID" in done.stdout


@pytest.mark.usefixtures("broker")
def test_for_machines(folder):
    assert json.loads(status(folder, "--json").stdout) == ANSWER


def test_no_broker(folder):
    done = status(folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: no broker runs on {folder.path}\nmend: start one: sealmq up\n"
