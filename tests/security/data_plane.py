"""One node of the data plane without the rest of the product: what its own JSON says is all that it has.

It refuses to know registries, files and settings.
"""

from __future__ import annotations

import json
import ssl
import time
from typing import TYPE_CHECKING, Any

from raw_mqtt import CONNACK, Wire, client_context, connect

from sealmq import _engine
from sealmq.testing import ThrowawayCA

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from raw_mqtt import Credentials, Packet

SECONDS = 10.0
OWN_TOPICS = {"name": "own", "effect": "allow", "who": "*", "publish": True, "subscribe": True, "filter": "d/{id}/#"}


class BareNode:
    """A context manager; keyword arguments are fields of a `NodeConfig` that differ from the plainest one.

    `tls` adds to the certificates instead of replacing them. `files` is a folder for the certificates of devices.
    """

    def __init__(self, files: Path, *, ca: ThrowawayCA | None = None, **fields: Any) -> None:
        self.ca = ca or ThrowawayCA()
        self._files = files
        self._server = self.ca.issue_server()
        self._fields = fields
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> BareNode:
        self.node = _engine.Node.start(self.config())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.node.stop(0)

    def config(self, **fields: Any) -> str:
        """The configuration, with these fields instead of those it began with."""
        fields = {**self._fields, **fields}
        tls = {
            "certificate_chain_pem": self._server.cert_pem.decode(),
            "private_key_pem": self._server.key_pem.decode(),
            "client_ca_pem": self.ca.client_ca_pem.decode(),
            **fields.pop("tls", {}),
        }
        plainest = {
            "listeners": [{"kind": "mqtts", "address": "127.0.0.1:0"}],
            "fleet": self.ca.fleet,
            "rules": [OWN_TOPICS],
        }
        return json.dumps({**plainest, **fields, "tls": tls})

    def reload(self, **fields: Any) -> None:
        """Take a configuration with these fields."""
        self.node.reload(self.config(**fields))

    @property
    def port(self) -> int:
        """Of the first listener."""
        return int(self.node.addresses()[0][1].rpartition(":")[2])

    def device(self, device_id: str, folder: str = "") -> Credentials:
        """The files of a device; another `folder` gives it another certificate."""
        directory = self._files / (folder or device_id)
        if not directory.exists():
            return self.ca.issue_client(device_id).write(directory)
        from sealmq.testing.ca import Files

        return Files(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")

    def revoke(self, *devices: str, certificates: tuple[str, ...] = ()) -> dict[str, int]:
        """What `Node.revoke` answers."""
        found: dict[str, int] = json.loads(
            self.node.revoke(json.dumps({"devices": devices, "certificates": certificates}))
        )
        return found

    def live(self) -> list[str]:
        """Client identifiers with a connection."""
        return [session["client_id"] for session in json.loads(self.node.sessions()) if session["connected"]]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        self._take(0)
        return [event for event in self._events if event["event"] == name]

    def event(self, name: str, **match: Any) -> dict[str, Any]:
        """The first event of that name with those fields; it may take `SECONDS` to come."""
        deadline = time.monotonic() + SECONDS
        while True:
            for event in self._events:
                if event["event"] == name and all(event.get(key) == value for key, value in match.items()):
                    return event
            left = deadline - time.monotonic()
            assert left > 0, f"no {name} with {match} among {self._events}"
            self._take(int(left * 1000) + 1)

    def _take(self, timeout_ms: int) -> None:
        self._events += [json.loads(fact[-1]) for fact in self.node.poll_events(timeout_ms)]


class Caller:
    """A client that keeps the TLS session of its last connection, and the context that it belongs to."""

    def __init__(
        self, node: BareNode, files: Credentials | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> None:
        self._node = node
        self.context = client_context(files, ca=files.ca if files else node.device("anchor").ca)
        self.context.minimum_version = self.context.maximum_version = version
        self.session: ssl.SSLSession | None = None

    def call(self, client_id: str, *, port: int = 0) -> tuple[Packet, bool]:
        """Connect, by the kept session if there is one: the CONNACK, and whether the session was resumed."""
        with Wire.open(port or self._node.port, None, context=self.context, session=self.session) as wire:
            wire.send(connect(client_id))
            answer = wire.packet()
            assert answer.kind == CONNACK
            assert isinstance(wire.socket, ssl.SSLSocket)
            self.session = wire.socket.session
            return answer, bool(wire.socket.session_reused)
