"""The connection that `pub` and `sub` ask for: URL, identity and client id from options and data folder.

It refuses to know what is done over it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.cli.app import Globals
    from sealmq.client.connection import Connection, Identity, Version
    from sealmq.client.target import Target

_VERSIONS: dict[str, Version] = {
    "5": "5.0",
    "5.0": "5.0",
    "mqttv5": "5.0",
    "311": "3.1.1",
    "3.1.1": "3.1.1",
    "mqttv311": "3.1.1",
}


@dataclass(frozen=True)
class Who:
    """The options that say who connects; `device` is the value of `--as`."""

    device: str | None
    client_id: str | None
    cafile: Path | None
    cert: Path | None
    key: Path | None


def qos(text: str | int) -> int:
    """The value of `-q`. Raises `typer.BadParameter` for what is not 0, 1 or 2."""
    import typer

    if str(text) not in ("0", "1", "2"):
        raise typer.BadParameter(f"{text!r} is not 0, 1 or 2")
    return int(text)


def connect(options: Globals, url: str, who: Who, *, version: str, role: str) -> Connection:
    """Connect for `role` (`pub` or `sub`). Raises `UsageError`, `NotSo` and what `Connection.open` raises."""
    from sealmq.client.connection import Connection
    from sealmq.client.target import Target

    if version not in _VERSIONS:
        raise UsageError(f"MQTT version {version!r} is not known", mend="-V takes 5 or 311")
    target = Target.parse(url)
    if target.is_plaintext:
        _allow_plaintext(options, target)
    identity, device = _identity(options, target, who)
    owner = device or ("sealmq" if identity.certificate else "anonymous")  # the names our broker knows them by
    client_id = who.client_id if who.client_id is not None else f"{owner}:{role}-{secrets.token_hex(2)}"
    return Connection.open(
        target, identity, client_id=client_id, version=_VERSIONS[version], allow_plaintext=target.is_plaintext
    )


def _allow_plaintext(options: Globals, target: Target) -> None:
    from sealmq.config.settings import load

    if not load(options.data / "sealmq.toml").config.dangerous.plaintext:
        raise UsageError(
            f"URL {target} has no TLS: whoever can listen on the way reads and changes everything",
            mend=f"use mqtts://, or set plaintext and anonymous under [dangerous] of {options.data}/sealmq.toml",
            code="plaintext-refused",
        )


def _identity(options: Globals, target: Target, who: Who) -> tuple[Identity, str]:
    from sealmq.client.connection import Identity

    if who.device is not None:
        if who.cert is not None or who.key is not None:
            raise UsageError("--as and --cert or --key name two identities", mend="give one of them")
        from sealmq.datafolder import DataFolder
        from sealmq.pki.operations import device_files

        files = device_files(DataFolder.open(options.data), who.device)
        return Identity.read(ca=who.cafile or files.ca, certificate=files.cert, key=files.key), who.device
    if target.is_plaintext:
        return Identity(), ""
    if who.cafile is None:
        raise UsageError(
            "no CA is named to verify the broker with",
            mend="give --as ID for a device of the data folder, or --cafile with --cert and --key",
        )
    identity = Identity.read(ca=who.cafile, certificate=who.cert, key=who.key)
    return identity, _device_of(identity.certificate)


def _device_of(pem: bytes | None) -> str:
    """The device id in a certificate, from its spiffe URI or its common name; empty when there is none."""
    if pem is None:
        return ""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
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
