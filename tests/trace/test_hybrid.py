"""The hybrid key exchange X25519MLKEM768, spoken live, decoded and proven from both seats.

The OpenSSL of Python's own ssl module may be too old for it; the one that comes with `cryptography` is not, and
pyOpenSSL drives that.
"""

import contextlib
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

from OpenSSL import SSL
from test_broker_side import armed

from sealmq.pki.operations import DeviceFiles
from sealmq.testing import EphemeralBroker
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


def test_by_the_broker(tmp_path: Path) -> None:
    with EphemeralBroker(data=tmp_path / "data") as broker:
        files = broker.device("sensor-1")
        with armed(broker, tmp_path / "data", "--next", "--json") as waiting:
            while waiting.poll() is None:
                Client(broker, files)
            status, seen = waiting.wait(), from_json(json.loads(waiting.out))
    assert (status, seen.seat) == (0, "broker")
    hybrid(seen)
