"""`sealmq device`: what is typed, what comes out, what is left on disk. Knows nothing of certificates' insides."""

import contextlib
import json
import shlex
import subprocess
import threading

import pytest

from sealmq.broker.control import ControlServer
from sealmq.cli.app import run
from sealmq.datafolder import DataFolder
from sealmq.errors import LocalMisuse
from sealmq.pki.authority import Authority
from sealmq.pki.operations import OPERATIONS, device_files
from sealmq.pki.registry import Registry


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def sealmq(data, capsys):
    def call(*args):
        status = run(["--data", str(data), *map(str, args)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def commands(out):
    return [shlex.split(line) for line in out.splitlines() if line.startswith("  ") and " -t " in line]


def test_the_first_device_makes_folder_ca_and_files(sealmq, data):
    status, out, err = sealmq("device", "add", "sensor-1")
    assert (status, err) == (0, "")
    files = device_files(DataFolder.open(data), "sensor-1")
    for path in (files.cert, files.key, files.ca):
        assert str(path) in out
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in out
    verify = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", files.ca, "-untrusted", files.cert, files.cert]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    gnutls = ["certtool", "--verify", "--load-ca-certificate", files.ca, "--infile", files.cert]
    assert subprocess.run(gnutls, capture_output=True).returncode == 0


def test_the_next_commands_name_real_files_and_a_client_id_of_the_device(sealmq, data):
    _, out, _ = sealmq("device", "add", "sensor-1")
    listen, publish, own = commands(out)
    files = device_files(DataFolder.open(data), "sensor-1")
    for command in (listen, publish):
        assert command[command.index("--cafile") + 1] == str(files.ca)
        assert command[command.index("--cert") + 1] == str(files.cert)
        assert command[command.index("--key") + 1] == str(files.key)
        assert command[command.index("-i") + 1].startswith("sensor-1:")
        assert command[command.index("-t") + 1].startswith("devices/sensor-1/")
    assert own[own.index("--as") + 1] == "sensor-1"
    assert own[own.index("--data") + 1] == str(data)


def test_out_puts_the_files_elsewhere_and_the_commands_follow(sealmq, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = sealmq("device", "add", "sensor-1", "--out", "here")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "here" / "sensor-1").iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert not (data / "devices").exists()
    own = commands(out)[2]
    assert "--as" not in own
    assert own[own.index("--key") + 1] == str(tmp_path / "here" / "sensor-1" / "key.pem")


def test_an_existing_id_ends_with_1_and_a_mend(sealmq, data):
    sealmq("device", "add", "sensor-1")
    key = device_files(DataFolder.open(data), "sensor-1").key.read_bytes()
    status, out, err = sealmq("device", "add", "sensor-1")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "error: device sensor-1 exists already"
    assert err.splitlines()[1].startswith("mend: ")
    assert device_files(DataFolder.open(data), "sensor-1").key.read_bytes() == key


@pytest.mark.parametrize("args", [["a.b"], ["../x"], [""], ["a/#"], ["ok", "--profile", "forever"], []])
def test_wrong_usage_ends_with_2_and_makes_nothing(sealmq, data, args):
    status, out, err = sealmq("device", "add", *args)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not data.exists()


@pytest.mark.parametrize("args", [["list"], ["show", "sensor-1"]])
def test_without_a_folder_nothing_is_made(sealmq, data, args):
    status, _, err = sealmq("device", *args)
    assert status == 2
    assert "does not exist" in err
    assert "mend: " in err
    assert not data.exists()


def test_list_and_show(sealmq):
    sealmq("device", "add", "sensor-1")
    sealmq("device", "add", "gateway", "--profile", "sleepy")
    status, out, _ = sealmq("device", "list")
    head, *rows = out.splitlines()
    assert status == 0
    assert head.split() == ["DEVICE", "STATUS", "PROFILE", "VALID", "UNTIL", "LEFT"]
    assert [row.split()[:3] for row in rows] == [["gateway", "active", "sleepy"], ["sensor-1", "active", "default"]]
    assert rows[0].endswith(("179 days", "180 days"))
    status, out, _ = sealmq("device", "show", "gateway")
    assert status == 0
    for word in ("gateway", "sleepy", "180 days", "spiffe://", "/device/gateway", "serial", "sha256"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_list_of_no_devices_says_how_to_make_one(sealmq, data):
    Authority.create(DataFolder.create_or_open(data))
    status, out, _ = sealmq("device", "list")
    assert status == 0
    assert "device add ID" in out


def test_show_of_an_unknown_device_ends_with_1(sealmq):
    sealmq("device", "add", "sensor-1")
    status, out, err = sealmq("device", "show", "sensor-2")
    assert (status, out) == (1, "")
    assert err.startswith("error: device sensor-2 does not exist\nmend: ")


def test_json_wherever_it_stands(sealmq):
    made = json.loads(sealmq("device", "add", "sensor-1", "--json")[1])
    assert set(made) == {"id", "profile", "groups", "uri", "files", "certificate"}
    assert set(made["files"]) == {"cert", "key", "ca"}
    listed = json.loads(sealmq("--json", "device", "list")[1])
    assert [one["id"] for one in listed["devices"]] == ["sensor-1"]
    shown = json.loads(sealmq("device", "--json", "show", "sensor-1")[1])
    assert shown["certificates"] == [{**made["certificate"], "seconds_left": shown["certificates"][0]["seconds_left"]}]


@contextlib.contextmanager
def broker(data, *, listeners=(), operations=OPERATIONS):
    """What a running broker does for commands: it has the lock and answers on the control socket."""
    folder = DataFolder.create_or_open(data)
    asked = []
    with folder.lock(), Registry.open(folder) as registry:
        authority = Authority.open_or_create(folder)

        def through(verb):
            def answer(args):
                asked.append(verb)
                return operations[verb](folder, authority, registry, **args)

            return answer

        verbs = {verb: through(verb) for verb in operations}
        verbs["status"] = lambda _args: {"listeners": list(listeners)}
        server = ControlServer(folder, verbs)
        server.start()
        try:
            yield asked
        finally:
            server.stop()


def test_a_running_broker_does_it_and_its_port_is_printed(sealmq, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with broker(data, listeners=["mqtts://127.0.0.1:18883", "https://127.0.0.1:8443"]) as asked:
        status, out, _ = sealmq("device", "add", "sensor-1", "--out", "here")
        assert status == 0
        assert (tmp_path / "here" / "sensor-1" / "key.pem").is_file()
        assert "-h localhost -p 18883" in out
        assert "mqtts://localhost:18883" in out
        assert sealmq("device", "list")[0] == 0
        assert sealmq("device", "add", "sensor-1")[0] == 1
        assert asked == ["device-add", "device-list", "device-add"]
    assert sealmq("device", "show", "sensor-1")[0] == 0


def test_an_error_of_the_broker_keeps_its_words_and_status(sealmq, data):
    def refuse(*_args, **_kwargs):
        raise LocalMisuse("the fleet sleeps", mend="come back later", code="asleep")

    with broker(data, operations={"device-list": refuse}):
        status, _, err = sealmq("device", "list")
    assert (status, err) == (2, "error: the fleet sleeps\nmend: come back later\n")


def test_a_broker_that_has_the_folder_and_does_not_answer_is_named(sealmq, data, monkeypatch):
    from sealmq.cli import folder as acting

    monkeypatch.setattr(acting, "_PATIENCE", 0.0)
    folder = DataFolder.create_or_open(data)
    with folder.lock():
        status, _, err = sealmq("device", "list")
    assert status == 2
    assert "in use by process" in err


def test_a_broker_that_is_stopping_is_waited_for(sealmq, data):
    sealmq("device", "add", "sensor-1")
    folder = DataFolder.open(data)
    held, release = threading.Event(), threading.Event()

    def hold():
        with folder.lock():
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    timer = threading.Timer(0.1, release.set)
    timer.start()
    try:
        assert sealmq("device", "show", "sensor-1")[0] == 0
    finally:
        timer.join()
        thread.join()
