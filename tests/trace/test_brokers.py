"""Whole sessions with brokers: ours and Debian's mosquitto, to the last packet; and what a state says along the way."""

from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.testing import EphemeralBroker
from sealmq.trace.model import from_json, to_json

SESSION = ["CONNECT", "CONNACK", "SUBSCRIBE", "SUBACK", "PUBLISH", "PUBLISH", "PUBACK", "DISCONNECT"]


def packets(seen: trace.Trace) -> list[str]:
    known = set(SESSION)
    found = [step.message for step in seen.steps if step.message in known]
    return sorted(found, key=SESSION.index)  # the order of PUBACK and the message coming back is the broker's choice


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("mqtt", ["5.0", "3.1.1"])
def test_our_broker(tls: str, mqtt: str) -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, tls=tls, mqtt=mqtt)
        broker.wait_event("connected", device="sensor-1", client_id="sensor-1:trace", protocol=mqtt)
    assert seen.outcome == "ok"
    assert packets(seen) == SESSION
    assert (seen.tls.version, seen.tls.protocol) == (f"TLS {tls}", "mqtt")
    assert seen.tls.client_certificate == "accepted"
    assert (seen.proofs.right, seen.proofs.wrong, seen.proofs.unchecked) == (4, 0, 0)
    assert "came back" in seen.summary
    assert from_json(to_json(seen)) == seen


def test_a_topic_that_is_not_allowed_is_told_and_no_failure() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, topic="forbidden")
    assert seen.outcome == "ok"
    suback = next(step for step in seen.steps if step.message == "SUBACK")
    assert "not authorized (0x87)" in suback.says
    assert suback.is_bad
    assert "did not allow it to subscribe or to publish" in seen.summary


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("mqtt", ["5.0", "3.1.1"])
def test_mosquitto(tmp_path: Path, tls: str, mqtt: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.mosquitto(tmp_path, files) as url:
        seen = trace.record(url, ca=files.ca, tls=tls, mqtt=mqtt, resume=True)
    assert seen.outcome == "ok", seen.evidence
    assert packets(seen) == SESSION
    assert seen.tls.resumed
    assert seen.proofs.wrong == seen.proofs.unchecked == 0
    assert seen.previous is not None
    assert packets(seen.previous) == SESSION


def test_what_is_true_when() -> None:
    """The tracker, at the moments that matter."""
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, tls="1.3")
    after = {(step.message, step.who): step.state for step in seen.steps}

    def ticks(message: str, who: str = "server") -> tuple[bool, ...]:
        found = after[message, who].certificate
        return (
            found.chain_received,
            found.chain_and_name_accepted,
            found.key_possession_proven,
            found.transcript_bound,
        )

    assert after["connect", "here"].tcp == "open"
    assert after["ClientHello", "client"].handshake == "WAIT_SH"
    assert after["ServerHello", "server"].secrets == ()
    assert [one.name for one in after["handshake keys", "here"].secrets] == ["handshake traffic secrets"]
    assert after["EncryptedExtensions", "server"].handshake == "WAIT_CERT_CR"
    assert after["CertificateRequest", "server"].client_certificate == "asked"
    assert ticks("Certificate") == (True, False, False, False)
    assert ticks("certificate check", "here") == (True, True, False, False)
    assert ticks("CertificateVerify") == (True, True, True, False)
    assert ticks("Finished") == (True, True, True, True)
    assert after["Finished", "server"].channel == "none"
    assert len(after["session keys", "here"].secrets) == 2
    assert after["Finished", "client"].handshake == "CONNECTED"
    # the server may still refuse this client's certificate: nothing claims otherwise before the CONNACK
    assert after["CONNECT", "client"].client_certificate == "sent"
    assert after["CONNACK", "server"].client_certificate == "accepted"
    assert after["CONNACK", "server"].mqtt == "connected"
    assert [step.number for step in seen.steps] == list(range(1, len(seen.steps) + 1))
    assert all(step.explain for step in seen.steps)
