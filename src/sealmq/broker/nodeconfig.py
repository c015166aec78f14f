"""What the data plane is started with: settings, rules and certificates laid out as one `NodeConfig`.

It refuses to start anything; files are read, nothing is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealmq.config import rules as rule_file
from sealmq.config.address import Address
from sealmq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority


@dataclass(frozen=True)
class Material:
    """The certificates in force: PEM for the data plane, files for the HTTPS door.

    `built_in` says whether the broker's own CA issued the server certificate.
    """

    certificate_chain_pem: bytes
    private_key_pem: bytes
    client_ca_pem: bytes
    certificate_file: Path
    key_file: Path
    client_ca_file: Path
    built_in: bool

    def __repr__(self) -> str:
        return f"Material(certificate_file={str(self.certificate_file)!r}, private_key_pem=<redacted>)"


def material(settings: Settings, folder: DataFolder, authority: Authority) -> Material:
    """The files that `[tls]` names, or those of the built-in CA. Raises `ConfigError` for an unreadable file."""
    certificate, key = settings.path("tls.certificate"), settings.path("tls.key")
    client_ca = settings.path("tls.client_ca")
    client_ca_file = client_ca or folder.ca_dir / "devices.pem"
    trusted = authority.client_ca_pem() if client_ca is None else _read(client_ca, "tls.client_ca")
    if certificate is not None and key is not None:
        chain, private = _read(certificate, "tls.certificate"), _read(key, "tls.key")
        return Material(chain, private, trusted, certificate, key, client_ca_file, built_in=False)
    bundle = authority.ensure_server_certificate(server_names(settings))
    chain_file, key_file = folder.server_dir / "cert.pem", folder.server_dir / "key.pem"
    return Material(bundle.cert_chain_pem, bundle.key_pem, trusted, chain_file, key_file, client_ca_file, built_in=True)


def server_names(settings: Settings) -> list[str]:
    """Names the server certificate needs beyond the usual ones: `tls.extra_names` and the hosts listened on."""
    listen = settings.config.listen
    addresses = [Address.parse(text) for text in [*listen.mqtts, listen.wss, listen.https] if text]
    hosts = [address.host for address in addresses if not address.is_every_interface()]
    return list(dict.fromkeys([*settings.config.tls.extra_names, *hosts]))


def listeners(settings: Settings) -> list[dict[str, str]]:
    """The data plane's listeners in the order of the `ready` lines."""
    listen, dangerous = settings.config.listen, settings.config.dangerous
    found = [{"kind": "mqtts", "address": address} for address in listen.mqtts]
    if listen.wss:
        found.append({"kind": "wss", "address": listen.wss})
    if dangerous.plaintext:
        found.append({"kind": "plaintext", "address": dangerous.plaintext})
    return found


def rules_path(settings: Settings, folder: DataFolder) -> Path | None:
    """The rule file in force: the one that `rules.file` names, else `rules.toml` in the data folder, else None."""
    named = settings.path("rules.file")
    if named is not None:
        return named
    return folder.rules_path if folder.rules_path.exists() else None


def compose(settings: Settings, folder: DataFolder, certificates: Material, version: str) -> str:
    """The `NodeConfig` as JSON. Raises `ConfigError` when the rule file is not whole."""
    rules = rule_file.load_rules(rules_path(settings, folder))
    dangerous = settings.config.dangerous
    config: dict[str, Any] = {
        "listeners": listeners(settings),
        "tls": {
            "certificate_chain_pem": _text(certificates.certificate_chain_pem, "tls.certificate"),
            "private_key_pem": _text(certificates.private_key_pem, "tls.key"),
            "client_ca_pem": _text(certificates.client_ca_pem, "tls.client_ca"),
        },
        "fleet": folder.fleet,
        "rules": rule_file.for_engine(rules),
        "dangerous": {
            "anonymous": dangerous.anonymous,
            "any_client_id": dangerous.any_client_id,
            "allow_all": dangerous.allow_all,
        },
        "limits": settings.config.limits.model_dump(),
        "version": version,
    }
    return json.dumps(config)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        mend = "check the path" if isinstance(error, FileNotFoundError) else "check its type, owner and mode"
        raise ConfigError(f"{setting} = {path} cannot be read: {reason}", mend=mend, code="file-unreadable") from None


def _text(pem: bytes, setting: str) -> str:
    try:
        return pem.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{setting} is not PEM: it holds bytes that are not ASCII",
            mend="convert it: openssl x509 -inform DER -in FILE -out FILE.pem",
            code="certificate-invalid",
        ) from None
