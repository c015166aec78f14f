"""Owns what SIGHUP changes in a running `sealmq up`, and what a broken file does not change.

Refuses to know how rules decide; that is in `test_authorisation`. It is the real program, in a process of its own.
"""

import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import raw_mqtt
from raw_mqtt import Wire

from programs import run_sealmq, sealmq

DENIED = 0x87
WIDE = '[[rule]]\nname = "wide"\nactions = ["publish", "subscribe"]\ntopics = ["a/#", "b/#"]\n'
NARROW = '[[rule]]\nname = "narrow"\nactions = ["publish", "subscribe"]\ntopics = ["b/#"]\n'


@contextmanager
def broker_on(data):
    """A broker on this folder: the program, and `device(id)` that connects."""
    with sealmq("--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "off") as program:
        port = int(program.expect(r"^ready mqtts://127\.0\.0\.1:(\d+)")[1])

        def device(device_id):
            if not (data / "devices" / device_id).exists():
                assert run_sealmq("--data", data, "device", "add", device_id).returncode == 0
            folder = data / "devices" / device_id
            files = SimpleNamespace(cert=folder / "cert.pem", key=folder / "key.pem", ca=folder / "ca.pem")
            return Wire.join(port, files, device_id)

        yield program, device
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.err


def granted(wire, topic):
    wire.send(raw_mqtt.subscribe(topic))
    return wire.packet().body[-1]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "rules.toml").write_text(WIDE)
    return folder


def test_sighup_takes_new_rules(data):
    with broker_on(data) as (program, device), device("sensor-1") as wire:
        assert granted(wire, "a/#") == 0
        assert granted(wire, "b/#") == 0
        (data / "rules.toml").write_text(NARROW)
        program.signal(signal.SIGHUP)
        program.expect("taken anew")
        wire.send(raw_mqtt.publish("a/x", b"after", qos=1))
        assert wire.packet().body[2] == DENIED
        wire.send(raw_mqtt.publish("b/x", b"still"))
        assert wire.packet().body.endswith(b"still")
        assert granted(wire, "a/#") == DENIED


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rules.toml", WIDE.replace("a/#", "a/#/b"), "has # elsewhere"),
        ("sealmq.toml", "[limits]\nmax_packet_sice = 1\n", "unknown setting 'max_packet_sice'"),
        ("sealmq.toml", '[tls]\ncertificate = "gone.pem"\nkey = "gone.pem"\n', "gone.pem cannot be read"),
    ],
)
def test_sighup_with_a_broken_file_changes_nothing(data, name, text, words):
    with broker_on(data) as (program, device), device("sensor-1") as wire:
        assert granted(wire, "a/#") == 0
        (data / name).write_text(text)
        program.signal(signal.SIGHUP)
        program.expect("what was in force stays in force")
        assert words in program.err
        wire.send(raw_mqtt.publish("a/x", b"as before"))
        assert wire.packet().body.endswith(b"as before")


@pytest.mark.parametrize("text", [NARROW, WIDE.replace("a/#", "a/#/b")])
def test_an_edited_rule_file_waits_for_sighup_while_devices_and_users_are_added(data, text):
    with broker_on(data) as (_, device), device("sensor-1") as wire:
        (data / "rules.toml").write_text(text)
        (data / "words").write_text("correct horse battery\n")
        for command in (
            ("device", "add", "sensor-2", "--group", "hall"),
            ("user", "add", "anna", "--password-file", data / "words"),
        ):
            done = run_sealmq("--data", data, *command)
            assert done.returncode == 0, done.stderr
        assert granted(wire, "a/#") == 0
        with device("sensor-2") as other:
            assert granted(other, "a/#") == 0


def test_dangerous_settings_wait_for_the_next_start(data):
    """A file that is changed under a running broker opens no door at a reload."""
    with broker_on(data) as (program, device), device("sensor-1") as wire:
        (data / "sealmq.toml").write_text("[dangerous]\nallow_all = true\n")
        program.signal(signal.SIGHUP)
        program.expect(r"change of \[dangerous\] waits for the next start")
        assert granted(wire, "elsewhere/#") == DENIED
        assert "DANGEROUS" not in program.err
    (data / "sealmq.toml").write_text('[dangerous]\nallow_all = true\n[log]\nlevel = "error"\n')
    with broker_on(data) as (program, device), device("sensor-1") as wire:
        assert "DANGEROUS allow_all = true" in program.err  # whatever the level of the log is
        assert granted(wire, "elsewhere/#") == 0
