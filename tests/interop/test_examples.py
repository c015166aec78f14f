"""The programs in examples/ do what they say, as a reader would start them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from programs import Program

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def home(files):
    """The folder of the device's three files."""
    return files.cert.parent


def example(name: str, *args: object) -> Program:
    return Program(sys.executable, EXAMPLES / name, *args)


def test_paho_device(broker, device, home, paho):
    watcher = paho("watcher")
    watcher.subscribe(f"devices/{device}/#", qos=1)
    with example("paho_device.py", f"mqtts://localhost:{broker.port}", home, "--every", 0.05) as running:
        running.expect("^connected: Success")
        seen = {}
        while len(seen) < 2:
            message = watcher.next()
            seen[message.topic.rpartition("/")[2]] = message.payload.decode()
        assert seen["status"] == "online"
        assert 15 < float(seen["temperature"]) < 28
        watcher.publish(f"devices/{device}/set", "stop", qos=1, retain=True)  # kept: it may not have subscribed yet
        running.expect("^asked to stop")
        assert running.wait() == 0
        assert running.err == ""


def test_paho_device_leaves_its_will(broker, device, home, paho):
    watcher = paho("watcher")
    with example("paho_device.py", f"mqtts://localhost:{broker.port}", home) as running:
        running.expect("^connected")
        watcher.subscribe(f"devices/{device}/status", qos=1)
        while watcher.next().payload != b"online":
            pass
    while (message := watcher.next()).payload != b"offline":  # the block has killed it
        assert message.payload == b"online"


def test_aiomqtt_device(broker, device, home, paho):
    asker = paho("asker")
    asker.subscribe(f"devices/{device}/answers/asker")
    with example("aiomqtt_device.py", "localhost", broker.port, home) as running:
        running.expect("^connected")
        for question in ("what?", "stop"):
            asker.publish(
                f"devices/{device}/ask", question, ResponseTopic=f"devices/{device}/answers/asker", CorrelationData=b"7"
            )
            answer = asker.next()
            assert answer.payload.decode() == f"{question}: 42"
            assert answer.properties["CorrelationData"] == b"7"
        assert running.wait() == 0
        assert running.err == ""


def test_every_example_is_run_here():
    here = Path(__file__).read_text(encoding="utf-8")
    for file in EXAMPLES.glob("*.py"):
        assert f'example("{file.name}"' in here, file.name
