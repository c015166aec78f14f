"""TLS by Python's own `ssl`: the widest choice of versions and suites, for servers of every age.

It refuses to know sockets; bytes go through memory.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from sealmq.errors import ConfigError, UsageError
from sealmq.trace.live.endpoint import Closed, Failed, Waiting
from sealmq.trace.live.keytap import KeyTap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sealmq.trace.request import Identity, Request

LEGACY_CIPHERS = "ALL:COMPLEMENTOFDEFAULT:@SECLEVEL=0"
_PART = 1 << 16  # bytes


class SystemTls:
    """Makes endpoints of one `ssl.SSLContext`, whose key log it has while it lasts."""

    def __init__(self, request: Request) -> None:
        """Make the context of a request.

        Unlike `sealmq.tls.client_context` it takes certificates that a server will refuse: seeing that is what a trace
        is for. Raises `ConfigError` for files that cannot be used at all, `UsageError` for a list of ciphers that is
        none.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False  # RFC 9525, section 6.3
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        _restrict(context, request)
        _trust(context, request.identity)
        _present(context, request.identity)
        if request.offered_protocols:
            context.set_alpn_protocols(list(request.offered_protocols))
        self._context = context

    def __enter__(self) -> SystemTls:
        self._tap = KeyTap(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tap.close()

    def endpoint(self, server_name: str, session: object | None) -> SystemEndpoint:
        """The end of a connection to a server that is to be verified as `server_name`."""
        kept = session if isinstance(session, ssl.SSLSession) else None
        return SystemEndpoint(self._context, self._tap, server_name, kept)


class SystemEndpoint:
    """One `ssl.SSLObject`; methods as `Endpoint` has them."""

    def __init__(self, context: ssl.SSLContext, tap: KeyTap, server_name: str, session: ssl.SSLSession | None) -> None:
        """Nothing is said yet. `tap` is the key log of `context`."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name, session=session)
        self.secrets = tap.fresh
        self.take = self._outgoing.read

    def handshake(self) -> dict[str, Any]:
        """Go on with the handshake."""
        _asked(self._tls.do_handshake)
        cipher = self._tls.cipher()
        return {
            "version": self._tls.version() or "",
            "cipher": cipher[0] if cipher else "",
            "protocol": self._tls.selected_alpn_protocol() or "",
            "resumed": bool(self._tls.session_reused),
        }

    def read(self) -> bytes:
        """Application data."""
        data = bytes(_asked(lambda: self._tls.read(_PART)))
        if not data:
            raise Closed
        return data

    def write(self, data: bytes) -> None:
        """Encrypt application data."""
        _asked(lambda: self._tls.write(data))

    def close(self) -> None:
        """Say close_notify, and hear the server's."""
        _asked(self._tls.unwrap)

    def feed(self, record: bytes) -> None:
        """What came from the server."""
        self._incoming.write(record)

    @property
    def is_tls13(self) -> bool:
        """Whether TLS 1.3 was negotiated."""
        return self._tls.version() == "TLSv1.3"

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later connection can resume; in TLS 1.3 there once a ticket has come."""
        session = self._tls.session
        return session if session is not None and session.has_ticket else None


def _asked(act: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return act()
    except ssl.SSLWantReadError:
        raise Waiting from None
    except ssl.SSLZeroReturnError:
        raise Closed from None
    except ssl.SSLCertVerificationError as error:
        raise Failed(error.verify_code, error.verify_message) from None
    except ssl.SSLError as error:
        raise Failed(0, error.reason or "") from None


def _restrict(context: ssl.SSLContext, request: Request) -> None:
    from sealmq.tls import policy

    if request.legacy:
        # Python warns of what --legacy asks for
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
    else:
        context.minimum_version = policy.MINIMUM_VERSION
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


def _trust(context: ssl.SSLContext, identity: Identity) -> None:
    if identity.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    context.load_verify_locations(cafile=identity.ca)
    if identity.has_revocation_list:  # who puts one there wants it heeded
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    if identity.certificate is None:
        return
    key = identity.key or identity.certificate
    try:
        # an empty passphrase, so that OpenSSL does not ask for one on the terminal
        context.load_cert_chain(identity.certificate, key, password="")
    except ssl.SSLError as error:
        fits = error.reason != "KEY_VALUES_MISMATCH"
        what = "holds no private key without passphrase in PEM form" if fits else "does not belong to the certificate"
        raise ConfigError(
            f"key file {key} {what}", mend="use the key and the certificate of the same device", code="key-invalid"
        ) from error
