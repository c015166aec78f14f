"""`sealmq device` while the broker runs: a new device connects at once, and both see the same registry."""

from __future__ import annotations

import json
import shlex
from concurrent.futures import ThreadPoolExecutor

from programs import finished


def test_a_new_device_connects_at_once(up):
    running = up()
    added = running.sealmq("device", "add", "sensor-7")
    assert added.returncode == 0
    topic = "devices/sensor-7/t"
    done = running.sealmq("pub", running.url, "-t", topic, "-m", "m", "-q", "1", "--as", "sensor-7")
    assert (done.returncode, done.stderr) == (0, "")
    running.expect("connected sensor-7:pub-")


def test_the_printed_commands_reach_this_broker(up):
    running = up()
    added = running.sealmq("device", "add", "sensor-7").stdout
    commands = [shlex.split(line) for line in added.splitlines() if line.startswith("  mosquitto_pub")]
    assert commands[0][commands[0].index("-p") + 1] == str(running.ready["mqtts"])
    assert finished(*commands[0]).returncode == 0
    running.expect("connected sensor-7:pub from")


def test_list_and_show_come_from_the_broker(up):
    running = up()
    assert "no devices yet" in running.sealmq("device", "list").stdout
    running.device("sensor-1")
    running.device("sensor-2")
    listed = json.loads(running.sealmq("device", "list", "--json").stdout)["devices"]
    assert [device["id"] for device in listed] == ["sensor-1", "sensor-2"]
    shown = json.loads(running.sealmq("device", "show", "sensor-2", "--json").stdout)
    assert shown["id"] == "sensor-2"
    assert shown["uri"].endswith("/device/sensor-2")
    again = running.sealmq("device", "add", "sensor-1")
    assert again.returncode == 1
    assert "sensor-1" in again.stderr
    assert running.sealmq("device", "show", "nobody").returncode == 1


def test_two_commands_at_once_do_not_race(up):
    running = up()
    names = [f"sensor-{number}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda name: running.sealmq("device", "add", name), names))
    assert [one.returncode for one in done] == [0] * len(names)
    listed = json.loads(running.sealmq("device", "list", "--json").stdout)["devices"]
    assert sorted(device["id"] for device in listed) == names


def test_files_are_written_where_the_command_says(up, tmp_path):
    """The broker writes them, and it was started in another folder."""
    running = up()
    (tmp_path / "here").mkdir()
    done = running.sealmq("device", "add", "sensor-1", "--out", "bundle", cwd=tmp_path / "here")
    assert done.returncode == 0
    made = tmp_path / "here" / "bundle" / "sensor-1"
    assert sorted(path.name for path in made.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert (made / "key.pem").stat().st_mode & 0o777 == 0o600


def test_ca_export_is_what_clients_need(up, tmp_path):
    running = up()
    files = running.device()
    exported = tmp_path / "root.pem"
    assert running.sealmq("ca", "export", "--out", exported).returncode == 0
    who = ["--cert", files.cert, "--key", files.key, "-i", "sensor-1"]
    words = ["mosquitto_pub", "-h", "localhost", "-p", running.ready["mqtts"], "--cafile", exported, *who]
    assert finished(*words, "-t", "devices/sensor-1/t", "-m", "m", "-q", "1").returncode == 0
