"""The next handshake as the running broker recorded it, good and refused, and the list of refusals."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import Program, finished, run_sealmq, sealmq
from sealmq import trace
from sealmq.errors import PeerFault
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA
from sealmq.trace import brokerside
from sealmq.trace.model import from_json

STATUS_INTERRUPTED = 130


def publish(broker: EphemeralBroker, *options: object):
    address = ("-h", broker.host, "-p", broker.port)
    return finished("mosquitto_pub", *address, "-t", "devices/sensor-1/x", "-m", "hi", "-i", "sensor-1", *options)


@contextlib.contextmanager
def armed(broker: EphemeralBroker, data: Path, *options: object) -> Iterator[Program]:
    """`sealmq trace` waiting for a handshake, the broker being ready for it."""
    with sealmq("trace", "--data", data, *options) as waiting:
        waiting.expect("waiting up to")
        broker.wait_event("recording", state="armed")
        yield waiting


def come(broker: EphemeralBroker, waiting: Program, *client: object) -> None:
    """Connect until the command has what it waited for: a client may be quicker than the recorder."""
    while waiting.poll() is None:
        publish(broker, *client)


def recorded(broker: EphemeralBroker, data: Path, *client: object, who: tuple[str, ...] = ("--next",)):
    """The exit status and the trace of the connection that mosquitto_pub makes with these options."""
    with armed(broker, data, *who, "--json") as waiting:
        come(broker, waiting, *client)
        status = waiting.wait()
        assert waiting.out, waiting.err
        return status, from_json(json.loads(waiting.out))


@pytest.mark.parametrize("client", ["mosquitto_pub", "1.2", "1.3"])
@pytest.mark.parametrize("version", ["5.0", "3.1.1"])
def test_a_good_handshake(tmp_path: Path, client: str, version: str) -> None:
    data = tmp_path / "data"
    with EphemeralBroker(data=data) as broker:
        files = broker.device("sensor-1")
        if client == "mosquitto_pub":
            options = ("--cafile", files.ca, "--cert", files.cert, "--key", files.key)
            number = {"5.0": "mqttv5", "3.1.1": "mqttv311"}[version]
            status, seen = recorded(broker, data, *options, "-V", number, who=("--device", "sensor-1"))
        else:
            with armed(broker, data, "--next", "--json") as waiting:
                while waiting.poll() is None:  # a client in this process may be quicker than the recorder
                    there = trace.record(
                        broker.url, ca=files.ca, certificate=files.cert, key=files.key, tls=client, mqtt=version
                    )
                status, seen = waiting.wait(), from_json(json.loads(waiting.out))
            assert (seen.tls.cipher, seen.tls.group) == (there.tls.cipher, there.tls.group)
            told = ("ClientHello", "ServerHello", "Certificate", "Finished", "CONNECT", "CONNACK")
            sizes = [
                [(step.message, step.who, step.bytes) for step in one.steps if step.message in told]
                for one in (seen, there)
            ]
            assert sizes[0] == sizes[1]  # both seats saw the same messages
    assert (status, seen.outcome, seen.cause, seen.seat) == (0, "ok", None, "broker")
    assert seen.tls.version == {"1.2": "TLS 1.2"}.get(client, "TLS 1.3")
    names = [step.message for step in seen.steps]
    assert names[:2] == ["accept", "ClientHello"]
    assert {"client certificate check", "CONNECT", "CONNACK"} < set(names)
    assert names[-1] == "verdict"
    by_name = {step.message: step for step in seen.steps}
    assert (by_name["ClientHello"].who, by_name["ClientHello"].direction) == ("client", "received")
    assert (by_name["CONNACK"].who, by_name["CONNACK"].direction) == ("server", "sent")
    assert f"MQTT {version}" in by_name["CONNECT"].says
    assert not [step for step in seen.steps if step.is_bad]
    assert (seen.proofs.wrong, seen.proofs.unchecked) == (0, 0)
    assert seen.proofs.right >= 3
    state = seen.steps[-1].state
    assert (state.client_certificate, state.channel, state.mqtt) == ("accepted", "open", "connected")
    assert "device sensor-1" in seen.summary
    unsaid = 0 if client == "1.2" else 6  # the ChangeCipherSpec that means nothing in TLS 1.3 is no step
    for direction, total in (("sent", seen.totals.sent), ("received", seen.totals.received)):
        assert sum(step.bytes for step in seen.steps if step.direction == direction) == total - unsaid


def test_a_websocket(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data", wss=True) as broker:
        files = broker.device("sensor-1")
        url = f"wss://127.0.0.1:{broker.port_of('wss')}"
        with armed(broker, tmp_path / "data", "--device", "sensor-1", "--json") as waiting:
            while waiting.poll() is None:
                there = trace.record(url, ca=files.ca, certificate=files.cert, key=files.key)
            status, seen = waiting.wait(), from_json(json.loads(waiting.out))
    assert (status, seen.outcome, seen.url) == (0, "ok", url)
    told = ("upgrade request", "upgrade response", "CONNECT", "CONNACK")
    sizes = [
        [(step.message, step.who, step.bytes) for step in one.steps if step.message in told] for one in (seen, there)
    ]
    assert [message for message, _, _ in sizes[0]] == list(told)
    assert sizes[0] == sizes[1]  # both seats saw the same
    assert (seen.proofs.right, seen.proofs.wrong) == (4, 0)


def test_a_websocket_that_is_refused(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data", wss=True) as broker:
        files = broker.device("sensor-1")
        url = f"wss://127.0.0.1:{broker.port_of('wss')}/elsewhere"
        with armed(broker, tmp_path / "data", "--next", "--json") as waiting:
            while waiting.poll() is None:
                trace.record(url, ca=files.ca, certificate=files.cert, key=files.key)
            status, seen = waiting.wait(), from_json(json.loads(waiting.out))
    assert (status, seen.cause, seen.stopped_by) == (1, "http-path", "here")
    assert seen.stopped_at == "upgrade response"
    assert seen.not_done == ("no CONNECT was read",)


def test_a_listener_without_tls(tmp_path: Path) -> None:
    dangerous = {"plaintext": "127.0.0.1:0", "anonymous": True}
    with EphemeralBroker(data=tmp_path / "data", dangerous=dangerous) as broker:
        plain = ("mosquitto_pub", "-h", broker.host, "-p", broker.port_of("plaintext"), "-t", "x", "-m", "hi")
        with armed(broker, tmp_path / "data", "--next", "--save", tmp_path / "kept.json") as waiting:
            while waiting.poll() is None:
                finished(*plain)
            assert waiting.wait() == 0, waiting.err
        with armed(broker, tmp_path / "data", "--next", "--json") as again:
            while again.poll() is None:
                finished(*plain, "--cafile", broker.device("sensor-1").ca)
            status, seen = again.wait(), from_json(json.loads(again.out))
    shown = run_sealmq("trace", "--replay", tmp_path / "kept.json").stdout
    assert shown == waiting.out
    assert "without TLS: anyone on the way can read and change" in shown
    assert "encrypted" not in shown
    assert "proofs" not in shown
    assert (status, seen.outcome, seen.steps[1].message) == (1, "failed", "not MQTT")
    assert "a ClientHello, and this listener has no TLS" in seen.steps[1].says
    assert seen.not_done == ("no CONNECT was read",)


def refused(broker: EphemeralBroker, data: Path, *client: object):
    status, seen = recorded(broker, data, *client)
    event = broker.refusals()[-1]
    assert (status, seen.outcome) == (1, "failed")
    assert (seen.cause, seen.mend) == (event["cause"], event["mend"])  # one vocabulary: the record's own
    assert event["summary"][1:] in seen.summary
    assert "CONNECT" not in [step.message for step in seen.steps]
    assert seen.steps[-1].message == "verdict"
    assert seen.not_done == ("no session key came into use", "no CONNECT was read")
    return seen


def test_an_expired_certificate(tmp_path: Path) -> None:
    ca = ThrowawayCA()
    with EphemeralBroker(ca=ca, data=tmp_path / "data") as broker:
        good = broker.device("sensor-1")
        bad = ca.issue_client("sensor-1", fault=Fault.EXPIRED).write(tmp_path / "bad")
        seen = refused(broker, tmp_path / "data", "--cafile", good.ca, "--cert", bad.cert, "--key", bad.key)
    assert (seen.cause, seen.stopped_by, seen.stopped_at) == ("certificate-expired", "here", "client certificate check")
    assert "alert 45" in seen.evidence
    assert seen.steps[-1].state.client_certificate == "refused"
    assert seen.steps[-1].state.channel == "none"
    assert seen.command == "sealmq trace --device sensor-1"


def test_no_certificate(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        seen = refused(broker, tmp_path / "data", "--cafile", broker.device("sensor-1").ca)
    assert (seen.cause, seen.stopped_by) == ("no-client-certificate", "here")
    assert "alert 116" in seen.evidence


def test_a_certificate_of_another_ca(tmp_path: Path) -> None:
    other = ThrowawayCA().issue_client("sensor-1").write(tmp_path / "other")
    with EphemeralBroker(data=tmp_path / "data") as broker:
        ca = broker.device("sensor-1").ca
        seen = refused(broker, tmp_path / "data", "--cafile", ca, "--cert", other.cert, "--key", other.key)
    assert (seen.cause, seen.stopped_by) == ("untrusted-issuer", "here")


def test_a_client_that_does_not_trust_the_broker(tmp_path: Path) -> None:
    other = ThrowawayCA().issue_client("sensor-1").write(tmp_path / "other")
    with EphemeralBroker(data=tmp_path / "data") as broker:
        seen = refused(broker, tmp_path / "data", "--cafile", other.ca)
    assert (seen.cause, seen.stopped_by, seen.stopped_at) == ("client-distrusts-broker", "client", "Alert")


def test_mqtt_without_tls(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        seen = refused(broker, tmp_path / "data")
    assert (seen.cause, seen.stopped_at) == ("plaintext-mqtt", "NotTls")
    assert "first bytes 10 " in seen.evidence


def test_kept_and_shown_again(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        files = broker.device("sensor-1")
        kept = tmp_path / "kept.json"
        with armed(broker, tmp_path / "data", "--next", "--save", kept, "--save", tmp_path / "kept.pcapng") as waiting:
            come(broker, waiting, "--cafile", files.ca, "--cert", files.cert, "--key", files.key)
            assert waiting.wait() == 0, waiting.err
            live = waiting.out
        assert "recorded 127.0.0.1:" in broker.log_text
        assert "armed for whoever comes next" in broker.log_text
    again = run_sealmq("trace", "--replay", kept)
    assert (again.returncode, again.stdout) == (0, live)
    assert "seen by the broker" in live
    assert "this client" not in live
    assert kept.stat().st_mode & 0o777 == 0o600


def test_others_are_not_recorded_and_one_waits_at_a_time(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        files = broker.device("sensor-1")
        with armed(broker, tmp_path / "data", "--device", "sensor-2", "--timeout", "3") as waiting:
            publish(broker, "--cafile", files.ca, "--cert", files.cert, "--key", files.key)
            second = run_sealmq("trace", "--next", "--data", tmp_path / "data")
            assert (second.returncode, "another recording" in second.stderr) == (1, True)
            assert waiting.wait() == 1
            assert "no handshake of device sensor-2 came within 3 s" in waiting.err


def test_an_interrupted_wait_lets_the_next_one_in(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        with armed(broker, tmp_path / "data", "--next") as waiting:
            waiting.signal(signal.SIGINT)
            assert waiting.wait() == STATUS_INTERRUPTED
        broker.wait_event("recording", state="over")
        status, seen = recorded_again(broker, tmp_path / "data")
    assert (status, seen["cause"]) == (1, "plaintext-mqtt")


def recorded_again(broker: EphemeralBroker, data: Path):
    with sealmq("trace", "--data", data, "--next", "--json") as waiting:
        waiting.expect("waiting up to")
        come(broker, waiting)
        return waiting.wait(), json.loads(waiting.out)


@pytest.mark.parametrize(
    "document", [{}, {"pieces": 1}, {"listener": "mqtts x", "peer": "y", "keys": [], "pieces": [[1]]}]
)
def test_an_answer_of_another_shape(document: dict[str, object]) -> None:
    with pytest.raises(PeerFault):
        brokerside.recording_of(document)


def test_without_a_broker(tmp_path: Path) -> None:
    for args in (("trace", "--next"), ("log", "refusals"), ("log", "refusals", "--follow")):
        done = run_sealmq(*args, "--data", tmp_path / "none")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-2:][0].startswith("error: no broker runs on")
        assert done.stderr.splitlines()[-1].startswith("mend: ")


# --- sealmq log refusals ---------------------------------------------------------------------------------------------


def test_refusals_are_listed_the_latest_last(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        none = run_sealmq("log", "refusals", "--data", tmp_path / "data")
        assert (none.returncode, none.stdout) == (0, "no connection was refused since the broker started\n")
        publish(broker)
        broker.wait_event("refused", cause="plaintext-mqtt")
        publish(broker, "--cafile", broker.device("sensor-1").ca)
        broker.wait_event("refused", cause="no-client-certificate")
        listed = run_sealmq("log", "refusals", "--data", tmp_path / "data")
        last = run_sealmq("log", "refusals", "-n", "1", "--json", "--data", tmp_path / "data")
    assert listed.stdout.index("[plaintext-mqtt]") < listed.stdout.index("[no-client-certificate]")
    assert listed.stdout.count("    mend: ") == 2
    assert [event["cause"] for event in json.loads(last.stdout)] == ["no-client-certificate"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_refusals_are_followed(tmp_path: Path, form: tuple[str, ...]) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        publish(broker)
        broker.wait_event("refused")
        with sealmq("log", "refusals", "--follow", "--data", tmp_path / "data", *form) as following:
            following.expect("plaintext-mqtt")
            publish(broker, "--cafile", broker.device("sensor-1").ca)
            following.expect("no-client-certificate")
            publish(broker)
            following.expect("plaintext-mqtt")
            following.signal(signal.SIGINT)
            assert following.wait() == STATUS_INTERRUPTED
            assert "Traceback" not in following.err
