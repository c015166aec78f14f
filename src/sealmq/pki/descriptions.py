"""What is known of one object in a file: certificate, key, request, revocation list, or what cannot be read.

It knows nothing of how they are parsed (`inspect` does that) or shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealmq.pki.oddities import Oddity


@dataclass(frozen=True, slots=True)
class Described:
    """One object of a file. `position` counts the objects of that file from 1."""

    file: Path
    position: int
    oddities: tuple[Oddity, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class CertificateDescription(Described):
    """A certificate. Names are RFC 4514 strings, fingerprints and identifiers lower-case hex, times UTC.

    `names` are the subject alternative names as `DNS:…`, `IP:…`, `URI:…`; `path_length` None is unlimited.
    """

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    key: str
    signature: str
    names: tuple[str, ...]
    is_ca: bool
    path_length: int | None
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    subject_key_identifier: str
    authority_key_identifier: str
    sha256: str
    spki_sha256: str


@dataclass(frozen=True, slots=True)
class KeyDescription(Described):
    """A key; never the key itself. `key` and `spki_sha256` are empty for one under a passphrase that was not given."""

    key: str
    spki_sha256: str
    is_private: bool
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class RequestDescription(Described):
    """A certificate request (PKCS #10): what it asks for, which a CA may grant or not."""

    subject: str
    names: tuple[str, ...]
    wants_ca: bool
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    key: str
    signature: str
    spki_sha256: str


@dataclass(frozen=True, slots=True)
class CrlEntry:
    """One revoked certificate; `reason` is empty when none is given (RFC 5280, section 5.3.1)."""

    serial: str
    revoked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class CrlDescription(Described):
    """A revocation list; `revoked` counts its entries, `entries` are the first of them."""

    issuer: str
    last_update: datetime
    next_update: datetime | None
    number: int | None
    revoked: int
    entries: tuple[CrlEntry, ...]
    authority_key_identifier: str
    signature: str


@dataclass(frozen=True, slots=True)
class Unreadable(Described):
    """An object that is there but cannot be read: `label` is its PEM label or `DER`, `reason` what is wrong with it."""

    label: str
    reason: str
    mend: str


def as_json(item: Described) -> dict[str, Any]:
    """A description as JSON can carry it; `kind` says which one, times are ISO 8601, UTC."""
    kinds = {
        CertificateDescription: "certificate",
        KeyDescription: "key",
        RequestDescription: "request",
        CrlDescription: "crl",
        Unreadable: "unreadable",
    }
    result: dict[str, Any] = {"kind": kinds[type(item)]}
    for name in ("file", "position", *(name for name in type(item).__slots__)):
        result[name] = _plain(getattr(item, name))
    result["oddities"] = [{"slug": o.slug, "what": o.what, "why": o.why, "mend": o.mend} for o in item.oddities]
    return result


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, CrlEntry):
        return {"serial": value.serial, "revoked_at": _plain(value.revoked_at), "reason": value.reason}
    return value
