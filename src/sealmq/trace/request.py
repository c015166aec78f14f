"""What is asked of a trace: where to, as whom, how, and within which bounds; read from files and checked beforehand.

It refuses to connect.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sealmq.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

    from sealmq.trace.target import Target

TlsVersion = Literal["", "1.2", "1.3"]
MqttVersion = Literal["5.0", "3.1.1"]

LEGACY_CIPHERS = "ALL:COMPLEMENTOFDEFAULT:@SECLEVEL=0"


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
class Identity:
    """Files as given: `ca` None is the system's store; `certificate` and `key` None is no certificate."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One trace to be made.

    `tls` empty allows 1.2 and 1.3. `legacy` allows what no broker of today should speak: TLS 1.0 and 1.1, RSA key
    transport, CBC, SHA-1, weak keys; certificates are verified all the same. `ciphers` is an OpenSSL list for TLS 1.2.
    `resume` makes a second connection with the session of the first. `server_name` is verified and sent instead of the
    host of the URL. `client_id` and `topic` empty are derived from the certificate. `protocols` is the ALPN offer, None
    the customary one of the scheme.
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

    @property
    def verified_name(self) -> str:
        """The name that the server's certificate must be for."""
        return self.server_name or self.target.host

    @property
    def offered_protocols(self) -> tuple[str, ...]:
        """The ALPN offer."""
        if self.protocols is not None:
            return self.protocols
        return {"mqtts": ("mqtt",), "https": ("http/1.1",), "wss": ("http/1.1",)}.get(self.target.scheme, ())


@dataclass(frozen=True, slots=True)
class Loaded:
    """A request's files, read: what the context trusts and shows, as facts for the recording."""

    context: ssl.SSLContext
    anchors: tuple[tuple[str, str], ...] | None
    identity: tuple[bytes, ...]
    device: str


def load(request: Request) -> Loaded:
    """Read the files and make the context of the request.

    Unlike `sealmq.tls.client_context` it takes certificates that a server will refuse: seeing that is what a trace is
    for. Raises `ConfigError` for files that cannot be used at all, `UsageError` for options that do not go together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # RFC 9525, section 6.3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _restrict(context, request)
    anchors = _trust(context, request.identity.ca)
    chain = _present(context, request.identity)
    if request.offered_protocols:
        context.set_alpn_protocols(list(request.offered_protocols))
    return Loaded(context, anchors, tuple(_der(certificate) for certificate in chain), device_of(chain))


def device_of(chain: list[x509.Certificate]) -> str:
    """The device id in a leaf, from its `spiffe` URI or its common name; empty when there is none."""
    if not chain:
        return ""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            if uri.startswith("spiffe://") and "/device/" in uri:
                return uri.rpartition("/device/")[2]
    except (x509.ExtensionNotFound, ValueError):
        pass
    common = chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else ""


def _restrict(context: ssl.SSLContext, request: Request) -> None:
    from sealmq.tls import policy

    if request.tls not in ("", "1.2", "1.3"):
        raise UsageError(f"TLS version {request.tls!r} cannot be chosen", mend="--tls takes 1.2 or 1.3")
    lowest = policy.MINIMUM_VERSION
    if request.legacy:
        # Python warns of what --legacy asks for
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
    else:
        context.minimum_version = lowest
    context.maximum_version = policy.MAXIMUM_VERSION
    if request.tls == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif request.tls == "1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    ciphers = request.ciphers or (LEGACY_CIPHERS if request.legacy else policy.OPENSSL_CIPHERS)
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError:
        raise UsageError(
            f"cipher list {ciphers!r} names no cipher this OpenSSL knows",
            mend="`openssl ciphers -v ALL:@SECLEVEL=0` lists them; those of TLS 1.3 cannot be chosen",
        ) from None


def _trust(context: ssl.SSLContext, ca: Path | None) -> tuple[tuple[str, str], ...] | None:
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return None
    from sealmq.trace.tls import certificates

    anchors = _certificates(ca, "CA file")
    context.load_verify_locations(cafile=ca)
    if b"-----BEGIN X509 CRL-----" in _read(ca, "CA file"):  # who puts one there wants it heeded
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return tuple((certificates.subject(anchor), certificates.key_ids(anchor)[0]) for anchor in anchors)


def _present(context: ssl.SSLContext, identity: Identity) -> list[x509.Certificate]:
    if identity.certificate is None:
        if identity.key is not None:
            raise UsageError("a key is named without a certificate", mend="give --cert FILE as well")
        return []
    chain = _certificates(identity.certificate, "client certificate")
    key = identity.key or identity.certificate
    _read(key, "key file")
    try:
        # an empty passphrase, so that OpenSSL does not ask for one on the terminal
        context.load_cert_chain(identity.certificate, key, password="")
    except ssl.SSLError as error:
        fits = error.reason != "KEY_VALUES_MISMATCH"
        what = "holds no private key without passphrase in PEM form" if fits else "does not belong to the certificate"
        raise ConfigError(
            f"key file {key} {what}", mend="use the key and the certificate of the same device", code="key-invalid"
        ) from error
    return chain


def _certificates(path: Path, what: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(_read(path, what))
    except ValueError as error:
        raise ConfigError(
            f"{what} {path} holds no certificate in PEM form", mend="check the path", code="certificate-invalid"
        ) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{what} {path} cannot be read: {(error.strerror or str(error)).lower()}",
            mend="check the path and the mode of the file",
            code="file-unreadable",
        ) from error


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)
