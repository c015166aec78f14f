"""As whom a trace connects and whom it believes: files as they were given, read and checked.

It refuses to connect with them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealmq.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

    from sealmq.tls.presharedkey import Psk

_CRL = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Identity:
    """Files as given: `ca` None is the system's store; `certificate` and `key` None is no certificate. With `psk` there
    are no certificates at all."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    psk: Psk | None = None

    @property
    def has_revocation_list(self) -> bool:
        """Whether one stands in the CA file: who puts one there wants it heeded."""
        return self.ca is not None and _CRL in _read(self.ca, "CA file")

    def anchors(self) -> tuple[tuple[str, str], ...] | None:
        """The trusted certificates as (subject, key identifier); None for the system's. Raises `ConfigError`."""
        from sealmq.trace.tls import certificates

        if self.ca is None:
            return None
        found = _certificates(self.ca, "CA file")
        return tuple((certificates.subject(anchor), certificates.key_ids(anchor)[0]) for anchor in found)

    def chain(self) -> list[x509.Certificate]:
        """The client's certificates, leaf first. Raises `ConfigError`, and `UsageError` for half a pair."""
        if self.certificate is None:
            if self.key is not None:
                raise UsageError("a key is named without a certificate", mend="give --cert FILE as well")
            return []
        found = _certificates(self.certificate, "client certificate")
        _read(self.key or self.certificate, "key file")
        return found

    def times(self) -> tuple[tuple[str, str], ...]:
        """Signed times in the files that have come already, each with what says so; a clock before one is behind."""
        from cryptography import x509

        found = [("this client's certificate is valid since", one.not_valid_before_utc) for one in self.chain()[:1]]
        if self.ca is not None:
            pem = _read(self.ca, "CA file")
            anchors = x509.load_pem_x509_certificates(pem)
            lists = [x509.load_pem_x509_crl(_CRL + part) for part in pem.split(_CRL)[1:]]
            found += [("a CA that is trusted here exists since", anchor.not_valid_before_utc) for anchor in anchors]
            found += [("a revocation list here was signed on", one.last_update_utc) for one in lists]
        return tuple((what, when.isoformat()) for what, when in found)

    def trust(self) -> dict[str, Any]:
        """The trust anchors and revocation lists in the shape of `trust` of a `_engine.TlsPeer`."""
        system = ssl.get_default_verify_paths().cafile
        if self.ca is None and system is None:
            raise ConfigError("this machine has no store of CAs", mend="name a CA with --cafile", code="ca-missing")
        pem = _read(self.ca or Path(system or ""), "CA file").decode("ascii", "replace")
        crls = pem if _CRL.decode() in pem else ""
        return {"ca_pem": pem, "is_system_store": self.ca is None, "crls_pem": crls}


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
