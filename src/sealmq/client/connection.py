"""One MQTT connection over verified TLS, as blocking calls.

It refuses to reconnect and to run callbacks: a call returns when the thing is done or raises why it is not.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sealmq.client.reasons import FAILURE, refusal
from sealmq.enginefaults import from_engine
from sealmq.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from sealmq._engine import Client
    from sealmq.client.target import Target

Version = Literal["5.0", "3.1.1"]
_SLICE_MS = 200  # between two looks at signals, so that Ctrl-C is obeyed while waiting


@dataclass(frozen=True)
class Identity:
    """What proves who is who: trust anchors for the server (`ca`), and the client's certificate with its key.

    PEM throughout; `certificate` and `key` go together. Prints without the key.
    """

    ca: bytes = b""
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, *, ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> Identity:
        """Read the files. Raises `ConfigError` naming the one that cannot be read, `UsageError` for half a pair."""
        if (certificate is None) != (key is None):
            raise UsageError("certificate and key go together", mend="give both --cert and --key")
        return cls(_file(ca) or b"", _file(certificate), _file(key))


@dataclass(frozen=True)
class Properties:
    """The properties of a PUBLISH (MQTT 5.0 section 3.3.2.3); `expiry` in seconds."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry: int | None = None
    payload_format: Literal[0, 1] | None = None
    user: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> str | None:
        """In the shape of `_engine.Client.publish`; None when nothing is set."""
        values: dict[str, Any] = {
            "content_type": self.content_type,
            "response_topic": self.response_topic,
            "correlation_hex": self.correlation.hex() if self.correlation is not None else None,
            "message_expiry": self.expiry,
            "payload_format": self.payload_format,
            "user": [list(pair) for pair in self.user] or None,
        }
        found = {key: value for key, value in values.items() if value is not None}
        return json.dumps(found) if found else None


@dataclass(frozen=True)
class Message:
    """An incoming PUBLISH; `properties` as in `_engine.Client.publish`, empty for MQTT 3.1.1."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[str, Any] = field(default_factory=dict)


class Connection:
    """An open connection; a context manager. Calls may come from one thread at a time."""

    def __init__(self, client: Client) -> None:
        """For `open` only."""
        self._client = client

    @classmethod
    def open(
        cls,
        target: Target,
        identity: Identity,
        *,
        client_id: str = "",
        version: Version = "5.0",
        keep_alive: int = 60,
        clean_start: bool = True,
        session_expiry: int | None = None,
        server_name: str | None = None,
        timeout: float = 10.0,
        allow_plaintext: bool = False,
    ) -> Connection:
        """Connect, verify the server, send CONNECT, wait for CONNACK. Times in seconds.

        Raises `NotSo` (code `connection-refused`, `timeout`, `tls-…`, `connack`), `Environment` (`dns`), `PeerFault`.
        """
        from sealmq import _engine

        config = {
            "scheme": target.scheme,
            "host": target.host,
            "port": target.port,
            "path": target.path,
            "ca_pem": _text(identity.ca),
            "certificate_pem": None if identity.certificate is None else _text(identity.certificate),
            "key_pem": None if identity.key is None else _text(identity.key),
            "server_name": server_name,
            "version": version,
            "client_id": client_id,
            "keep_alive": keep_alive,
            "clean_start": clean_start,
            "session_expiry": session_expiry,
            "username": None,
            "password": None,
            "will": None,
            "timeout_ms": int(timeout * 1000),
            "allow_plaintext": allow_plaintext,
        }
        try:
            return cls(_engine.Client.connect(json.dumps(config)))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def connack(self) -> dict[str, Any]:
        """What the server answered: `session_present`, `reason_code`, `assigned_client_id`, `tls`, …"""
        found: dict[str, Any] = json.loads(self._client.connack())
        return found

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
        timeout: float = 10.0,
    ) -> int:
        """Publish; for QoS 1 and 2 wait until the exchange is complete. The reason code, below 0x80.

        Raises `NotSo` with code `reason-0x87` and the like when the server refuses, `timeout` or `closed`.
        """
        from sealmq import _engine

        fields = properties.as_json() if properties is not None else None
        try:
            code = self._client.publish(topic, payload, qos, retain, fields, int(timeout * 1000))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        if code >= FAILURE:
            raise refusal("publish to", topic, code)
        return code

    def subscribe(self, filters: Sequence[str], *, qos: int = 0, timeout: float = 10.0) -> list[int]:
        """Subscribe to all `filters`; the granted QoS of each. Raises `NotSo` for the first that the server refuses."""
        from sealmq import _engine

        wanted = [(topic_filter, qos, False, False, 0) for topic_filter in filters]
        try:
            codes = self._client.subscribe(wanted, int(timeout * 1000))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        for topic_filter, code in zip(filters, codes, strict=True):
            if code >= FAILURE:
                raise refusal("subscribe to", topic_filter, code)
        return codes

    def unsubscribe(self, filters: Sequence[str], *, timeout: float = 10.0) -> list[int]:
        """Unsubscribe; the reason code of each, 0x11 when there was no such subscription."""
        from sealmq import _engine

        try:
            return self._client.unsubscribe(list(filters), int(timeout * 1000))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def next_message(self, *, timeout: float | None = None) -> Message | None:
        """The next message, or None after `timeout` seconds. Raises `NotSo` (`closed`) once the server is gone."""
        from sealmq import _engine

        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE_MS if deadline is None else int((deadline - time.monotonic()) * 1000)
            try:
                found = self._client.next_message(max(0, min(_SLICE_MS, left)))
            except _engine.EngineError as error:
                raise from_engine(*error.args) from None
            if found is not None:
                topic, payload, qos, retain, properties = found
                return Message(topic, payload, qos, retain, json.loads(properties) if properties else {})
            if left <= 0:
                return None

    def messages(self, *, timeout: float | None = None) -> Iterator[Message]:
        """Messages as they come, until `timeout` seconds have passed altogether (for ever when None)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            found = self.next_message(timeout=left)
            if found is None:
                return
            yield found

    def close(self) -> None:
        """Say DISCONNECT and close. Idempotent."""
        self._client.disconnect()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _file(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"file {path} cannot be read: {reason}", mend="check path, owner and mode") from None


def _text(pem: bytes) -> str:
    try:
        return pem.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(
            "a certificate or key file is not PEM: it holds bytes that are not ASCII",
            mend="convert it: openssl x509 -inform DER -in FILE -out FILE.pem",
        ) from None
