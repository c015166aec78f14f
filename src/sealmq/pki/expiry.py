"""Everything of a fleet that ends by itself: CAs, certificates of the broker, revocation lists, devices' certificates.

It knows nothing of who is told: it lists what there is by time left, and says when time is short.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sealmq.errors import SealmqError
from sealmq.pki import certfiles
from sealmq.pki.authority import State
from sealmq.pki.paths.facts import Facts
from sealmq.pki.profiles import RENEW_BELOW
from sealmq.pki.registry import CertificateStatus, DeviceStatus
from sealmq.pki.revocation import crl_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry


class Kind(enum.StrEnum):
    """What ends."""

    CA = "ca"
    """A root or an issuing CA of the fleet."""
    SERVER = "server"
    """A certificate that the broker shows."""
    CHAIN = "chain"
    """A CA that stands behind such a certificate in its file, and is not the fleet's own."""
    CLIENT_CA = "client-ca"
    """A foreign CA whose clients are let in."""
    CRL = "crl"
    """A revocation list: its end is when the next one is due."""
    DEVICE = "device"
    """The certificate of an active device, the one that lasts longest."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """One thing that ends. `file` is where it lies, empty for devices."""

    kind: Kind
    name: str
    begin: datetime
    end: datetime
    file: str = ""

    def left(self, now: datetime) -> timedelta:
        """Time left, below zero once it is over."""
        return self.end - now

    def due_below(self, thresholds: Iterable[timedelta]) -> list[timedelta]:
        """The thresholds that mean something for this one, the longest first."""
        return due_below(thresholds, life=self.end - self.begin)


def due_below(thresholds: Iterable[timedelta], *, life: timedelta) -> list[timedelta]:
    """The thresholds that mean something for what lasts `life`, the longest first.

    Nothing is said before a renewal can have failed, which is when a third of its life is left: a threshold of 30 days
    is no news for a certificate that lasts 30 days. Where no threshold remains, half of that third is one.
    """
    renewed_at = timedelta(seconds=round(life.total_seconds() * RENEW_BELOW))
    fitting = sorted({one for one in thresholds if one <= renewed_at}, reverse=True)
    return fitting or [renewed_at / 2]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What ends, the first to end first, and the files that should hold something and could not be read."""

    found: tuple[Expiring, ...]
    unreadable: tuple[str, ...] = ()


def inventory(
    folder: DataFolder, authority: Authority, registry: Registry, *, files: Sequence[tuple[Kind, Path]]
) -> Inventory:
    """All that is known; `files` are the certificates and lists that the configuration names."""
    found = [*_authorities(folder, authority), *_devices(registry)]
    unreadable = []
    own_list = crl_path(folder)
    for kind, path in [*files, *([(Kind.CRL, own_list)] if own_list.exists() else [])]:
        try:
            found.extend(_in_file(kind, path))
        except SealmqError:
            unreadable.append(str(path))
    once = {(one.kind, one.name, one.end): one for one in found}
    return Inventory(tuple(sorted(once.values(), key=lambda one: (one.end, one.kind, one.name))), tuple(unreadable))


def _authorities(folder: DataFolder, authority: Authority) -> Iterator[Expiring]:
    for member in authority.members:
        if member.entry.state is not State.DRAINED:
            yield _certificate(Kind.CA, member.certificate, str(folder.ca_dir / f"{member.entry.stem}.pem"))


def _devices(registry: Registry) -> Iterator[Expiring]:
    for device in registry.devices():
        if device.status != DeviceStatus.ACTIVE:
            continue
        live = [one for one in device.certificates if one.status != CertificateStatus.REVOKED]
        if live:
            last = max(live, key=lambda one: one.not_after)
            yield Expiring(Kind.DEVICE, device.id, last.not_before, last.not_after)


def _in_file(kind: Kind, path: Path) -> Iterator[Expiring]:
    if kind is Kind.CRL:
        for crl in certfiles.revocation_lists(path):
            if crl.next_update_utc is not None:
                yield Expiring(
                    kind, _plain(crl.issuer.rfc4514_string()), crl.last_update_utc, crl.next_update_utc, str(path)
                )
        return
    first, *others = certfiles.certificates(path)
    yield _certificate(kind, first, str(path))
    for certificate in others:
        yield _certificate(Kind.CHAIN if kind is Kind.SERVER else kind, certificate, str(path))


def _certificate(kind: Kind, certificate: x509.Certificate, file: str) -> Expiring:
    return Expiring(
        kind,
        _plain(Facts.of(certificate).label),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        file,
    )


def _plain(text: str) -> str:
    """A subject that is a common name and no more, without its prefix."""
    return text.removeprefix("CN=") if text.startswith("CN=") and "," not in text else text
