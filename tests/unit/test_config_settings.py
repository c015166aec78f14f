"""Settings: defaults, file, environment, command line, and every way to get them wrong."""

from pathlib import Path

import pytest

from sealmq.config import reference, schema
from sealmq.config.explain import explain
from sealmq.config.settings import load
from sealmq.errors import ConfigError


def read(tmp_path, text, *, overrides=None, environ=None):
    (tmp_path / "sealmq.toml").write_text(text)
    return load(tmp_path / "sealmq.toml", overrides=overrides, environ=environ or {})


def refused(tmp_path, text, **more):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **more)
    return caught.value


def test_without_a_file_everything_is_default(tmp_path):
    settings = load(tmp_path / "sealmq.toml", environ={})
    assert settings.config.listen.mqtts == ["127.0.0.1:8883"]
    assert settings.config.listen.https == "127.0.0.1:8443"
    assert settings.config.listen.wss == ""
    assert settings.file is None
    assert settings.dangerous() == []
    assert {row.origin for row in explain(settings)} == {"default"}


def test_the_stronger_source_wins_and_is_remembered(tmp_path):
    text = '[listen]\nhttps = "127.0.0.1:1"\nwss = "127.0.0.1:2"\n\n[limits]\nmax_inflight = 7\n'
    settings = read(
        tmp_path,
        text,
        overrides={"listen.https": "off"},
        environ={"SEALMQ_LISTEN_HTTPS": "127.0.0.1:3", "SEALMQ_LISTEN_WSS": "127.0.0.1:4", "SEALMQ_DATA": "x"},
    )
    assert settings.config.listen.https == ""
    assert settings.config.listen.wss == "127.0.0.1:4"
    assert settings.config.limits.max_inflight == 7
    assert settings.origin("listen.https") == "command line"
    assert settings.origin("listen.wss") == "environment SEALMQ_LISTEN_WSS"
    assert settings.origin("limits.max_inflight") == f"{tmp_path}/sealmq.toml:6"
    assert settings.origin("listen.mqtts") == "default"


def test_lists_and_numbers_from_the_environment(tmp_path):
    environ = {"SEALMQ_LISTEN_MQTTS": "127.0.0.1:1, [::1]:2", "SEALMQ_LIMITS_MAX_INFLIGHT": "9"}
    settings = load(tmp_path / "none", environ=environ)
    assert settings.config.listen.mqtts == ["127.0.0.1:1", "[::1]:2"]
    assert settings.config.limits.max_inflight == 9


@pytest.mark.parametrize(
    ("text", "message", "mend"),
    [
        ("[listen]\nmqtt = []\n", "unknown setting 'mqtt' in [listen]", "did you mean mqtts?"),
        ("[lisen]\n", "unknown table [lisen]", "did you mean [listen]?"),
        ("[zzz]\n", "unknown table [zzz]", "the tables are [listen]"),
        ('https = "off"\n', "stands outside its table", "move it under [listen]"),
        ("[listen]\nmax_inflight = 1\n", "unknown setting 'max_inflight'", "belongs under [limits]"),
        ("listen = 3\n", "is a table", "write a line [listen]"),
        ('[limits]\nmax_inflight = "7"\n', 'limits.max_inflight = "7"', "a whole number of messages from 1 to 65535"),
        ("[limits]\nmax_inflight = 0\n", "limits.max_inflight = 0", "from 1 to 65535"),
        ("[limits]\nmax_inflight = true\n", "limits.max_inflight = true", "whole number"),
        ("[limits]\nmax_packet_size = 1.5\n", "limits.max_packet_size = 1.5", "bytes"),
        ('[log]\nformat = "xml"\n', 'log.format = "xml"', '"text" or "json"'),
        ('[listen]\nmqtts = "127.0.0.1:1"\n', "listen.mqtts", "a list of strings"),
        ('[listen]\nmqtts = ["nohost"]\n', 'listen.mqtts = "nohost"', "HOST:PORT"),
        ('[dangerous]\nanonymous = "yes"\n', "dangerous.anonymous", "true or false"),
        ("[listen]\nmqtts = []\n", "nobody could connect", "listen.mqtts"),
        ('[tls]\ncertificate = "a.pem"\n', "without tls.key", "set tls.key too"),
        ('[tls]\nkey = "a.pem"\n', "without tls.certificate", "set tls.certificate too"),
        ("[listen\n", "is not TOML", "[table]"),
        ("[listen]\nhttps = off\n", "is not TOML", "[table]"),
    ],
)
def test_a_mistake_names_key_file_and_mend(tmp_path, text, message, mend):
    error = refused(tmp_path, text)
    assert message in error.message
    assert mend in error.mend
    assert error.exit_status == 2
    assert "\n" not in error.message
    if "nobody" not in message:
        assert f"{tmp_path}/sealmq.toml" in error.message


def test_the_line_of_a_mistake_is_named(tmp_path):
    assert f"{tmp_path}/sealmq.toml:3" in refused(tmp_path, '[log]\nlevel = "info"\nformat = "xml"\n').message
    assert f"{tmp_path}/sealmq.toml:2" in refused(tmp_path, "[log]\nlevel = \n").message


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "sealmq.toml").write_bytes(b"[log]\n# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "sealmq.toml", environ={})


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(tmp_path, environ={})


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match=r"other\.toml does not exist"):
        load(tmp_path / "sealmq.toml", file=tmp_path / "other.toml", environ={})


@pytest.mark.parametrize("address", ["0.0.0.0:1883", "[::]:1883", "192.0.2.1:1883", "example.org:1883"])
def test_plaintext_serves_this_machine_only(tmp_path, address):
    error = refused(tmp_path, f'[dangerous]\nplaintext = "{address}"\nanonymous = true\n')
    assert "loopback" in error.message
    assert "127.0.0.1:1883" in error.mend


def test_plaintext_needs_anonymous(tmp_path):
    error = refused(tmp_path, '[dangerous]\nplaintext = "127.0.0.1:1883"\n')
    assert "can show no certificate" in error.message
    settings = read(tmp_path, '[dangerous]\nplaintext = "127.0.0.1:1883"\nanonymous = true\n')
    assert [(name, value) for name, value, _ in settings.dangerous()] == [
        ("plaintext", '"127.0.0.1:1883"'),
        ("anonymous", "true"),
    ]
    assert [row.setting for row in explain(settings) if row.danger] == ["dangerous.plaintext", "dangerous.anonymous"]


def test_the_environment_opens_no_dangerous_door(tmp_path):
    with pytest.raises(ConfigError, match="SEALMQ_DANGEROUS_ALLOW_ALL") as caught:
        load(tmp_path / "none", environ={"SEALMQ_DANGEROUS_ALLOW_ALL": "true"})
    assert "file only" in caught.value.mend


def test_a_mistyped_variable_is_not_passed_over(tmp_path):
    with pytest.raises(ConfigError, match="SEALMQ_LISTEN_HTTP names no setting") as caught:
        load(tmp_path / "none", environ={"SEALMQ_LISTEN_HTTP": "off"})
    assert "SEALMQ_LISTEN_HTTPS" in caught.value.mend


def test_paths_start_at_the_file_that_names_them(tmp_path):
    settings = read(tmp_path, '[tls]\nclient_ca = "ca/own.pem"\n')
    assert settings.path("tls.client_ca") == tmp_path / "ca" / "own.pem"
    assert settings.path("tls.certificate") is None
    given = load(tmp_path / "none", overrides={"rules.file": "r.toml"}, environ={})
    assert given.path("rules.file") == Path("r.toml")


def test_every_setting_says_what_it_means():
    for table, model in schema.tables().items():
        assert model.__doc__
        for key in model.model_fields:
            assert schema.meaning_of(table, key), f"{table}.{key}"
            assert schema.expected(table, key), f"{table}.{key}"
    for key in schema.Limits.model_fields:
        low, high = schema.bounds_of("limits", key)
        assert low <= getattr(schema.Limits(), key) <= high
        assert schema.unit_of("limits", key)


def test_the_reference_page_is_of_this_schema():
    page = Path(__file__).parents[2] / "docs" / "reference" / "config.md"
    assert page.read_text() == reference.page(), "run: python -m sealmq.config.reference > docs/reference/config.md"


def test_a_table_in_a_table_and_a_list_of_tables(tmp_path):
    text = '[tls.acme]\nnames = ["broker.example"]\n\n[[tls.also]]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    settings = read(tmp_path, text, environ={"SEALMQ_TLS_ACME_EMAIL": "ops@broker.example"})
    assert settings.config.tls.acme.names == ["broker.example"]
    assert settings.origin("tls.acme.names") == f"{tmp_path}/sealmq.toml:2"
    assert settings.origin("tls.acme.email") == "environment SEALMQ_TLS_ACME_EMAIL"
    assert settings.resolve("tls.also", settings.config.tls.also[0].key) == tmp_path / "k.pem"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tls.acme]\nnamess = ["a.example"]\n', "unknown setting 'namess' in [tls.acme]"),
        ('[tls.acme]\nnames = "a.example"\n', "tls.acme.names = "),
        ("[tls]\nacme = 3\n", "'tls.acme' in"),
        ('[[tls.also]]\ncertificate = "c.pem"\n', "tls.also = {certificate = "),
        ('[tls.acme]\nnames = ["a.example"]\nchallenge = "dns-01"\n', "without tls.acme.dns_hook"),
        ('[tls]\ncertificate = "c"\nkey = "k"\n[tls.acme]\nnames = ["a.example"]\n', "are both set"),
    ],
)
def test_wrong_tables_in_tables(tmp_path, text, message):
    assert message in refused(tmp_path, text).message
