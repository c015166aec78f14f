"""`sealmq pub` against a running broker: what each option sends, exit statuses, and what a mistake is answered with."""

from __future__ import annotations

import json
import re
import sys

import pytest

from programs import Program, finished, run_sealmq
from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker(wss=True) as running:
        running.device("sensor-1")
        yield running


@pytest.fixture
def listener(broker):
    """A connection of sensor-1 that is subscribed to all its topics."""
    files = broker.device("sensor-1")
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    with Connection.open(Target.parse(broker.url), identity, client_id="sensor-1:listener") as connection:
        connection.subscribe(["devices/sensor-1/#"], qos=2)
        yield connection


def pub(broker, *args, url=None, **more):
    return run_sealmq("--data", broker.folder.path, "pub", url or broker.url, *args, **more)


def quiet(done):
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("version", ["5", "311"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_at_its_qos(broker, listener, qos, version):
    quiet(pub(broker, "-t", "devices/sensor-1/t", "-m", "21,5 °C", "-q", qos, "-V", version, "--as", "sensor-1"))
    message = listener.next_message(timeout=10)
    assert (message.topic, message.payload.decode(), message.qos) == ("devices/sensor-1/t", "21,5 °C", qos)


def test_a_file_is_sent_as_it_is(broker, listener, tmp_path):
    file = tmp_path / "payload"
    file.write_bytes(bytes(range(256)) * 1000)
    quiet(pub(broker, "-t", "devices/sensor-1/f", "-f", file, "-q", "1", "--as", "sensor-1"))
    assert listener.next_message(timeout=10).payload == file.read_bytes()


def test_a_retained_message_and_its_removal(broker, listener):
    quiet(pub(broker, "-t", "devices/sensor-1/r", "-m", "kept", "-r", "-q", "1", "--as", "sensor-1"))
    assert listener.next_message(timeout=10).payload == b"kept"
    listener.subscribe(["devices/sensor-1/r"])
    assert listener.next_message(timeout=10).retain
    quiet(pub(broker, "-t", "devices/sensor-1/r", "-n", "-r", "-q", "1", "--as", "sensor-1"))
    assert listener.next_message(timeout=10).payload == b""
    listener.subscribe(["devices/sensor-1/r"])
    listener.publish("devices/sensor-1/fence", b"", qos=1)
    assert listener.next_message(timeout=10).topic == "devices/sensor-1/fence"


def test_one_message_for_each_line(broker, listener):
    quiet(pub(broker, "-t", "devices/sensor-1/l", "-l", "-q", "1", "--as", "sensor-1", stdin="one\ntwo\r\n\nlast"))
    got = [listener.next_message(timeout=10).payload for _ in range(4)]
    assert got == [b"one", b"two", b"", b"last"]


def test_lines_are_sent_when_they_come(broker, listener):
    command = [sys.executable, "-m", "sealmq", "--data", broker.folder.path, "pub", broker.url]
    with Program(*command, "-t", "devices/sensor-1/l", "-l", "--as", "sensor-1") as running:
        for line in ("first", "second"):
            running.send(f"{line}\n")
            assert listener.next_message(timeout=10).payload.decode() == line
        running.close_input()
        assert running.wait() == 0


def test_properties(broker, listener):
    options = ["--content-type", "text/plain", "--response-topic", "devices/sensor-1/answer", "--expiry", "60"]
    options += ["--user-property", "site=north", "--user-property", "note=a=b"]
    quiet(pub(broker, "-t", "devices/sensor-1/p", "-m", "m", *options, "--as", "sensor-1"))
    found = listener.next_message(timeout=10).properties
    assert found["content_type"] == "text/plain"
    assert found["response_topic"] == "devices/sensor-1/answer"
    assert 55 <= found["message_expiry"] <= 60
    assert found["user"] == [["site", "north"], ["note", "a=b"]]


def test_json_says_what_the_broker_answered(broker):
    done = pub(broker, "-t", "devices/sensor-1/nobody", "-m", "m", "-q", "1", "--as", "sensor-1", "--json")
    record = json.loads(done.stdout)
    assert record["topic"] == "devices/sensor-1/nobody"
    assert record["qos"] == 1
    assert record["reason"] in ("success", "no matching subscribers")


def test_three_files_in_place_of_a_data_folder(broker, listener, tmp_path):
    files = broker.device("sensor-1")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key]
    quiet(run_sealmq("pub", broker.url, "-t", "devices/sensor-1/t", "-m", "m", "-q", "1", *who, cwd=tmp_path))
    assert listener.next_message(timeout=10).payload == b"m"
    assert broker.wait_event("connected", device="sensor-1")["client_id"].startswith("sensor-1:")
    assert list(tmp_path.iterdir()) == []


def refused(done, *, status, error, mend):
    assert done.returncode == status
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert error in lines[0]
    assert lines[1].startswith("mend: ")
    assert mend in lines[1]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_denied_topic(broker, qos):
    done = pub(broker, "-t", "devices/other/t", "-m", "m", "-q", qos, "--as", "sensor-1")
    refused(done, status=1, error="publish to devices/other/t was refused: not authorized", mend="rules.toml")


def test_another_devices_client_id(broker):
    done = pub(broker, "-t", "devices/sensor-1/t", "-m", "m", "-i", "other", "--as", "sensor-1")
    refused(done, status=1, error="client identifier other does not belong to device sensor-1", mend="sealmq status")


def test_a_topic_with_a_wildcard(broker):
    done = pub(broker, "-t", "devices/sensor-1/#", "-m", "m", "-q", "1", "--as", "sensor-1")
    assert done.returncode in (1, 2)
    assert "wildcard" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_message_larger_than_the_broker_takes(broker, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"x" * (1024 * 1024 + 1))
    done = pub(broker, "-t", "devices/sensor-1/t", "-f", file, "--as", "sensor-1")
    refused(done, status=1, error="larger than the 1048576 that the server takes", mend="limits.max_packet_size")


def test_a_device_that_does_not_exist(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--as", "sensor-9")
    refused(done, status=1, error="device sensor-9 has no files", mend="sealmq device add sensor-9")


def test_a_port_where_nothing_listens(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--as", "sensor-1", url="mqtts://127.0.0.1:1")
    refused(done, status=1, error="nothing listens on 127.0.0.1:1", mend="start the broker (`sealmq up`)")


def test_a_host_that_does_not_exist(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--as", "sensor-1", url="mqtts://no-such-host.invalid")
    refused(done, status=2, error="no-such-host.invalid has no address", mend="check the host name")


def test_a_port_that_speaks_something_else(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--as", "sensor-1", url=f"mqtts://localhost:{broker.port_of('wss')}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "mend: " in done.stderr


def test_plaintext_is_refused(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--as", "sensor-1", url="mqtt://localhost:1883")
    refused(done, status=2, error="has no TLS: whoever can listen", mend="use mqtts://")


def test_plaintext_where_the_configuration_allows_it():
    with EphemeralBroker(dangerous={"plaintext": "127.0.0.1:0", "anonymous": True, "allow_all": True}) as broker:
        config = broker.folder.path / "sealmq.toml"
        config.write_text('[dangerous]\nplaintext = "127.0.0.1:0"\nanonymous = true\n', encoding="utf-8")
        url = f"mqtt://127.0.0.1:{broker.port_of('plaintext')}"
        quiet(pub(broker, "-t", "t", "-m", "m", "-q", "1", url=url))
        assert broker.wait_event("connected")["client_id"].startswith("anonymous:pub-")


def test_a_ca_that_did_not_issue_the_brokers_certificate(broker, tmp_path):
    files = broker.device("sensor-1")
    other = tmp_path / "other.pem"
    other.write_bytes(ThrowawayCA(fleet="elsewhere").root_pem)
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", other, "--cert", files.cert, "--key", files.key)
    refused(
        done, status=1, error="server certificate was not issued by the CA that was given", mend="`sealmq ca export`"
    )
    assert broker.wait_event("refused", cause="client-distrusts-broker")


_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.WRONG_NAME, "server certificate is not for localhost"),
        (Fault.EXPIRED, f"server certificate has expired: it was valid until {_DATE}, the clock here says {_DATE}\n"),
        (
            Fault.NOT_YET_VALID,
            f"server certificate is not valid yet: it is valid from {_DATE}, the clock here says {_DATE}\n",
        ),
    ],
)
def test_a_server_whose_certificate_is_not_right(tmp_path, fault, error):
    """A stand-in server, for the broker does not start with such a certificate."""
    ca = ThrowawayCA()
    server = ca.issue_server(fault=fault).write(tmp_path / "server")
    client = ca.issue_client("sensor-1").write(tmp_path / "client")
    words = ["-cert", server.cert, "-cert_chain", server.cert, "-key", server.key, "-CAfile", server.ca, "-Verify", "2"]
    with Program("openssl", "s_server", "-accept", "127.0.0.1:0", *words) as running:
        port = running.expect(r"^ACCEPT 127\.0\.0\.1:(\d+)").group(1)
        who = ["--cafile", client.ca, "--cert", client.cert, "--key", client.key]
        done = run_sealmq("pub", f"mqtts://localhost:{port}", "-t", "t", "-m", "m", *who)
        running.expect("alert|error")
        assert "MQTT" not in running.out  # nothing of a CONNECT has left
    assert done.returncode == 1
    assert re.search(error, done.stderr), done.stderr
    assert "mend: " in done.stderr


@pytest.mark.parametrize(
    ("fault", "cause", "mend"),
    [
        (Fault.EXPIRED, "certificate-expired", "renew it: `sealmq agent`"),
        (Fault.OTHER_CA, "untrusted-issuer", "give the certificate that was issued for this broker"),
        (Fault.WRONG_USAGE, "certificate-wrong-purpose", "look at it with `sealmq cert show FILE`"),
    ],
)
def test_a_client_certificate_that_the_broker_refuses(tmp_path, fault, cause, mend):
    """Whoever holds the device may have no access to the broker: its record comes second."""
    ca = ThrowawayCA()
    issued = ca.issue_client("sensor-1", fault=fault).write(tmp_path / "client")
    good = ca.issue_client("sensor-1").write(tmp_path / "good")
    with EphemeralBroker(ca=ca) as broker:
        words = ["-t", "devices/sensor-1/t", "-m", "m", "-q", "1", "--cafile"]
        server_ca = broker.device("sensor-1").ca
        for _ in range(2):  # the broker is as good as before
            done = pub(broker, *words, server_ca, "--cert", issued.cert, "--key", issued.key)
            refused(done, status=1, error="server ended the connection with TLS alert", mend=f"mend: {mend}")
            assert "client certificate" in done.stderr.splitlines()[0]
            assert done.stderr.endswith("`sealmq status` there shows the last ones\n")
        assert {event["cause"] for event in broker.refusals()} == {cause}
        quiet(pub(broker, *words, server_ca, "--cert", good.cert, "--key", good.key))


def test_a_broker_that_wants_a_certificate_and_gets_none(broker):
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", broker.device("sensor-1").ca)
    refused(
        done, status=1, error="it wants a client certificate and got none", mend="give the certificate of the device"
    )


def test_a_key_of_another_certificate(broker):
    files, other = broker.device("sensor-1"), broker.device("sensor-2")
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", files.ca, "--cert", files.cert, "--key", other.key)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "mend: " in done.stderr


def test_half_a_pair_and_a_file_that_is_none(broker, tmp_path):
    files = broker.device("sensor-1")
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", files.ca, "--cert", files.cert)
    refused(done, status=2, error="certificate and key go together", mend="give both --cert and --key")
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", files.ca, "--cert", files.key, "--key", files.cert)
    swapped = f"client certificate {files.key} has no CERTIFICATE block: it holds PRIVATE KEY"
    refused(done, status=2, error=swapped, mend="give the certificate with --cert, and its key with --key")
    done = pub(broker, "-t", "t", "-m", "m", "--cafile", tmp_path / "none", "--cert", files.cert, "--key", files.key)
    refused(done, status=2, error=f"file {tmp_path}/none cannot be read", mend="check path")


def test_a_message_for_a_mosquitto_sub(broker):
    files = broker.device("sensor-1")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key, "-i", "sensor-1:stock"]
    topic = "devices/sensor-1/stock"
    with Program("mosquitto_sub", "-h", "localhost", "-p", broker.port, *who, "-t", topic, "-C", 1, "-d") as stock:
        stock.expect("^Subscribed ")
        quiet(pub(broker, "-t", topic, "-m", "from ours", "-q", "1", "--as", "sensor-1"))
        stock.expect("^from ours$")
        assert stock.wait() == 0


def test_a_message_of_a_mosquitto_pub(broker, listener):
    files = broker.device("sensor-1")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key, "-i", "sensor-1:stock"]
    stock = ["mosquitto_pub", "-h", "localhost", "-p", broker.port, *who]
    assert finished(*stock, "-t", "devices/sensor-1/x", "-m", "m").returncode == 0
    assert listener.next_message(timeout=10).payload == b"m"
