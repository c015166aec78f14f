"""Which certificates a broker shows and trusts: the files that `[tls]` names, the built-in CA's, the public one's.

It refuses to judge them and to know when they change; `soundness` and `watch` do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sealmq.config.address import Address
from sealmq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority


PUBLIC = "public certificate (ACME)"
"""The `setting` of the identity that ACME got."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that the broker shows, with its chain and key as PEM; `setting` names it in errors."""

    setting: str
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Material:
    """One generation of certificates, in force together: PEM for the data plane, files for the HTTPS door.

    `server` is shown to whoever asks for no other name, `also` by SNI (RFC 6066, section 3). `built_in` says whether
    the broker's own CA issued `server`. The CRLs are those of foreign CAs, empty when there are none.
    """

    server: Identity
    also: tuple[Identity, ...]
    client_ca_pem: bytes = field(repr=False)
    client_crls_pem: bytes = field(repr=False)
    built_in: bool

    def identities(self) -> tuple[Identity, ...]:
        """All that the broker shows, the default first."""
        return (self.server, *self.also)


def read(settings: Settings, folder: DataFolder, authority: Authority, public: Identity | None = None) -> Material:
    """The files as they are now; the certificate of the built-in CA is renewed when it is due.

    `public` is the certificate that ACME got, None while there is none that can be shown: then the built-in one names
    what ACME is to certify. Raises `ConfigError` with code `file-unreadable`, `Environment` when a file cannot be
    written.
    """
    crl = settings.path("tls.crl")
    client_ca = settings.path("tls.client_ca")
    server = _given_server(settings)
    also = [_identity(setting, *paths) for setting, paths in _further(settings)]
    if public is not None:
        also.append(public)
    return Material(
        server=server or _built_in(settings, folder, authority, public),
        also=tuple(also),
        client_ca_pem=authority.client_ca_pem() if client_ca is None else _read(client_ca, "tls.client_ca"),
        client_crls_pem=b"" if crl is None else _read(crl, "tls.crl"),
        built_in=server is None,
    )


def renewed(
    material: Material, settings: Settings, folder: DataFolder, authority: Authority, public: Identity | None
) -> Material:
    """`material` with what the built-in CA and ACME have now; the files of others stay in it as they were taken.

    Raises `Environment` when the built-in certificate is due and cannot be written.
    """
    others = tuple(one for one in material.also if one.setting != PUBLIC)
    return replace(
        material,
        server=_built_in(settings, folder, authority, public) if material.built_in else material.server,
        also=others if public is None else (*others, public),
        client_ca_pem=material.client_ca_pem if settings.path("tls.client_ca") else authority.client_ca_pem(),
    )


def files(settings: Settings) -> list[Path]:
    """The files that others write and a broker watches, whether they are there or not."""
    named = [settings.path(f"tls.{name}") for name in ("certificate", "key", "client_ca", "crl")]
    further = [path for _, paths in _further(settings) for path in paths]
    return [path for path in [*named, *further] if path is not None]


def _given_server(settings: Settings) -> Identity | None:
    certificate, key = settings.path("tls.certificate"), settings.path("tls.key")
    if certificate is None or key is None:
        return None
    return _identity("tls.certificate", certificate, key)


def _built_in(settings: Settings, folder: DataFolder, authority: Authority, public: Identity | None) -> Identity:
    asked = settings.config.tls.acme.names
    wanted, elsewhere = (asked, []) if public is None else ([], asked)
    made = authority.ensure_server_certificate([*_own_names(settings), *wanted], not_for=elsewhere)
    files = (folder.server_dir / "cert.pem", folder.server_dir / "key.pem")
    return Identity("built-in server certificate", made.cert_chain_pem, made.key_pem, *files)


def _own_names(settings: Settings) -> Sequence[str]:
    """What the built-in certificate names beside this machine: `tls.extra_names` and the hosts listened on."""
    listen = settings.config.listen
    addresses = [Address.parse(text) for text in [*listen.mqtts, listen.wss, listen.https] if text]
    hosts = [address.host for address in addresses if not address.is_every_interface()]
    return list(dict.fromkeys([*settings.config.tls.extra_names, *hosts]))


def _further(settings: Settings) -> Iterator[tuple[str, tuple[Path, Path]]]:
    for number, entry in enumerate(settings.config.tls.also, start=1):
        certificate = settings.resolve("tls.also", entry.certificate)
        key = settings.resolve("tls.also", entry.key)
        if certificate is None or key is None:
            raise ConfigError(
                f"tls.also number {number} names no {'certificate' if certificate is None else 'key'}",
                mend="give both files, or remove the table",
                code="config-incomplete",
            )
        yield f"tls.also number {number}", (certificate, key)


def _identity(setting: str, certificate: Path, key: Path) -> Identity:
    key_setting = "tls.key" if setting == "tls.certificate" else f"key of {setting}"
    return Identity(setting, _read(certificate, setting), _read(key, key_setting), certificate, key)


def _read(path: Path, setting: str) -> bytes:
    try:
        found = path.read_bytes()
        found.decode("ascii")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        mend = "check the path" if isinstance(error, FileNotFoundError) else "check its type, owner and mode"
        raise ConfigError(f"{setting} = {path} cannot be read: {reason}", mend=mend, code="file-unreadable") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{setting} = {path} is not PEM: it holds bytes that are not ASCII",
            mend="convert it: openssl x509 -inform DER -in FILE -out FILE.pem",
            code="certificate-invalid",
        ) from None
    return found
