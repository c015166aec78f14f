"""TLS by the compiled client: what Python's `ssl` has not, pre-shared keys and X25519MLKEM768.

It refuses to know sockets; bytes go through memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sealmq.errors import ConfigError
from sealmq.trace.live.endpoint import Closed, Failed, Waiting

if TYPE_CHECKING:
    from types import TracebackType

    from sealmq import _engine
    from sealmq.trace.request import Request

_VERIFY_CODES = {
    "tls-untrusted-issuer": 20,
    "tls-wrong-name": 62,
    "tls-expired": 10,
    "tls-not-yet-valid": 9,
    "tls-revoked": 23,
    "tls-revocation-unknown": 3,
    "tls-chain-too-long": 22,
    "tls-certificate": 1,
}
"""X509_V_ERR numbers, by which causes are found, for what the client says of a certificate."""
_WHOSE = {
    "psk-invalid": "pre-shared key",
    "ca-invalid": "CA file",
    "certificate-invalid": "client certificate",
    "key-invalid": "key file",
    "key-mismatch": "key file",
}


class CompiledTls:
    """Makes endpoints of one configuration."""

    def __init__(self, request: Request) -> None:
        """The configuration of a request, `_engine.TlsPeer.open` has its shape."""
        identity = request.identity
        self._config: dict[str, Any] = {"versions": request.tls, "alpn": list(request.offered_protocols)}
        if identity.psk is not None:
            self._config["psk"] = {"identity": identity.psk.identity, "key": identity.psk.key.hex()}
            if request.ciphers:
                self._config["suites"] = request.ciphers
            return
        self._config["trust"] = identity.trust()
        if identity.certificate is not None:
            key = identity.key or identity.certificate
            self._config |= {"certificate_pem": identity.certificate.read_text(), "key_pem": key.read_text()}

    def __enter__(self) -> CompiledTls:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def endpoint(self, server_name: str, session: object | None) -> CompiledEndpoint:
        """The end of a connection. Raises `ConfigError` when the client cannot use what it was given."""
        from sealmq import _engine

        config = json.dumps(self._config | {"server_name": server_name})
        kept = session if isinstance(session, _engine.TlsPeer) else None
        try:
            return CompiledEndpoint(_engine.TlsPeer.open(config, kept))
        except _engine.EngineError as error:
            code, message, mend = error.args[:3]
            raise ConfigError(message, mend=mend or "check the files and options", code=code) from None


class CompiledEndpoint:
    """One `_engine.TlsPeer`; methods as `Endpoint` has them."""

    def __init__(self, peer: _engine.TlsPeer) -> None:
        """Its ClientHello is in `take`."""
        self._peer = peer
        self._failed: Failed | None = None
        self._has_ticket = False
        self.take = peer.take

    def handshake(self) -> dict[str, Any]:
        """Go on with the handshake."""
        if self._peer.state() == "handshaking":
            raise self._failed or Waiting
        facts = json.loads(self._peer.facts() or "{}")
        return {
            "version": facts.get("version") or "",
            "cipher": facts.get("cipher") or "",
            "protocol": facts.get("alpn") or "",
            "resumed": bool(facts.get("resumed")),
        }

    def read(self) -> bytes:
        """Application data."""
        data = self._peer.read()
        if data:
            return data
        if self._failed is None and self._peer.state() == "closed":
            raise Closed
        raise self._failed or Waiting

    def write(self, data: bytes) -> None:
        """Encrypt application data."""
        if self._failed is not None:
            raise self._failed
        self._peer.write(data)

    def close(self) -> None:
        """Say close_notify, and hear the server's."""
        self._peer.close()
        if self._failed is not None or self._peer.state() != "closed":
            raise self._failed or Waiting

    def feed(self, record: bytes) -> None:
        """What came from the server."""
        from sealmq import _engine

        try:
            self._peer.feed(record)
        except _engine.TlsError as error:
            code, message, *_ = error.args
            self._failed = Failed(_VERIFY_CODES.get(code, 0), message)

    def secrets(self) -> list[bytes]:
        """New lines of key log."""
        return [line.strip().encode() for line in self._peer.key_log()]

    @property
    def is_tls13(self) -> bool:
        """Whether TLS 1.3 was negotiated."""
        return self._peer.state() != "handshaking" and "1.3" in (self._peer.facts() or "")

    @property
    def session(self) -> _engine.TlsPeer | None:
        """What a later connection can resume: this one keeps its tickets; there are none with a pre-shared key."""
        return None if self._peer.state() == "handshaking" else self._peer
