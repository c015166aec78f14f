"""`ssl.SSLContext`s that keep the policy, and refuse at once the files that a handshake would only fail on later.

It knows nothing of sockets or of the data folder; it is given paths.

What Python's `ssl` cannot enforce, and the listeners of the broker do:

* the groups: up to Python 3.14 there is no way to set them, so OpenSSL's own list is offered (X25519 and P-256 lead
  everywhere; X25519MLKEM768 only with OpenSSL 3.5 or later),
* the cipher suites of TLS 1.3: OpenSSL's default ones, all of them AEAD,
* that there is a name to check: `wrap_socket` insists on `server_hostname`, `wrap_bio` without one checks no name,
* revocation: nothing is looked up; the broker refuses what its registry has revoked.
"""

from __future__ import annotations

import enum
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.errors import ConfigError, LocalMisuse
from sealmq.tls import policy

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

StrPath = str | os.PathLike[str]


class ClientCertificate(enum.Enum):
    """Whether a server asks clients for a certificate, and what becomes of those without."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


def client_context(
    *,
    ca: StrPath | None,
    certificate: StrPath | None = None,
    key: StrPath | None = None,
    tls_version: policy.Version | None = None,
) -> ssl.SSLContext:
    """A context for a client: TLS 1.2 or 1.3, or `tls_version` alone, AEAD only, the server verified against `ca` and
    by name.

    `ca` is a PEM file with the certificates to trust, and nothing else is trusted; None stands for the public CAs that
    this machine trusts. `certificate` is a PEM file with the client's chain, leaf first; `key` its private key, by
    default looked for in `certificate`. The name is matched against the subject alternative names alone (RFC 9525),
    never the common name; pass it as `server_hostname`. Groups, TLS 1.3 suites and revocation are not in the hands of
    a context (see the module), nor are pins and tickets; `sealmq.Client` has all of them.

    Raises `ConfigError` when a file is missing, cannot be read, holds something else, has expired, is not meant for
    clients, or when key and certificate do not belong together; `LocalMisuse` for a key without a certificate.
    """
    if key is not None and certificate is None:
        raise LocalMisuse("client context was given a key without a certificate", mend="pass certificate= as well")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply_policy(context)
    if tls_version is not None:
        context.minimum_version = context.maximum_version = policy.VERSIONS[tls_version]
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, Path(ca))
    if certificate is not None:
        _load_identity(context, Path(certificate), Path(key) if key is not None else None, _CLIENT)
    return context


def server_context(
    *,
    certificate: StrPath,
    key: StrPath,
    client_ca: StrPath | None = None,
    client_certificate: ClientCertificate = ClientCertificate.REQUIRED,
) -> ssl.SSLContext:
    """A context for a server: TLS 1.2 or 1.3, AEAD only, client certificates required unless said otherwise.

    `certificate` is a PEM file with the server's chain, leaf first; `key` its private key; `client_ca` a PEM file with
    the certificates that clients are verified against, needed unless `client_certificate` is `NONE`. A client that has
    been verified still has to be recognised: look at `getpeercert()` for who it is.

    Raises `ConfigError` as `client_context` does, `LocalMisuse` when `client_ca` is missing or would be ignored.
    """
    wants = client_certificate is not ClientCertificate.NONE
    if wants and client_ca is None:
        raise LocalMisuse(
            "server context has no client_ca to verify client certificates against",
            mend="pass client_ca=, or client_certificate=ClientCertificate.NONE to let anybody in",
        )
    if not wants and client_ca is not None:
        raise LocalMisuse(
            "server context was given a client_ca but asks for no client certificate",
            mend="leave client_ca out, or choose ClientCertificate.REQUIRED",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply_policy(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_identity(context, Path(certificate), Path(key), _SERVER)
    if client_ca is not None:
        _trust(context, Path(client_ca))
        required = client_certificate is ClientCertificate.REQUIRED
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    usage: str  # dotted OID


_CLIENT = _Side("client", "1.3.6.1.5.5.7.3.2")
_SERVER = _Side("server", "1.3.6.1.5.5.7.3.1")
_ANY_USAGE = "2.5.29.37.0"


def _apply_policy(context: ssl.SSLContext) -> None:
    context.minimum_version = policy.MINIMUM_VERSION
    context.maximum_version = policy.MAXIMUM_VERSION
    context.set_ciphers(policy.OPENSSL_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # what the user names as trusted is an anchor, also when it is an issuing CA and not its root
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False


def _trust(context: ssl.SSLContext, path: Path) -> None:
    certificates = _certificates(path, "CA file")
    now = _now()
    if all(certificate.not_valid_after_utc < now for certificate in certificates):
        raise ConfigError(
            f"CA file {path} holds nothing but expired certificates",
            mend="get the present CA file from whoever runs the other side, or check the clock",
            code="ca-expired",
        )
    context.load_verify_locations(cafile=path)


def _load_identity(context: ssl.SSLContext, path: Path, key_path: Path | None, side: _Side) -> None:
    leaf = _certificates(path, f"{side.name} certificate")[0]
    _check_leaf(leaf, path, side)
    key_file = key_path or path
    _check_key(leaf, path, key_file)
    try:
        context.load_cert_chain(path, key_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{side.name} certificate {path} is not accepted by the TLS library: {error.strerror or error}",
            mend="use a P-256 key, or RSA with at least 2048 bits, and SHA-256 signatures",
            code="certificate-refused",
        ) from error


def _check_leaf(leaf: x509.Certificate, path: Path, side: _Side) -> None:
    from cryptography import x509

    now = _now()
    if leaf.not_valid_after_utc < now:
        raise ConfigError(
            f"{side.name} certificate {path} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            mend="get a new certificate, or check the clock",
            code="certificate-expired",
        )
    if leaf.not_valid_before_utc > now:
        raise ConfigError(
            f"{side.name} certificate {path} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            mend="check the clock of this machine",
            code="certificate-not-yet-valid",
        )
    try:
        usages = {oid.dotted_string for oid in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
    except x509.ExtensionNotFound:
        return  # no restriction (RFC 5280, 4.2.1.12)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ConfigError(
            f"{side.name} certificate {path} is malformed: {error}", code="certificate-invalid"
        ) from error
    if not usages & {side.usage, _ANY_USAGE}:
        raise ConfigError(
            f"{side.name} certificate {path} is not meant for {side.name}s by its extended key usage",
            mend=f"use a certificate issued for a {side.name}",
            code="certificate-usage",
        )


def _check_key(leaf: x509.Certificate, path: Path, key_path: Path) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(key_path, "key file"), password=None)
    except TypeError as error:  # OpenSSL would ask on the terminal
        raise ConfigError(
            f"key file {key_path} is protected by a passphrase",
            mend=f"store it without: openssl pkey -in {key_path} -out plain.pem, mode 0600",
            code="key-encrypted",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"key file {key_path} holds no private key in PEM form", mend="check the path", code="key-invalid"
        ) from error
    if key.public_key() != leaf.public_key():
        raise ConfigError(
            f"key file {key_path} does not belong to certificate {path}",
            mend="use the key and the certificate of the same device, the leaf first in its file",
            code="key-mismatch",
        )


def _certificates(path: Path, what: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(_read(path, what))
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigError(
            f"{what} {path} holds no certificate in PEM form",
            mend="check the path; a DER file becomes PEM with: openssl x509 -inform der -in FILE -out FILE.pem",
            code="certificate-invalid",
        ) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{what} {path} cannot be read: {(error.strerror or str(error)).lower()}",
            mend="check the path and the mode of the file",
            code="file-unreadable",
        ) from error


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
