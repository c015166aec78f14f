"""One broker's surroundings, with a stand-in for the data plane: lock, certificates, control, HTTPS, reload, stop."""

import http.client
import io
import json
import ssl
import urllib.request
from datetime import timedelta

import fake_engine
import pytest

from sealmq.broker import control
from sealmq.broker.service import Service
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError, Environment, NotSo
from sealmq.pki.signing import utc_now

QUIET = {"listen.https": "off"}


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    return fake_engine.install(monkeypatch)


def service(tmp_path, *, overrides=None, **more):
    data = tmp_path / "data"
    overrides = QUIET if overrides is None else overrides
    return Service(
        data, lambda: load(data / "sealmq.toml", overrides=overrides, environ={}), log_to=io.StringIO(), **more
    )


def node():
    return fake_engine.Node.started[-1]


def test_the_node_is_started_with_settings_rules_and_certificates(tmp_path):
    with service(tmp_path) as running:
        config = node().config
        assert config["listeners"] == [{"kind": "mqtts", "address": "127.0.0.1:8883"}]
        assert config["fleet"] == running.folder.fleet
        assert [rule["filter"] for rule in config["rules"]] == ["devices/{id}/#", "shared/#", "$ca/bundle"]
        assert config["tls"]["certificate_chain_pem"].count("BEGIN CERTIFICATE") == 2
        assert "PRIVATE KEY" in config["tls"]["private_key_pem"]
        assert config["limits"]["max_packet_size"] == 1048576
        assert config["dangerous"] == {"anonymous": False, "any_client_id": False, "allow_all": False}
        assert running.first_start
        assert running.urls() == ["mqtts://127.0.0.1:8883"]
    assert node().stopped is not None
    with service(tmp_path) as again:
        assert not again.first_start


def test_listeners_in_the_order_of_the_ready_lines(tmp_path):
    data = tmp_path / "data"
    DataFolder.create_or_open(data)
    (data / "sealmq.toml").write_text('[dangerous]\nplaintext = "127.0.0.1:0"\nanonymous = true\n')
    overrides = {"listen.mqtts": ["127.0.0.1:0", "[::1]:0"], "listen.wss": "127.0.0.1:0", "listen.https": "127.0.0.1:0"}
    with service(tmp_path, overrides=overrides) as running:
        *mqtt, https = running.urls()
        assert mqtt == [
            "mqtts://127.0.0.1:40000",
            "mqtts://[::1]:40001",
            "wss://127.0.0.1:40002/mqtt",
            "mqtt://127.0.0.1:40003",
        ]
        assert https.startswith("https://127.0.0.1:")
        assert "DANGEROUS plaintext" in running._log_to.getvalue()
        assert "DANGEROUS anonymous = true" in running._log_to.getvalue()


def test_two_brokers_on_one_folder(tmp_path):
    with service(tmp_path), pytest.raises(Environment) as caught, service(tmp_path):
        pass
    assert caught.value.code == "data-folder-locked"


def test_a_mistake_in_the_settings_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError), service(tmp_path, overrides={"listen.https": "nonsense"}):
        pass
    assert not (tmp_path / "data").exists()


def test_a_node_that_cannot_start_frees_the_folder(tmp_path):
    fake_engine.Node.fail = ("address-in-use", "address 127.0.0.1:8883 is in use", "")
    with pytest.raises(Environment) as caught, service(tmp_path):
        pass
    assert caught.value.code == "address-in-use"
    assert caught.value.mend
    fake_engine.Node.fail = None
    with service(tmp_path):
        pass


def test_an_https_port_in_use_is_an_error_and_stops_the_node(tmp_path):
    with service(tmp_path, overrides={"listen.https": "127.0.0.1:0"}) as first:
        taken = first.urls()[-1].removeprefix("https://")
        other = Service(
            tmp_path / "other",
            lambda: load(tmp_path / "none", overrides={"listen.https": taken}, environ={}),
            log_to=io.StringIO(),
        )
        with pytest.raises(Environment, match="in use") as caught, other:
            pass
        assert caught.value.code == "address-in-use"
        assert node().stopped is not None


def test_status_and_operations_through_the_control_socket(tmp_path):
    with service(tmp_path) as running:
        node().events.put(json.dumps({"event": "refused", "at": 1, "peer": "p", "cause": "c", "stage": "tcp"}))
        made = control.call(running.folder, "device-add", {"id": "sensor-1"})
        assert made["id"] == "sensor-1"
        with pytest.raises(NotSo):
            control.call(running.folder, "device-add", {"id": "sensor-1"})
        status = control.call(running.folder, "status")
        assert status["listeners"] == ["mqtts://127.0.0.1:8883"]
        assert {"connections": 3, "messages_received": 17}.items() <= status["counts"].items()
        assert control.call(running.folder, "sessions")["sessions"][0]["client_id"] == "a"
    with pytest.raises(NotSo, match="no broker runs"):
        control.call(running.folder, "status")


def test_events_reach_sinks_log_and_refusals_before_stop_returns(tmp_path):
    seen = []
    with service(tmp_path, sinks=[lambda facts: seen.extend(facts.whole())]) as running:
        event = {
            "event": "refused",
            "at": 1,
            "peer": "p",
            "cause": "no-certificate",
            "stage": "certificate",
            "summary": "s",
        }
        node().events.put(json.dumps(event))
    assert seen == [event]
    assert running.refusals.by_cause() == {"no-certificate": 1}
    assert "[no-certificate]" in running._log_to.getvalue()


def test_reload_takes_rules_and_limits_and_says_what_waits(tmp_path):
    with service(tmp_path) as running:
        running.folder.rules_path.write_text('[[rule]]\nname = "r"\nactions = ["publish"]\ntopics = ["a"]\n')
        running.folder.config_path.write_text(
            '[limits]\nmax_inflight = 5\n[listen]\nwss = "127.0.0.1:0"\n[dangerous]\nallow_all = true\n'
        )
        running.reload()
        config = node().reloaded[-1]
        assert [rule["name"] for rule in config["rules"]] == ["r", "CA bundle"]
        assert config["limits"]["max_inflight"] == 5
        assert config["listeners"] == node().config["listeners"]
        assert config["dangerous"]["allow_all"] is False
        assert running.settings.config.limits.max_inflight == 5
        assert running.settings.dangerous() == []
        assert "change of [listen], [dangerous] waits for the next start" in running._log_to.getvalue()


@pytest.mark.parametrize("break_it", ["config", "rules", "engine"])
def test_a_reload_that_fails_changes_nothing(tmp_path, break_it):
    with service(tmp_path) as running:
        before = running.settings
        if break_it == "config":
            running.folder.config_path.write_text("[limits]\nmax_inflight = -1\n")
        elif break_it == "rules":
            running.folder.rules_path.write_text("[[rule]]\n")
        else:
            fake_engine.Node.fail = ("rule-invalid", "rule r is wrong", "")
        with pytest.raises(ConfigError):
            running.reload()
        assert running.settings is before
        assert node().reloaded == []


@pytest.mark.parametrize("text", ["[[rule]]\n", '[[rule]]\nname = "r"\nactions = ["publish"]\ntopics = ["a"]\n'])
def test_an_edit_of_the_rules_waits_for_the_reload_whatever_else_changes(tmp_path, text):
    with service(tmp_path) as running:
        rules = node().config["rules"]
        running.folder.rules_path.write_text(text)
        running.folder.config_path.write_text("[limits]\nmax_inflight = 5\n")
        control.call(running.folder, "device-add", {"id": "sensor-1", "groups": ["hall"]})
        assert node().reloaded[-1]["groups"] == {"sensor-1": ["hall"]}
        control.call(running.folder, "device-retire", {"id": "sensor-1"})
        control.call(running.folder, "device-add", {"id": "sensor-1", "reuse_retired": True})
        assert node().reloaded[-1]["revoked"]["devices"] == []
        control.call(running.folder, "user-add", {"name": "anna", "hash": "$argon2id$"})
        assert [user["name"] for user in node().reloaded[-1]["users"]] == ["anna"]
        (running.folder.server_dir / "cert.pem").unlink()
        running._upkeep.at_once()
        assert node().reloaded[-1]["tls"] != node().config["tls"]
        assert [config["rules"] for config in node().reloaded] == [rules] * 4
        assert {config["limits"]["max_inflight"] for config in node().reloaded} == {
            node().config["limits"]["max_inflight"]
        }


def test_a_certificate_of_ones_own(tmp_path):
    with service(tmp_path) as first:
        own = first.folder.server_dir
    named = {**QUIET, "tls.certificate": str(own / "cert.pem"), "tls.key": str(own / "key.pem")}
    data = tmp_path / "second"
    with Service(data, lambda: load(data / "none", overrides=named, environ={}), log_to=io.StringIO()) as running:
        assert node().config["tls"]["certificate_chain_pem"] == (own / "cert.pem").read_text()
        assert not running.folder.server_dir.exists()


def test_a_certificate_file_that_is_not_there(tmp_path):
    named = {**QUIET, "tls.certificate": str(tmp_path / "no.pem"), "tls.key": str(tmp_path / "no.key")}
    with (
        pytest.raises(ConfigError, match=r"tls\.certificate = .*no\.pem cannot be read"),
        service(tmp_path, overrides=named),
    ):
        pass


def test_the_server_certificate_is_renewed_and_nothing_is_said_while_that_is_not_due(tmp_path):
    with service(tmp_path) as running:
        running._upkeep.tick(utc_now())
        assert node().reloaded == []
        (running.folder.server_dir / "cert.pem").unlink()
        running._upkeep.tick(utc_now() + timedelta(minutes=59))
        assert node().reloaded == []
        running._upkeep.tick(utc_now() + timedelta(minutes=61))
        assert len(node().reloaded) == 1
        assert "renewed" in running._log_to.getvalue()


def test_https_pages(tmp_path):
    with service(tmp_path, overrides={"listen.https": "127.0.0.1:0"}) as running:
        context = ssl.create_default_context(cafile=running.folder.ca_dir / "root.pem")
        url = running.urls()[-1]

        def page(path):
            with urllib.request.urlopen(url + path, context=context, timeout=5) as answer:  # noqa: S310
                return answer.headers, answer.read().decode()

        assert page("/healthz")[1] == "ok\n"
        assert page("/ca.pem")[1] == (running.folder.ca_dir / "root.pem").read_text()
        figures = page("/metrics")[1]
        assert "sealmq_connections 3.0" in figures
        assert "sealmq_messages_received_total 17.0" in figures
        headers, index = page("/")
        assert "mqtts://127.0.0.1:8883" in index
        assert running.folder.fleet in index
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in headers


def test_https_keeps_the_policy_of_the_broker(tmp_path):
    with service(tmp_path, overrides={"listen.https": "127.0.0.1:0"}) as running:
        host, port = running.urls()[-1].removeprefix("https://").split(":")
        old = ssl.create_default_context(cafile=running.folder.ca_dir / "root.pem")
        with pytest.warns(DeprecationWarning, match="is deprecated"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        connection = http.client.HTTPSConnection(host, int(port), context=old, timeout=5)
        with pytest.raises(ssl.SSLError):
            connection.request("GET", "/healthz")
        connection.close()
