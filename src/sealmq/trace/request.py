"""What is asked of a trace: where to, as whom, how, and within which bounds; checked beforehand.

It refuses to connect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sealmq.errors import UsageError
from sealmq.trace.identity import Identity, device_of

if TYPE_CHECKING:
    from sealmq.trace.live.endpoint import Library
    from sealmq.trace.target import Target

__all__ = ["Bounds", "Identity", "Loaded", "MqttVersion", "Request", "TlsVersion", "load"]

TlsVersion = Literal["", "1.2", "1.3"]
MqttVersion = Literal["5.0", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a peer may take of this side. Times in seconds; each stage has its own, `whole` is for all together."""

    connect: float = 5.0
    handshake: float = 10.0
    mqtt: float = 5.0
    settle: float = 0.5
    """After a handshake with nothing to say, for the tickets and the late refusals of TLS 1.3."""
    close: float = 1.0
    whole: float = 30.0
    received: int = 1024 * 1024
    """Bytes: ten times the largest chain that OpenSSL takes."""
    records: int = 2000
    """A handshake takes about ten; OpenSSL may be sent empty ones and KeyUpdates without end."""


@dataclass(frozen=True, slots=True)
class Request:
    """One trace to be made.

    `tls` empty allows 1.2 and 1.3. `legacy` allows what no broker of today should speak: TLS 1.0 and 1.1, RSA key
    transport, CBC, SHA-1, weak keys; certificates are verified all the same. `post_quantum` offers X25519MLKEM768
    first, as `sealmq.Client` does. `ciphers` is an OpenSSL list for TLS 1.2. `resume` makes a second connection with
    the session of the first. `server_name` is verified and sent instead of the host of the URL. `client_id` and `topic`
    empty are derived from the certificate or the identity of the key. `protocols` is the ALPN offer, None the
    customary one of the scheme. `pid` is the server, when it is a process of this machine whose CPU time is wanted.
    """

    target: Target
    identity: Identity = field(default_factory=Identity)
    tls: TlsVersion = ""
    legacy: bool = False
    ciphers: str = ""
    resume: bool = False
    server_name: str = ""
    mqtt: MqttVersion = "5.0"
    client_id: str = ""
    topic: str = ""
    protocols: tuple[str, ...] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    post_quantum: bool = False
    pid: int | None = None

    @property
    def verified_name(self) -> str:
        """The name that the server's certificate must be for."""
        return self.server_name or self.target.host

    @property
    def offered_protocols(self) -> tuple[str, ...]:
        """The ALPN offer."""
        if self.protocols is not None:
            return self.protocols
        customary = {"mqtts": ("mqtt",), "mqtts+psk": ("mqtt",), "https": ("http/1.1",), "wss": ("http/1.1",)}
        return customary.get(self.target.scheme, ())


@dataclass(frozen=True, slots=True)
class Loaded:
    """A request's files, read: the library that is to speak TLS, and what it trusts and shows as facts for the
    recording."""

    stack: Library
    anchors: tuple[tuple[str, str], ...] | None
    identity: tuple[bytes, ...]
    device: str
    times: tuple[tuple[str, str], ...] = ()


def load(request: Request) -> Loaded:
    """Read the files and choose the library.

    Raises `ConfigError` for files that cannot be used at all, `UsageError` for options that do not go together.
    """
    _check(request)
    identity = request.identity
    if identity.psk is not None:
        return Loaded(_library(request), (), (), identity.psk.device)
    from cryptography.hazmat.primitives.serialization import Encoding

    anchors, chain = identity.anchors(), identity.chain()
    shown = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
    return Loaded(_library(request), anchors, shown, device_of(chain), identity.times())


def _library(request: Request) -> Library:
    if request.identity.psk is not None or request.post_quantum:
        from sealmq.trace.live.compiledtls import CompiledTls

        return CompiledTls(request)
    from sealmq.trace.live.systemtls import SystemTls

    return SystemTls(request)


def _check(request: Request) -> None:
    identity, has_key = request.identity, request.target.has_shared_key
    if request.tls not in ("", "1.2", "1.3"):
        raise UsageError(f"TLS version {request.tls!r} cannot be chosen", mend="--tls takes 1.2 or 1.3")
    if has_key and identity.psk is None:
        raise UsageError(
            f"URL {request.target} is of a listener for pre-shared keys, and no key is given",
            mend="give --as ID of a device that has one, or --psk-file FILE",
        )
    if identity.psk is not None and not has_key:
        raise UsageError(
            f"pre-shared key does not go with the URL {request.target}",
            mend=f"write {request.target.scheme}+psk://{request.target.authority}, or leave the key out",
        )
    if has_key and (identity.ca or identity.certificate or identity.key):
        raise UsageError("a pre-shared key and certificates do not go together", mend="leave --cafile and --cert out")
    if has_key and (request.legacy or request.post_quantum or request.resume):
        raise UsageError(
            "--legacy, --post-quantum and --resume are for certificates",
            mend="leave them out: a key has its own suites, and a handshake with one is as short as a resumed one",
        )
    if request.post_quantum and (request.legacy or request.ciphers or request.tls == "1.2"):
        raise UsageError(
            "--post-quantum takes TLS 1.3, and the suites of sealmq's own client",
            mend="leave --legacy, --ciphers and --tls 1.2 out",
        )
