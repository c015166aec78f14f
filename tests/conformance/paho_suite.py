"""Owns the run of the Go client's functional tests against us: what a common client library expects of a broker.

Refuses to run its unit tests, which need no broker.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from .mosquitto_suite import free_ports
from .outcome import Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

NAME = "paho.mqtt.golang"
_TESTS = "fvt_client_test.go"
PATIENCE = 600  # seconds


def run(module: Path, root: Path, notes: Path) -> list[Outcome]:
    """Every test of the file that talks to a broker."""
    names = re.findall(r"^func (Test_\w+)\(", (module / _TESTS).read_text(), re.MULTILINE)
    (port,) = free_ports(1)
    environment = {**os.environ, "SEALMQ_CONFORMANCE_NOTES": str(notes), "PYTHONPATH": str(root)}
    broker = subprocess.Popen([sys.executable, "-m", "tests.conformance.standin", "-p", str(port)], env=environment)
    try:
        # The tests make `tcp://ADDRESS:1883` of it; as a query the port does no harm.
        environment["TEST_FVT_ADDR"] = f"127.0.0.1:{port}/?"
        words = ["go", "test", "-json", f"-timeout={PATIENCE}s", "-run", f"^({'|'.join(names)})$", "."]
        told = subprocess.run(
            words, cwd=module, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=2 * PATIENCE
        ).stdout
    finally:
        broker.terminate()
        broker.wait()
    return list(_outcomes(told))


def _outcomes(told: str) -> list[Outcome]:
    said: dict[str, str] = {}
    found = []
    results = {"pass": Result.PASSED, "fail": Result.FAILED, "skip": Result.FOREIGN}
    for line in told.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        name, action = event.get("Test"), event.get("Action")
        if name and action == "output" and re.search(r"_test\.go:\d+:|panic", event["Output"]):
            said[name] = (said.get(name, "") + event["Output"].strip() + " ")[:300]
        if name and action in results:
            found.append(Outcome(NAME, name, results[action], said.get(name, "") if action != "pass" else ""))
    return found
