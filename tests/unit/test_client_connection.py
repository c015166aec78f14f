"""The client's face: URLs, files, reason codes, and what goes to the data plane."""

import fake_engine
import pytest

from sealmq.client.connection import Connection, Identity, Message, Properties
from sealmq.client.target import Target
from sealmq.errors import ConfigError, Environment, NotSo, PeerFault, UsageError


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    return fake_engine.install(monkeypatch)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("mqtts://localhost", Target("mqtts", "localhost", 8883)),
        ("mqtts://[::1]:1234/", Target("mqtts", "::1", 1234)),
        ("wss://broker.example", Target("wss", "broker.example", 8084, "/mqtt")),
        ("wss://broker.example:443/ws", Target("wss", "broker.example", 443, "/ws")),
        ("mqtt://127.0.0.1", Target("mqtt", "127.0.0.1", 1883)),
    ],
)
def test_urls(url, target):
    assert Target.parse(url) == target
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8883",
        "http://localhost",
        "mqtts://",
        "mqtts://host:x",
        "mqtts://host:70000",
        "mqtts://[::1",
        "mqtts://host/topic",
        "mqtts://host?x=1",
        "",
    ],
)
def test_broken_urls(url):
    with pytest.raises(UsageError) as caught:
        Target.parse(url)
    assert caught.value.mend


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as caught:
        Target.parse("mqtts://me:hunter2@host")
    assert "hunter2" not in str(caught.value) + caught.value.mend


def test_a_key_is_not_printed():
    assert "secret" not in repr(Identity(b"ca", b"cert", b"secret"))


def test_half_an_identity(tmp_path):
    with pytest.raises(UsageError):
        Identity.read(ca=None, certificate=tmp_path / "c.pem")
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        Identity.read(ca=tmp_path / "none.pem")


def opened(**more):
    return Connection.open(Target.parse("mqtts://h:1"), Identity(b"CA", b"CERT", b"KEY"), **more)


def test_publish_and_close():
    with opened(client_id="a", version="3.1.1") as connection:
        connection.publish("t", b"x", qos=1, properties=Properties(expiry=5, user=(("k", "v"),)))
        connection.publish("t", b"y")
    client = fake_engine.Client.made[0]
    assert client.config["trust"]["ca_pem"] == "CA"
    assert (client.config["client_id"], client.config["version"]) == ("a", "3.1.1")
    assert client.published == [
        ("t", b"x", 1, False, {"message_expiry": 5, "user": [["k", "v"]]}),
        ("t", b"y", 0, False, {}),
    ]
    assert client.closed


def test_a_refusal_names_the_reason_code():
    fake_engine.Client.codes = b"\x87"
    with opened() as connection:
        with pytest.raises(NotSo, match=r"publish to t was refused: not authorized \(reason code 0x87\)") as caught:
            connection.publish("t", b"", qos=1)
        assert "rules.toml" in caught.value.mend
        with pytest.raises(NotSo, match="subscribe to f was refused"):
            connection.subscribe(["f"])


def test_messages_end_with_their_time():
    fake_engine.Client.messages = [("t", b"1", 0, False, ""), ("t", b"2", 1, True, '{"content_type": "x"}')]
    with opened() as connection:
        assert list(connection.messages(timeout=0)) == [
            Message("t", b"1", 0, False),
            Message("t", b"2", 1, True, {"content_type": "x"}),
        ]
        assert connection.next_message(timeout=0) is None


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("connection-refused", NotSo, 1),
        ("tls-server-untrusted", NotSo, 1),
        ("timeout", NotSo, 1),
        ("connack", NotSo, 1),
        ("dns", Environment, 2),
        ("peer-fault", PeerFault, 1),
        ("key-mismatch", ConfigError, 2),
    ],
)
def test_what_the_data_plane_says_keeps_code_and_words(code, kind, status):
    fake_engine.Client.fail = (code, "words of the engine", "mend of the engine")
    with pytest.raises(kind) as caught:
        opened()
    assert (caught.value.code, caught.value.message, caught.value.mend) == (
        code,
        "words of the engine",
        "mend of the engine",
    )
    assert caught.value.exit_status == status
