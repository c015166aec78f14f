"""`sealmq status` and `config explain` beside a broker that runs: listeners, clients, refusals, dangerous settings."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import sys
import termios

import pytest

from programs import finished, sealmq


def test_a_broker_that_just_started(up):
    running = up("--wss", "127.0.0.1:0", listeners=3)
    done = running.sealmq("status")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert f"on {running.data}, process {running.pid}, up " in first
    assert f"  listens  mqtts://127.0.0.1:{running.ready['mqtts']}" in rest
    assert f"  listens  wss://127.0.0.1:{running.ready['wss']}/mqtt" in rest
    assert f"  listens  https://127.0.0.1:{running.ready['https']}" in rest
    assert "refused since start: none" in rest
    assert "DANGEROUS" not in done.stdout


def test_clients_are_listed(up):
    running = up()
    running.device()
    command = ["--data", running.data, "sub", running.url, "--as", "sensor-1", "-t", "devices/sensor-1/#"]
    with sealmq(*command, "-i", "sensor-1:panel") as listener:
        listener.expect("^subscribed ")
        line = next(line for line in running.sealmq("status").stdout.splitlines() if "sensor-1:panel" in line)
        record = json.loads(running.sealmq("status", "--json").stdout)
    assert line.split()[:3] == ["sensor-1:panel", "sensor-1", "5.0"]
    assert record["counts"]["connections"] == 1
    assert record["counts"]["subscriptions"] == 1
    client = record["clients"][0]
    assert (client["client_id"], client["device"], client["subscriptions"]) == ("sensor-1:panel", "sensor-1", 1)


def test_refusals_with_cause_and_mend(up):
    running = up()
    at = ("127.0.0.1", running.ready["mqtts"])
    files = running.device()
    with socket.create_connection(at) as plain:
        plain.sendall(bytes.fromhex("100c00044d5154540402003c0000"))
        running.expect("refused .*plaintext-mqtt")
    finished("mosquitto_pub", "-h", "localhost", "-p", at[1], "--cafile", files.ca, "-t", "a", "-m", "b")
    running.expect("refused .*no-client-certificate")
    done = running.sealmq("status")
    assert "refused since start: " in done.stdout
    assert "plaintext-mqtt 1" in done.stdout
    assert "no-client-certificate 1" in done.stdout
    assert done.stdout.count("      mend: ") == 2
    refused = json.loads(running.sealmq("status", "--json").stdout)["refused"]
    assert refused["by_cause"] == {"plaintext-mqtt": 1, "no-client-certificate": 1}
    assert [event["cause"] for event in refused["last"]] == ["plaintext-mqtt", "no-client-certificate"]
    assert all(event["peer"].startswith("127.0.0.1:") for event in refused["last"])


def test_dangerous_settings_are_named_everywhere(up, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text("[dangerous]\nany_client_id = true\nallow_all = true\n", encoding="utf-8")
    running = up("--config", config)
    for name in ("any_client_id", "allow_all"):
        running.expect(f"DANGEROUS {name} = true: ")
    shown = running.sealmq("status").stdout
    explained = running.sealmq("config", "explain", "--config", config).stdout
    for name in ("any_client_id", "allow_all"):
        assert f"DANGEROUS {name} = true" in shown
        assert f"DANGEROUS {name} = true" in explained
    assert f"{config}:2" in explained
    found = json.loads(running.sealmq("status", "--json").stdout)["dangerous"]
    assert {one["setting"] for one in found} == {"any_client_id", "allow_all"}


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_settings_fit_the_terminal(tmp_path, columns):
    terminal, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    words = [sys.executable, "-m", "sealmq", "--data", tmp_path, "config", "explain"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen([str(word) for word in words], stdout=program, env=environment) as running:
        os.close(program)
        shown = b""
        try:
            while part := os.read(terminal, 1 << 16):
                shown += part
        except OSError:  # how a terminal says that its last writer has gone
            pass
        assert running.wait() == 0
    os.close(terminal)
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= columns
    assert any("limits.max_packet_size" in line for line in lines)
    assert "largest MQTT packet taken" in " ".join(" ".join(lines).split())


def test_without_a_broker_it_is_status_1(up):
    running = up()
    running.signal(15)
    assert running.wait() == 0
    done = running.sealmq("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no broker runs on {running.data}\nmend: start one: sealmq up\n"


def test_a_broker_that_was_killed_leaves_nothing_in_the_way(up):
    running = up()
    running.signal(9)
    running.wait()
    assert (running.data / "control.sock").exists()
    assert running.sealmq("status").returncode == 1
    assert running.sealmq("device", "add", "sensor-2").returncode == 0
    again = up()
    assert again.sealmq("status").returncode == 0
