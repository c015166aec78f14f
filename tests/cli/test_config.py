"""`sealmq config explain`."""

import json
import subprocess
import sys


def explain(*args, data, **more):
    command = [sys.executable, "-m", "sealmq", "config", "explain", "--data", str(data), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **more)


def test_a_table_with_origins(tmp_path):
    (tmp_path / "sealmq.toml").write_text("[limits]\nmax_inflight = 5\n")
    done = explain(data=tmp_path)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "default" in lines["listen.mqtts"]
    assert f"{tmp_path}/sealmq.toml:2" in lines["limits.max_inflight"]
    assert "DANGEROUS" not in lines


def test_json_names_value_unit_origin_and_meaning(tmp_path):
    done = explain("--json", data=tmp_path)
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    assert rows["limits.max_packet_size"]["value"] == "1048576"
    assert rows["limits.max_packet_size"]["unit"] == "bytes"
    assert rows["limits.max_packet_size"]["origin"] == "default"
    assert rows["limits.max_packet_size"]["meaning"]


def test_dangerous_settings_are_named(tmp_path):
    (tmp_path / "own.toml").write_text("[dangerous]\nallow_all = true\n")
    done = explain("--config", str(tmp_path / "own.toml"), data=tmp_path)
    assert "DANGEROUS allow_all = true: no rule is asked" in done.stdout


def test_a_mistake_is_an_error_with_its_place(tmp_path):
    (tmp_path / "sealmq.toml").write_text("[limits]\n\nmax_infligth = 5\n")
    done = explain(data=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: unknown setting 'max_infligth' in [limits] of {tmp_path}/sealmq.toml:3",
        "mend: did you mean max_inflight?",
    ]
