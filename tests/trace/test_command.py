"""`sealmq trace` as a person types it: exit status, what is on which stream, options that do not go together."""

import json
from pathlib import Path

import pytest
import servers

from programs import run_sealmq
from sealmq.testing import EphemeralBroker
from sealmq.trace.model import from_json


def test_as_a_device_of_the_data_folder(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        broker.device("sensor-1")
        done = run_sealmq("trace", broker.url, "--as", "sensor-1", "--data", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("ClientHello", "certificate check", "CONNACK", "What is true after each step", "OK  The channel is"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_json_and_status_of_a_failure() -> None:
    done = run_sealmq("trace", "mqtts://no-such-host.invalid", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["outcome"], found["cause"], found["stopped_by"]) == ("failed", "dns", "network")
    assert from_json(found).cause == "dns"


def test_json_names(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files) as (url, _):
        done = run_sealmq("trace", url, "--cafile", files.ca, "--json")
    found = json.loads(done.stdout)
    assert {"outcome", "stopped_at", "stopped_by", "cause", "mend", "tls", "steps"} <= found.keys()
    assert {"version", "cipher", "group", "key_exchange", "resumed"} <= found["tls"].keys()
    assert all({"message", "direction", "bytes", "state"} <= step.keys() for step in found["steps"])


def test_keep_and_show_again(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    kept, packets = tmp_path / "kept.json", tmp_path / "kept.pcapng"
    with servers.s_server(files) as (url, _):
        live = run_sealmq("trace", url, "--cafile", files.ca, "--save", kept, "--save", packets)
    assert live.returncode == 0
    assert live.stderr.count("mode 0600") == 2
    again = run_sealmq("trace", "--replay", kept)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == live.stdout
    assert packets.read_bytes()[:4] == b"\n\r\r\n"


@pytest.mark.parametrize("option", ["--explain", "--verbose"])
def test_more_can_be_asked_for(tmp_path: Path, option: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files) as (url, _):
        done = run_sealmq("trace", url, "--cafile", files.ca, option)
    assert done.returncode == 0
    assert ("The client opens with all it can do" in done.stdout) is (option == "--explain")
    assert ("legacy_session_id" in done.stdout) is (option == "--verbose")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "error: what to trace is not clear"),
        (["mqtts://h", "--replay", "x"], "error: what to trace is not clear"),
        (["h"], "error: URL 'h' has no scheme"),
        (["mqtt://h"], "error: URL 'mqtt://h' has no TLS"),
        (["ftp://h"], "error: URL 'ftp://h' has scheme 'ftp'"),
        (["mqtts://u:p@h"], "error: URL holds a user name or password"),
        (["mqtts://h:99999"], "error: URL 'mqtts://h:99999' has a port or address that is none"),
        (["mqtts://h", "--tls", "1.1"], "error: TLS version '1.1' cannot be chosen"),
        (["mqtts://h", "--ciphers", "NONSENSE"], "error: cipher list 'NONSENSE' names no cipher"),
        (["mqtts://h", "-V", "4"], "error: MQTT version '4' is not known"),
        (["mqtts://h", "--cafile", "/nonexistent"], "error: CA file /nonexistent cannot be read"),
        (["mqtts://h", "--key", "k"], "error: a key is named without a certificate"),
        (["mqtts://h", "--as", "a", "--cert", "c"], "error: --as and --cert or --key name two identities"),
        (["--replay", "/nonexistent"], "error: /nonexistent does not exist"),
    ],
)
def test_wrong_usage_is_one_line_and_a_mend(args: list[str], message: str, tmp_path: Path) -> None:
    done = run_sealmq("trace", *args, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith(message)
    assert lines[1].startswith("mend: ")
    assert len(lines) == 2
    assert done.stdout == ""
