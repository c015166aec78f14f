"""`--tls-version` and its like in programs: one version alone is offered, against our broker and OpenSSL's server."""

from __future__ import annotations

import pytest

from programs import Program, run_sealmq
from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.errors import SealmqError, UsageError
from sealmq.testing import EphemeralBroker, ThrowawayCA
from sealmq.tls import client_context
from sealmq.tls.presharedkey import Psk


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker(wss=True, psk=True) as running:
        running.device("sensor-1")
        yield running


def of(broker):
    files = broker.device("sensor-1")
    return Identity.read(ca=files.ca, certificate=files.cert, key=files.key)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", ["mqtts", "wss", "psk"])
def test_what_is_asked_for_is_spoken(broker, kind, version):
    port = broker.port_of(kind)
    if kind == "psk":
        url, identity = f"mqtts+psk://localhost:{port}", Psk.parse(broker.device_psk("small-1"))
    else:
        url, identity = f"{kind}://localhost:{port}{'/mqtt' if kind == 'wss' else ''}", of(broker)
    device = identity.device
    with Connection.open(Target.parse(url), identity, client_id=device, tls_version=version) as connection:
        assert connection.connack()["tls"]["version"] == f"TLS {version}"


@pytest.mark.parametrize("option", ["tlsv1.2", "tlsv1.3"])
def test_pub_and_sub_spell_it_as_mosquitto_does(broker, option):
    whole = ("--data", broker.folder.path)
    who = (broker.url, "--as", "sensor-1", "--tls-version", option)
    assert run_sealmq(*whole, "sub", *who, "-t", "devices/sensor-1/#", "-E", "--quiet").returncode == 0
    assert run_sealmq(*whole, "pub", *who, "-t", "devices/sensor-1/t", "-m", "x", "-q", "1").returncode == 0
    versions = [event["tls"]["version"] for event in broker.events() if event["event"] == "connected"][-2:]
    assert versions == [f"TLS {option.removeprefix('tlsv')}"] * 2


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("tlsv1.1", "is not offered: it is broken, and nobody may offer it (RFC 8996)"),
        ("tlsv1", "is not offered: it is broken, and nobody may offer it (RFC 8996)"),
        ("1.3", "is not known"),
        ("", "is not known"),
    ],
)
def test_every_other_value_is_a_usage_error(broker, option, reason):
    done = run_sealmq("pub", broker.url, "-t", "t", "-m", "x", "--cafile", "none.pem", "--tls-version", option)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: TLS version {option!r} {reason}",
        "mend: --tls-version takes tlsv1.2 or tlsv1.3; left out, it is the best that both sides have",
    ]


def test_a_version_where_there_is_no_tls_is_a_usage_error():
    with pytest.raises(UsageError, match="has no TLS"):
        Connection.open(Target.parse("mqtt://localhost"), Identity(), tls_version="1.3")


@pytest.mark.parametrize(("asked", "spoken"), [("1.3", "-tls1_2"), ("1.2", "-tls1_3")])
@pytest.mark.parametrize("kind", ["mqtts", "mqtts+psk"])
def test_who_insists_on_what_the_other_side_does_not_have_is_told_so(tmp_path, kind, asked, spoken):
    ca, key = ThrowawayCA(), Psk("small-1", bytes(range(32)))
    pair = ca.issue_server().write(tmp_path / "server")
    proof = ("-cert", pair.cert, "-key", pair.key) if kind == "mqtts" else ("-nocert", "-psk", key.key.hex())
    identity = Identity(ca.root_pem) if kind == "mqtts" else key
    with Program("openssl", "s_server", "-accept", "127.0.0.1:0", spoken, *proof) as server:
        port = server.expect(r"ACCEPT.*:(\d+)").group(1)
        with pytest.raises(SealmqError) as caught:
            Connection.open(Target.parse(f"{kind}://localhost:{port}"), identity, tls_version=asked)
    assert (caught.value.code, caught.value.exit_status) == ("tls-version", 1)
    assert "leave --tls-version out" in caught.value.mend


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_context_of_one_version(broker, version):
    context = client_context(ca=broker.device("sensor-1").ca, tls_version=version)
    assert context.minimum_version == context.maximum_version == {"1.2": 0x0303, "1.3": 0x0304}[version]
