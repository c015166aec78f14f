"""The hybrid key exchange X25519MLKEM768, spoken live, decoded and proven from both seats.

By `--post-quantum`, and by a client that others wrote: the OpenSSL of Python's own ssl module may be too old for it,
the one that comes with `cryptography` is not, and pyOpenSSL drives that.
"""

import contextlib
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
import servers
from OpenSSL import SSL
from test_broker_side import armed

from programs import run_sealmq
from sealmq import trace
from sealmq.pki.operations import DeviceFiles
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA
from sealmq.trace import mqtt
from sealmq.trace.build import trace_of
from sealmq.trace.model import Trace, from_json
from sealmq.trace.recording import Conditions, Event, Recording
from sealmq.trace.tls.records import record_length


class Client:
    """One connection of pyOpenSSL, through memory, every byte and secret of it noted as a trace's recorder does."""

    def __init__(self, broker: EphemeralBroker, files: DeviceFiles) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(files.ca))
        context.use_certificate_chain_file(str(files.cert))
        context.use_privatekey_file(str(files.key))
        context.set_alpn_protos([b"mqtt"])
        context.set_keylog_callback(lambda _, line: self._note("secret", line))
        address = f"{broker.host}:{broker.port}"
        self._conditions = Conditions(f"mqtts://{address}", broker.host, datetime.now(UTC).isoformat())
        self.events = [
            Event(0.0, "connected", facts={"address": address}),
            Event(0.0, "phase", facts={"name": "handshake"}),
        ]
        self._tls = SSL.Connection(context, None)
        self._tls.set_connect_state()
        self._rest = b""
        with socket.create_connection((broker.host, broker.port), timeout=10) as self._socket:
            self._until(self._tls.do_handshake)
            self._note("phase", name="mqtt")
            self._until(lambda: self._tls.send(mqtt.connect("5.0", client_id="sensor-1:hybrid")))
            self._until(lambda: self._tls.recv(4096))
        self._note("ended", how="left")

    @property
    def recording(self) -> Recording:
        return Recording(self._conditions, (tuple(self.events),))

    def _note(self, kind: str, data: bytes = b"", **facts: object) -> None:
        self.events.append(Event(0.0, kind, data, facts))

    def _until(self, act) -> None:
        while True:
            try:
                act()
            except SSL.WantReadError:
                self._flush()
                self._feed()
            else:
                return self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                data = self._tls.bio_read(65536)
                self._note("sent", data)
                self._socket.sendall(data)

    def _feed(self) -> None:
        while (length := record_length(self._rest)) is None or length > len(self._rest):
            part = self._socket.recv(65536)
            assert part, "the broker hung up"
            self._rest += part
        record, self._rest = self._rest[:length], self._rest[length:]
        self._note("received", record)
        self._tls.bio_write(record)
        self._note("tls", state="waiting")


def hybrid(seen: Trace) -> None:
    assert (seen.outcome, seen.cause) == ("ok", None), seen.evidence
    assert (seen.tls.version, seen.tls.group, seen.tls.key_exchange) == ("TLS 1.3", "X25519MLKEM768", "hybrid-pq")
    assert (seen.proofs.right, seen.proofs.wrong, seen.proofs.unchecked) == (4, 0, 0)
    assert "not even a future quantum computer" in seen.summary
    sizes = {step.message: step.bytes for step in seen.steps}
    assert sizes["ClientHello"] > 1184  # an ML-KEM-768 key is in it (FIPS 203, table 3)
    assert sizes["ServerHello"] > 1088  # and a ciphertext in the answer
    origins = {secret.origin for step in seen.steps for secret in step.state.secrets}
    assert origins == {"agreed with X25519MLKEM768, post-quantum"}


def test_by_the_client() -> None:
    with EphemeralBroker() as broker:
        client = Client(broker, broker.device("sensor-1"))
        assert broker.wait_event("connected")["tls"]["group"] == "X25519MLKEM768"
    hybrid(trace_of(client.recording))


def test_by_the_command_and_resumed() -> None:
    with EphemeralBroker() as broker:
        broker.device("sensor-1")
        done = run_sealmq(
            *("--data", broker.folder.path, "trace", broker.url, "--as", "sensor-1"),
            *("--post-quantum", "--resume", "--json"),
        )
    assert done.returncode == 0, done.stderr
    again = from_json(json.loads(done.stdout))
    assert again.previous is not None
    hybrid(again.previous)
    assert (again.tls.resumed, again.tls.group, again.tls.key_exchange) == (True, "X25519MLKEM768", "hybrid-pq")
    assert (again.proofs.right, again.proofs.wrong, again.proofs.unchecked) == (2, 0, 0)
    assert again.totals.handshake_round_trips == again.previous.totals.handshake_round_trips == 2


def test_without_being_asked_for_it_nothing_is_said_of_it() -> None:
    """Python's OpenSSL of today offers X25519; the closing words claim no more than that."""
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key)
    if seen.tls.group != "X25519MLKEM768":  # a Python with OpenSSL 3.5 offers it by itself
        assert seen.tls.key_exchange == "key-agreement"
        assert "quantum" not in seen.summary


@pytest.mark.parametrize(
    ("fault", "cause", "code"),
    [
        (Fault.EXPIRED, "certificate-expired", 10),
        (Fault.NOT_YET_VALID, "certificate-not-yet-valid", 9),
        (Fault.WRONG_NAME, "wrong-host", 62),
        (Fault.SELF_SIGNED, "self-signed", 20),
    ],
)
def test_what_its_client_refuses_has_the_causes_of_the_other(
    tmp_path: Path, fault: Fault, cause: str, code: int
) -> None:
    authority = ThrowawayCA()
    files = authority.issue_server(fault=fault).write(tmp_path / "server")
    anchors, chain = tmp_path / "root.pem", tmp_path / "chain.pem"
    anchors.write_bytes(authority.root_pem)
    chain.write_text(files.cert.read_text().partition("-----END CERTIFICATE-----")[2])
    with servers.s_server(files, *(("-cert_chain", chain) if chain.read_text().strip() else ())) as (url, _):
        seen = trace.record(url, ca=anchors, post_quantum=True)
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, "here"), seen.evidence
    assert f"verify code {code}" in seen.evidence
    assert seen.stopped_at == "certificate check"
    assert seen.tls.certificates


def test_a_server_without_it_agrees_on_what_it_has(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3", "-groups", "P-384") as (url, _):
        seen = trace.record(url, ca=files.ca, post_quantum=True)
    assert (seen.tls.group, seen.tls.retried) == ("P-384", True), seen.evidence
    if seen.outcome == "ok":
        assert seen.tls.key_exchange == "key-agreement"


def test_by_the_broker(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        files = broker.device("sensor-1")
        with armed(broker, tmp_path / "data", "--next", "--json") as waiting:
            while waiting.poll() is None:
                Client(broker, files)
            status, seen = waiting.wait(), from_json(json.loads(waiting.out))
    assert (status, seen.seat) == (0, "broker")
    hybrid(seen)
