"""`sealmq agent` and `sealmq device revoke` as programs, beside a running broker."""

from __future__ import annotations

import json

from programs import run_sealmq, sealmq
from sealmq.pki.devicefiles import DeviceFiles


def uri(running, device: str = "sensor-1") -> str:
    made = running.sealmq("device", "add", device, "--token", "--json")
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["uri"]


def test_one_run_enrols_and_the_next_has_nothing_to_do(up, tmp_path):
    running = up()
    place = tmp_path / "device"
    done = run_sealmq("agent", "--dir", place, "--enrol", uri(running), "--once")
    assert done.returncode == 0, done.stderr
    assert "device sensor-1 is enrolled" in done.stderr
    files = DeviceFiles.inside(place)
    assert files.fit()
    running.expect("issued")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key]
    sent = run_sealmq("pub", running.url, "-t", "devices/sensor-1/t", "-m", "m", "-q", "1", *who)
    assert (sent.returncode, sent.stderr) == (0, "")
    before = files.cert.read_bytes()
    door = f"https://localhost:{running.ready['https']}"
    assert run_sealmq("agent", "--dir", place, "--url", door, "--once").returncode == 0
    assert files.cert.read_bytes() == before


def test_a_revoked_device_ends_its_agent(up, tmp_path):
    running = up()
    place = tmp_path / "device"
    with sealmq("agent", "--dir", place, "--enrol", uri(running)) as agent:
        agent.expect("is enrolled")
    revoked = running.sealmq("device", "revoke", "sensor-1")
    assert revoked.returncode == 0
    assert "0 sessions closed in" in revoked.stdout
    running.expect("device sensor-1 is revoked")
    door = f"https://localhost:{running.ready['https']}"
    done = run_sealmq("agent", "--dir", place, "--url", door)
    assert done.returncode == 1
    assert done.stderr.startswith("error: device sensor-1 is revoked\nmend: ")


def test_the_printed_uri_names_the_door_of_this_broker(up):
    running = up()
    assert uri(running).startswith(f"sealmq-enrol://localhost:{running.ready['https']}/?id=sensor-1&token=")


def test_the_broker_tells_what_came_of_it(up):
    running = up()
    running.device("sensor-1")
    running.sealmq("device", "revoke", "sensor-1", "--reason", "key-compromise")
    refused = running.sealmq("pub", running.url, "-t", "devices/sensor-1/t", "-m", "m", "--as", "sensor-1")
    assert refused.returncode == 1
    running.expect(r"refused .*\[revoked\]")
    counts = json.loads(running.sealmq("status", "--json").stdout)["counts"]
    assert counts["devices_revoked"] == 1
