"""Whom a client believes and what it shows: trust anchors, revocation lists, pins, its certificate with the key.

It refuses to verify anything; the data plane does, in the handshake.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealmq.errors import ConfigError, UsageError

_BUNDLE = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
_CERTIFICATE_FILES = (".pem", ".crt", ".cer", ".0")
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")  # RFC 7468, section 3


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file is to hold: one of `blocks` (labels of PEM); `tool` is the verb of openssl for it."""

    what: str
    blocks: tuple[str, ...]
    code: str
    tool: str


_CA = _Content("CA file", ("CERTIFICATE",), "ca-invalid", "x509")
_CERTIFICATE = _Content("client certificate", ("CERTIFICATE",), "certificate-invalid", "x509")
_KEY = _Content("client key", ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"), "key-invalid", "pkey")
_CRL = _Content("revocation list", ("X509 CRL",), "crl-invalid", "crl")


@dataclass(frozen=True)
class Identity:
    """Trust anchors for the server (`ca`), and the client's certificate with its key; PEM throughout.

    `crls` are revocation lists: a server on one of them is refused, and so is one that none of them speaks of. `pins`
    are SHA-256 hashes (hex) of SubjectPublicKeyInfos, one of which has to be in the server's verified chain; two at
    least, so that a lost key does not lose the fleet. Prints without the key.
    """

    ca: bytes = b""
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    crls: bytes = b""
    pins: tuple[str, ...] = ()
    is_system: bool = field(default=False, kw_only=True)
    dangers: frozenset[str] = field(default=frozenset(), init=False)
    """What `sealmq.dangerous` has switched off."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for half a pair, for a single pin, and for a pin that is none."""
        _check_pair(self.certificate, self.key)
        if self.pins:
            from sealmq.tls.pins import checked

            object.__setattr__(self, "pins", checked(self.pins))

    @classmethod
    def read(
        cls,
        *,
        ca: Path | None,
        certificate: Path | None = None,
        key: Path | None = None,
        crl: Path | None = None,
        pins: tuple[str, ...] = (),
    ) -> Identity:
        """Read the files; `ca` may be a folder of certificates too.

        Raises `ConfigError` naming the file that cannot be read or does not hold what it is given for.
        """
        _check_pair(certificate, key)
        return cls(
            b"" if ca is None else _anchors(ca),
            None if certificate is None else _pem(certificate, _CERTIFICATE),
            None if key is None else _pem(key, _KEY),
            b"" if crl is None else _pem(crl, _CRL),
            pins,
        )

    @classmethod
    def bundle(cls, folder: Path) -> Identity:
        """The folder that `sealmq device add` writes: `ca.pem`, `cert.pem`, `key.pem`, and `pins.txt` if any."""
        files = {name: folder / file for name, file in _BUNDLE.items()}
        listed = folder / "pins.txt"
        pins: tuple[str, ...] = ()
        if listed.exists():
            from sealmq.tls.pins import read_list

            pins = read_list(listed)
        return cls.read(ca=files["ca"], certificate=files["certificate"], key=files["key"], pins=pins)

    @classmethod
    def system(cls, *, certificate: Path | None = None, key: Path | None = None) -> Identity:
        """Trust the public CAs that this machine trusts. Raises `ConfigError` when it has none."""
        paths = ssl.get_default_verify_paths()
        for place in (paths.cafile, paths.capath):
            if place is not None and (found := _anchors(Path(place), is_empty_allowed=True)):
                return cls(
                    found,
                    None if certificate is None else _pem(certificate, _CERTIFICATE),
                    None if key is None else _pem(key, _KEY),
                    is_system=True,
                )
        raise ConfigError(
            "this machine has no store of public CAs",
            mend="install one (Debian: ca-certificates), or name the CA of the broker",
            code="ca-missing",
        )

    @property
    def device(self) -> str:
        """The device id in the certificate, from its spiffe URI or its common name; empty when there is none."""
        if self.certificate is None:
            return ""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        try:
            leaf = x509.load_pem_x509_certificates(self.certificate)[0]
        except ValueError:
            return ""  # the data plane says what is wrong with it
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except x509.ExtensionNotFound:
            uris = []
        for uri in uris:
            if uri.startswith("spiffe://") and "/device/" in uri:
                return uri.rpartition("/device/")[2]
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else ""

    def as_config(self) -> dict[str, Any]:
        """Its part of the configuration that `_engine.Client.open` takes."""
        return {
            "trust": {
                "ca_pem": _text(self.ca),
                "is_system_store": self.is_system,
                "crls_pem": _text(self.crls),
                "pins": list(self.pins),
                "dangerous_unverified": "unverified" in self.dangers,
            },
            "certificate_pem": None if self.certificate is None else _text(self.certificate),
            "key_pem": None if self.key is None else _text(self.key),
            "allow_plaintext": "plaintext" in self.dangers,
        }


def _check_pair(certificate: object | None, key: object | None) -> None:
    if (certificate is None) != (key is None):
        raise UsageError("certificate and key go together", mend="give both --cert and --key")


def _anchors(path: Path, *, is_empty_allowed: bool = False) -> bytes:
    """The certificates in a file, or in the files of a folder, each once."""
    if not path.is_dir():
        return (_file(path) if path.exists() else b"") if is_empty_allowed else _pem(path, _CA)
    files = {one.resolve() for one in path.iterdir() if one.suffix in _CERTIFICATE_FILES}
    found = b"\n".join(content for one in sorted(files) if b"BEGIN CERTIFICATE" in (content := _file(one)))
    if not found and not is_empty_allowed:
        raise ConfigError(
            f"folder {path} holds no certificate in PEM form",
            mend="name a folder of .pem or .crt files, or a file",
            code="ca-missing",
        )
    return found


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"file {path} cannot be read: {reason}", mend="check path, owner and mode") from None


def _pem(path: Path, content: _Content) -> bytes:
    found = _file(path)
    labels = list(dict.fromkeys(label.decode() for label in _BEGIN.findall(found)))
    if not set(labels).isdisjoint(content.blocks):
        return found
    block = content.blocks[0]
    has_key = any(label.endswith("PRIVATE KEY") for label in labels)
    held, mend = f"it holds {', '.join(labels)}", f"give a PEM file with a {block} block"
    if not labels:
        held = "it is not PEM" if found else "it is empty"
        mend = f"convert it: openssl {content.tool} -inform DER -in FILE -out FILE.pem" if found else mend
    elif (content is _CERTIFICATE and has_key) or (content is _KEY and "CERTIFICATE" in labels):
        mend = "give the certificate with --cert, and its key with --key"
    elif content is _KEY and has_key:
        mend = "take its passphrase off: openssl pkey -in FILE -out FILE.pem"
    raise ConfigError(f"{content.what} {path} has no {block} block: {held}", mend=mend, code=content.code)


def _text(pem: bytes) -> str:
    try:
        return pem.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(
            "a certificate or key file is not PEM: it holds bytes that are not ASCII",
            mend="convert it: openssl x509 -inform DER -in FILE -out FILE.pem",
        ) from None
