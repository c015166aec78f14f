"""`sealmq up` as a program: ready lines, what a first start leaves on disk, signals, reload, the HTTPS door."""

from __future__ import annotations

import json
import signal
import socket
import stat
import sys

import paho.mqtt.client as mqtt
import pytest

from programs import PATIENCE, finished, run_sealmq
from sealmq.testing import EphemeralBroker
from sealmq.tls import client_context

SERVER_SHUTTING_DOWN = 0x8B


def curl(*args: object):
    return finished("curl", "--silent", "--show-error", "--max-time", PATIENCE, *args)


def modes(folder):
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if not path.is_socket()
    }


@pytest.fixture
def connected():
    """`connected(PORT, FILES, VERSION)` is a connected paho client, and the list of how its connection ended."""
    clients = []

    def connect(port, files, version):
        ended = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "sensor-1", protocol=version, reconnect_on_failure=False)
        client.tls_set_context(client_context(ca=files.ca, certificate=files.cert, key=files.key))
        client.on_disconnect = lambda _c, _u, _f, code, _p: ended.append(code.value)
        client.connect("localhost", port)
        while not client.is_connected():
            assert client.loop(PATIENCE) == mqtt.MQTT_ERR_SUCCESS
        clients.append(client)
        return client, ended

    yield connect
    for client in clients:
        client.disconnect()


def test_one_ready_line_for_each_listener_on_stdout(up):
    running = up("--mqtts", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--wss", "127.0.0.1:0", listeners=4)
    lines = running.out.splitlines()
    assert [line.partition("://")[0] for line in lines] == ["ready mqtts", "ready mqtts", "ready wss", "ready https"]
    assert lines[2].endswith("/mqtt")
    for line in lines:
        port = int(line.split("/")[2].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()


def test_a_plaintext_listener_is_named_dangerous_and_ready(up, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text('[dangerous]\nplaintext = "127.0.0.1:0"\nanonymous = true\n', encoding="utf-8")
    running = up("--config", config, listeners=3)
    assert set(running.ready) == {"mqtts", "mqtt", "https"}
    running.expect("DANGEROUS plaintext = ")
    running.expect("DANGEROUS anonymous = true")


def test_the_first_start_makes_what_it_needs_and_says_what_next(up):
    running = up()
    running.expect("sealmq.* pub mqtts://localhost:")
    found = modes(running.data)
    assert found["."] == 0o700
    for name, mode in found.items():
        is_folder = (running.data / name).is_dir()
        secret = name.endswith((".sqlite3", "lock")) or "key" in name
        if is_folder:
            assert mode == 0o700, name
        elif secret:
            assert mode == 0o600, name
        else:
            assert mode in (0o600, 0o644), name
    assert stat.S_IMODE((running.data / "control.sock").stat().st_mode) == 0o600
    for name in ("ca/root.pem", "ca/devices.pem", "ca/servers.pem", "server/cert.pem", "server/key.pem"):
        assert name in found
    assert f"A new CA was made in {running.data}" in running.err
    assert "device add sensor-1" in running.err
    assert "PRIVATE" not in running.out + running.err


def test_the_three_next_commands_work_as_printed(up, tmp_path):
    """They are typed into a shell, as they stand on the screen."""
    running = up()
    running.expect("sealmq.* pub mqtts://localhost:")
    add, sub, pub = [line.strip() for line in running.err.splitlines() if line.startswith("  ")]
    # `python -m sealmq` stands for the installed command here; any python on PATH may be another one
    ready = "until grep -q subscribed said; do :; done"
    script = f"{add} >/dev/null\n{sub} -C 1 2>said &\n{ready}\n{pub}\nwait $!\n"
    done = finished("bash", "-euc", script.replace("python -m", f"{sys.executable} -m"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "21.5\n"), done.stderr


def test_the_second_start_reuses_everything(up):
    first = up()
    files = first.device()
    kept = {path: path.read_bytes() for path in first.data.rglob("*.pem")}
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second = up()
    assert {path: path.read_bytes() for path in first.data.rglob("*.pem")} == kept
    assert "A new CA" not in second.err
    assert second.device().cert.read_bytes() == files.cert.read_bytes()
    done = second.sealmq("pub", second.url, "-t", "devices/sensor-1/x", "-m", "m", "-q", "1", "--as", "sensor-1")
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
def test_a_signal_tells_clients_and_ends_with_status_0(up, connected, number, version):
    running = up()
    client, ended = connected(running.ready["mqtts"], running.device(), version)
    running.signal(number)
    while client.loop(PATIENCE) == mqtt.MQTT_ERR_SUCCESS:
        pass
    if version == mqtt.MQTTv5:
        assert ended == [SERVER_SHUTTING_DOWN]
    assert running.wait() == 0
    assert "Traceback" not in running.err
    assert not (running.data / "control.sock").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.ready["mqtts"]), PATIENCE)


def test_sighup_takes_rules_anew(up):
    running = up()
    running.device()
    publish = ["pub", running.url, "-t", "plant/x", "-m", "m", "-q", "1", "--as", "sensor-1"]
    denied = running.sealmq(*publish)
    assert denied.returncode == 1
    assert "not authorized" in denied.stderr
    (running.data / "rules.toml").write_text(
        '[[rule]]\nname = "plant"\nwho = "*"\nactions = ["publish"]\ntopics = ["plant/#"]\n', encoding="utf-8"
    )
    running.signal(signal.SIGHUP)
    running.expect("settings, rules and certificates are taken anew")
    assert running.sealmq(*publish).returncode == 0


def test_sighup_with_a_mistake_keeps_what_was(up):
    running = up()
    running.device()
    (running.data / "sealmq.toml").write_text("[limits]\nmax_inflight = -1\n", encoding="utf-8")
    running.signal(signal.SIGHUP)
    running.expect("error .*max_inflight.*what was in force stays in force")
    running.expect("mend: ")
    done = running.sealmq("pub", running.url, "-t", "devices/sensor-1/x", "-m", "m", "-q", "1", "--as", "sensor-1")
    assert done.returncode == 0


def test_sighup_says_what_waits_for_the_next_start(up):
    running = up()
    (running.data / "sealmq.toml").write_text("[dangerous]\nallow_all = true\n", encoding="utf-8")
    running.signal(signal.SIGHUP)
    running.expect(r"change of \[dangerous\] waits for the next start")
    assert json.loads(running.sealmq("status", "--json").stdout)["dangerous"] == []


def test_the_https_door(up):
    running = up()
    ca, at = running.data / "ca" / "root.pem", f"https://localhost:{running.ready['https']}"
    assert curl("--cacert", ca, f"{at}/healthz").stdout == "ok\n"
    assert curl("--cacert", ca, f"{at}/ca.pem").stdout == ca.read_text(encoding="ascii")
    page = curl("--cacert", ca, "-i", at)
    assert page.stdout.startswith("HTTP/1.1 200 ")
    assert f"mqtts://127.0.0.1:{running.ready['mqtts']}" in page.stdout
    assert "x-content-type-options: nosniff" in page.stdout.lower()
    assert "\r\nserver:" not in page.stdout.lower()
    assert curl("--cacert", ca, "-o", "/dev/null", "-w", "%{http_code}", f"{at}/nothing").stdout == "404"
    assert curl("--cacert", ca, "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", f"{at}/").stdout == "405"


def test_metrics_count_what_happened(up):
    running = up()
    running.device()
    publish = ["pub", running.url, "-t", "devices/sensor-1/x", "-m", "m", "-q", "1", "--as", "sensor-1"]
    assert running.sealmq(*publish).returncode == 0
    at = f"https://localhost:{running.ready['https']}/metrics"
    text = curl("--cacert", running.data / "ca" / "root.pem", at).stdout
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    received = [value for name, value in figures.items() if "messages_received" in name and "created" not in name]
    assert [float(value) for value in received] == [1.0]


def test_https_needs_the_ca_and_tls_1_2(up):
    running = up()
    at = f"https://localhost:{running.ready['https']}/healthz"
    assert curl(at).returncode == 60  # curl: the peer's certificate cannot be verified
    ca = running.data / "ca" / "root.pem"
    old = curl("--cacert", ca, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", at)
    assert old.returncode == 35  # curl: the handshake failed


def test_https_can_be_turned_off(up):
    running = up("--https", "off", listeners=1)
    assert json.loads(running.sealmq("status", "--json").stdout)["listeners"] == [
        f"mqtts://127.0.0.1:{running.ready['mqtts']}"
    ]


def test_a_second_broker_on_the_folder_is_refused(up):
    running = up()
    done = running.sealmq("up", "--mqtts", "127.0.0.1:0", "--https", "off")
    assert done.returncode == 2
    assert str(running.pid) in done.stderr
    assert "mend: " in done.stderr


def test_a_port_in_use_is_named(tmp_path):
    with EphemeralBroker() as other:
        done = run_sealmq("--data", tmp_path / "data", "up", "--mqtts", f"127.0.0.1:{other.port}", "--https", "off")
    assert done.returncode == 2
    error, mend = done.stderr.splitlines()
    assert f"127.0.0.1:{other.port} is in use by another program" in error
    assert mend.startswith("mend: ")
    assert done.stdout == ""


def test_log_as_json(up, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text('[log]\nformat = "json"\n', encoding="utf-8")
    running = up("--config", config)
    files = running.device()
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key]
    stock = ["mosquitto_pub", "-h", "localhost", "-p", running.ready["mqtts"], *who]
    assert finished(*stock, "-t", "devices/sensor-1/x", "-m", "m", "-q", "1", "-i", "sensor-1").returncode == 0
    running.expect('"event": "disconnected"')
    records = [json.loads(line) for line in running.err.splitlines()]
    assert {"connected", "disconnected"} <= {record["event"] for record in records}
    connected = next(record for record in records if record["event"] == "connected")
    assert connected["device"] == "sensor-1"
    assert connected["tls"]["version"] == "TLS 1.3"
