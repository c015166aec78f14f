"""Owns how `sealmq up` fails at the start: one line that names what is wrong and where, one with the mend, status 2.

Refuses to know what happens once it runs. It is the real program each time, in a process of its own.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from raw_mqtt import Wire

from programs import finished, run_sealmq, sealmq
from sealmq.pki import signing
from sealmq.testing import ThrowawayCA

UP = ("up", "--mqtts", "127.0.0.1:0", "--https", "off")
PRIVILEGED_PORT = 883


def fails(*args, without_privileges=False):
    """The message and the mend of a program that has to fail with status 2."""
    # root without capabilities has the rights of any owner of files and no more
    drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if without_privileges and os.geteuid() == 0 else ()
    done = finished(*drop, sys.executable, "-m", "sealmq", *args)
    assert done.returncode == 2, done
    assert done.stdout == ""  # no `ready` line
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    mends = [line for line in lines if line.startswith("mend: ")]
    assert (len(errors), len(mends)) == (1, 1), done.stderr
    message, mend = errors[0].removeprefix("error: "), mends[0].removeprefix("mend: ")
    assert not message.endswith(".")
    assert "PRIVATE KEY" not in done.stderr
    return message, mend


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def configured(data, text):
    """A data folder that holds this configuration and nothing else."""
    data.mkdir(mode=0o700)
    (data / "sealmq.toml").write_text(text)
    return data


def left_behind(data):
    return sorted(path.name for path in data.iterdir()) if data.exists() else []


# --- configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "mend"),
    [
        ("[listen]\nmqtt = 1\n", "unknown setting 'mqtt' in [listen] of {}:2", "did you mean mqtts?"),
        ("[limit]\nmax_packet_size = 1000\n", "unknown table [limit] in {}:1", "did you mean [limits]?"),
        ("mqtts = 3\n", "setting 'mqtts' in {}:1 stands outside its table", "move it under [listen]"),
        ("[limits]\nmax_packet_size = 1\n", "limits.max_packet_size = 1", "from 256 to"),
        ("[listen]\nmqtts = ['127.0.0.1']\n", "listen.mqtts", "8883"),
        ("[listen]\nmqtts = []\n", "nobody could connect", "listen.mqtts"),
        ("[listen\n", "{}:1 is not TOML", "key = value"),
        ("[tls]\ncertificate = 'x.pem'\n", "without tls.key", "set tls.key too"),
        ("[dangerous]\nplaintext = '127.0.0.1:0'\n", "needs dangerous.anonymous = true", "anonymous = true"),
    ],
)
def test_configuration_that_makes_no_sense(data, text, message, mend):
    configured(data, text)
    said, way_out = fails("--data", data, "up")
    assert message.format(data / "sealmq.toml") in said
    assert mend in way_out
    assert left_behind(data) == ["sealmq.toml"]  # a slip makes no CA


def test_a_configuration_file_that_is_not_there(data, tmp_path):
    message, _ = fails("--data", data, *UP, "--config", tmp_path / "nowhere.toml")
    assert "nowhere.toml does not exist" in message
    assert not data.exists()


def test_a_configuration_file_that_is_no_text(data):
    configured(data, "")
    (data / "sealmq.toml").write_bytes(b"\xff\xfe\x00")
    message, mend = fails("--data", data, *UP)
    assert ("not UTF-8" in message, mend) == (True, "save it as UTF-8")


# --- rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('actions = ["publish"]\ntopics = ["a/#/b"]', "has # elsewhere than as its whole last level"),
        ('actions = ["publish"]\ntopics = ["a+"]', "has + beside other text in one level"),
        ('actions = ["publish"]\ntopics = ["a/{device}"]', "has {device}; {id} (device or user)"),
        ('actions = ["publish"]\ntopics = ["a\\u0000"]', "holds a null character"),
        ('actions = ["subscribe"]\ntopics = ["$share/g/x"]', "names a shared subscription"),
        ('who = "a/b"\nactions = ["publish"]\ntopics = ["a"]', "who of rule 'mine'"),
        ('who = "anonymous"\nactions = ["publish"]\ntopics = ["a/{id}"]', "no device id"),
        ('actoins = ["publish"]\ntopics = ["a"]', "unknown key 'actoins'"),
    ],
)
def test_rules_that_make_no_sense(data, rule, message):
    data.mkdir(mode=0o700)
    (data / "rules.toml").write_text(f'[[rule]]\nname = "mine"\n{rule}\n')
    said, _ = fails("--data", data, *UP)
    assert message in said
    assert "rules.toml" in said


# --- keys and certificates ----------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """The files of a server certificate of one's own."""
    issued = ThrowawayCA().issue_server()
    return issued.write(tmp_path / "own")


def with_tls(data, files, **changed):
    paths = {"certificate": files.cert, "key": files.key, "client_ca": files.ca} | changed
    return configured(data, "[tls]\n" + "".join(f'{name} = "{path}"\n' for name, path in paths.items()))


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_a_key_file_that_is_not_there(data, own, tmp_path, name):
    with_tls(data, own, **{name: tmp_path / "gone.pem"})
    message, mend = fails("--data", data, *UP)
    assert f"tls.{name} = {tmp_path / 'gone.pem'} cannot be read" in message
    assert mend == "check the path"


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_a_key_file_that_is_a_folder(data, own, tmp_path, name):
    with_tls(data, own, **{name: tmp_path})
    message, _ = fails("--data", data, *UP)
    assert f"tls.{name} = {tmp_path} cannot be read: is a directory" in message


def test_a_key_file_that_may_not_be_read(data, own):
    with_tls(data, own)
    own.key.chmod(0)
    message, mend = fails("--data", data, *UP, without_privileges=True)
    assert f"tls.key = {own.key} cannot be read: permission denied" in message
    assert "owner and mode" in mend


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("certificate", b"nothing", "certificate"),
        ("certificate", b"\x30\x82\x01\x00", "not PEM"),
        ("key", b"nothing", "key"),
        ("client_ca", b"nothing", "tls.client_ca holds no certificate"),
        ("client_ca", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
    ],
)
def test_a_key_file_that_holds_something_else(data, own, tmp_path, name, content, message):
    odd = tmp_path / "odd.pem"
    odd.write_bytes(content)
    with_tls(data, own, **{name: odd})
    said, _ = fails("--data", data, *UP)
    assert message in said


def test_a_key_of_another_certificate(data, own, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(signing.key_pem(signing.new_key()))
    with_tls(data, own, key=other)
    message, mend = fails("--data", data, *UP)
    assert f"key file {other} does not belong to the certificate in {own.cert}" in message
    assert "both files of one renewal" in mend


def test_an_encrypted_key(data, own, tmp_path):
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", own.key, "-out", locked, "-passout", "pass:swordfish"], check=True
    )
    with_tls(data, own, key=locked)
    message, mend = fails("--data", data, *UP)
    assert f"key file {locked} is encrypted" in message
    assert "decrypt it" in mend


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--mqtts", "--https", "--wss"])
def test_a_port_in_use(data, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = dict(zip(UP[1::2], UP[2::2], strict=True)) | {option: address}
        message, mend = fails("--data", data, "up", *(word for pair in words.items() for word in pair))
    assert f"{address} is in use by another program" in message
    assert "ss -ltnp" in mend


@pytest.mark.parametrize("option", ["--mqtts", "--https"])
def test_an_address_of_another_machine(data, option):
    words = dict(zip(UP[1::2], UP[2::2], strict=True)) | {option: "192.0.2.1:8883"}  # RFC 5737: nobody's
    message, _ = fails("--data", data, "up", *(word for pair in words.items() for word in pair))
    assert "192.0.2.1:8883" in message


def test_a_privileged_port(data):
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_free <= PRIVILEGED_PORT:
        pytest.skip("no port is privileged on this system")
    up = ("up", "--mqtts", f"127.0.0.1:{PRIVILEGED_PORT}", "--https", "off")
    message, mend = fails("--data", data, *up, without_privileges=True)
    assert f"127.0.0.1:{PRIVILEGED_PORT} needs privileges" in message
    assert "port above 1023" in mend


# --- the data folder ----------------------------------------------------------------------------------------------


def test_a_data_folder_of_a_newer_version(data):
    data.mkdir(mode=0o700)
    (data / "format").write_text("99\n")
    (data / "fleet").write_text("fleet-1\n")
    message, mend = fails("--data", data, *UP)
    assert "written by a newer sealmq (format 99, this one knows 1)" in message
    assert "newer sealmq" in mend
    assert left_behind(data) == ["fleet", "format"]


def test_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    mode = tmp_path.stat().st_mode
    message, _ = fails("--data", tmp_path, *UP)
    assert "is not a data folder" in message
    assert left_behind(tmp_path) == ["holiday.jpg"]
    assert tmp_path.stat().st_mode == mode


def test_a_file_where_the_folder_should_be(tmp_path):
    path = tmp_path / "data"
    path.write_text("x")
    message, _ = fails("--data", path, *UP)
    assert "in the way" in message


def test_a_folder_that_others_can_write(data):
    data.mkdir()
    data.chmod(0o777)
    message, mend = fails("--data", data, *UP)
    assert "can be written by others" in message
    assert f"chmod 700 {data}" in mend


def test_a_ca_key_that_others_can_read(data):
    with sealmq("--data", data, *UP) as running:
        running.expect("^ready mqtts://")
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    (data / "ca" / "devices.key").chmod(0o644)
    message, mend = fails("--data", data, *UP)
    assert "devices.key is open to others (mode 0644)" in message
    assert "chmod 600" in mend


def test_a_second_broker_on_one_folder(data):
    with sealmq("--data", data, *UP) as first:
        port = int(first.expect(r"^ready mqtts://127\.0\.0\.1:(\d+)")[1])
        message, mend = fails("--data", data, *UP)
        assert f"data folder {data} is in use by process {first.pid}" in message
        assert "--data" in mend
        assert run_sealmq("--data", data, "device", "add", "sensor-1").returncode == 0
        files = data / "devices" / "sensor-1"
        shown = type("Files", (), {"cert": files / "cert.pem", "key": files / "key.pem", "ca": files / "ca.pem"})
        Wire.join(port, shown, "sensor-1").close()  # the first one never noticed
        first.signal(signal.SIGTERM)
        assert first.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("size", ["4k", "32k", "64k"])
def test_a_full_disk_at_the_first_start(tmp_path, size):
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", mount]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        message, mend = fails("--data", mount / "data", *UP)
        assert "disk is full" in message
        assert "free some space" in mend
        subprocess.run(["mount", "-o", "remount,size=8m", mount], check=True)
        with sealmq("--data", mount / "data", *UP) as running:  # what was left behind is no obstacle
            running.expect("^ready mqtts://")
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
    finally:
        subprocess.run(["umount", mount], check=True)


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("up", "--mqtts", "8883"), 'listen.mqtts = "8883" (command line) has no port'),
        (("up", "--mqtts", "127.0.0.1:x"), "127.0.0.1:x"),
        (("up", "--port", "1"), "--port"),
        (("upp",), "command 'upp' does not exist"),
        (("up", "extra"), "extra"),
    ],
)
def test_words_that_make_no_sense(data, words, message):
    said, _ = fails("--data", data, *words)
    assert message in said
    assert not data.exists()
