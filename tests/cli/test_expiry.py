"""`sealmq expiry`: what is listed and how it ends. Knows nothing of who is told while a broker runs."""

import json
import re
import ssl
import urllib.request
from datetime import timedelta

import pytest

from programs import finished
from sealmq.cli.app import run
from sealmq.pki.signing import utc_now
from sealmq.testing import ThrowawayCA


@pytest.fixture
def sealmq(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = run([*map(str, args)])
        return (status, *capsys.readouterr())

    return call


def test_all_by_time_left(sealmq):
    sealmq("device", "add", "sensor-1")
    sealmq("device", "add", "sensor-2", "--profile", "short")
    status, out, err = sealmq("expiry")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["LEFT", "KIND", "NAME", "UNTIL"]
    assert [line.split()[2] for line in lines[1:]][:3] == ["device", "device", "ca"]
    assert "sensor-2" in lines[1]
    assert "Root 1" in lines[-1]
    assert "\x1b" not in out


def test_within_a_time_ends_with_status_1_when_there_is_something(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1")
    old = ThrowawayCA(now=utc_now() - timedelta(days=25)).issue_server("localhost").write(tmp_path / "server")
    (tmp_path / "own.toml").write_text(f'[tls]\ncertificate = "{old.cert}"\nkey = "{old.key}"\n')
    assert sealmq("expiry", "--config", "own.toml", "--within", "4d")[0] == 0
    status, out, err = sealmq("expiry", "--config", "own.toml", "--within", "7d", "--json")
    assert status == 1
    (found,) = json.loads(out)["certificates"]
    assert (found["kind"], found["name"], found["file"]) == ("server", "fleet-test broker", str(old.cert))
    assert 4 * 86_400 < found["seconds_left"] <= 5 * 86_400
    assert found["lasts"] >= 30 * 86_400
    assert re.match(r"error: 1 of \d end within 7d, first server fleet-test broker\nmend: ", err)


def test_what_is_renewed_within_that_time_is_no_matter_for_a_timer(up):
    """A fresh broker has a revocation list for a day, and a device of the profile `short` lasts as long."""
    broker = up()
    broker.sealmq("device", "add", "sensor-1", "--profile", "short")
    done = broker.sealmq("expiry", "--within", "7d")
    assert (done.returncode, done.stdout) == (0, "nothing ends within 7d that should have been renewed by now\n")


def test_files_of_the_configuration_are_listed_and_missing_ones_are_told_of(sealmq, tmp_path):
    sealmq("device", "add", "sensor-1")
    (tmp_path / "own.toml").write_text('[tls]\nclient_ca = "their.pem"\n')
    status, _, err = sealmq("expiry", "--config", "own.toml")
    assert status == 0
    assert "their.pem cannot be read" in err
    (tmp_path / "their.pem").write_bytes((tmp_path / "sealmq-data" / "ca" / "root.pem").read_bytes())
    assert "client-ca" in sealmq("expiry", "--config", "own.toml")[1]


@pytest.mark.parametrize("text", ["7", "a week", "-1d", "0d"])
def test_a_time_that_is_none(sealmq, text):
    sealmq("device", "add", "sensor-1")
    status, out, err = sealmq("expiry", f"--within={text}")
    assert (status, out) == (2, "")
    assert "--within" in err


def test_without_a_data_folder(sealmq, tmp_path):
    status, _, err = sealmq("expiry")
    assert status == 2
    assert "does not exist" in err
    assert not (tmp_path / "sealmq-data").exists()


def test_a_running_broker_answers_and_has_the_figures(up, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sealmq.toml").write_text('[expiry]\nthresholds = ["365d"]\n')
    broker = up()
    broker.device("sensor-1")
    found = json.loads(broker.sealmq("expiry", "--json").stdout)["certificates"]
    assert {one["kind"] for one in found} == {"ca", "server", "chain", "crl", "device"}
    broker.sealmq("ca", "export", "--out", tmp_path / "ca.pem")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    address = f"https://127.0.0.1:{broker.ready['https']}/metrics"
    text = urllib.request.urlopen(address, context=context, timeout=10).read().decode()
    assert 'sealmq_certificate_not_after_seconds{kind="server"' in text
    assert 'sealmq_device_certificates{left="more"}' in text


def test_what_is_short_of_time_is_a_retained_message_for_who_may_read_it(up, tmp_path):
    made = ThrowawayCA(now=utc_now() - timedelta(days=25))
    files = made.issue_server("localhost", "127.0.0.1").write(tmp_path / "server")  # 5 of 30 days are left
    (tmp_path / "root.pem").write_bytes(made.root_pem)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sealmq.toml").write_text(f'[tls]\ncertificate = "{files.cert}"\nkey = "{files.key}"\n')
    (tmp_path / "data" / "rules.toml").write_text(
        '[[rule]]\nname = "monitor"\nwho = "monitor"\nactions = ["subscribe"]\ntopics = ["$sealmq/expiry/#"]\n'
    )
    broker = up()
    broker.expect("expiry: certificate of the broker fleet-test broker ends in")
    device = broker.device("monitor")
    options = ["-h", "localhost", "-p", broker.ready["mqtts"], "--cafile", tmp_path / "root.pem", "-i", "monitor"]
    who = ["--cert", device.cert, "--key", device.key, "-W", "10"]
    done = finished("mosquitto_sub", *options, *who, "-t", "$sealmq/expiry/server/#", "-C", "1", "-F", "%r %t %p")
    retained, topic, payload = done.stdout.split(" ", 2)
    assert (retained, topic) == ("1", "$sealmq/expiry/server/fleet-test-broker")
    assert json.loads(payload)["state"] == "7d"
