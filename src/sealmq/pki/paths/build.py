"""Which paths lead from a certificate to a trust anchor: depth first, with a budget, cross-signed ones included.

It knows nothing of whether a path is valid; only names, signatures and the set of anchors count here (RFC 4158).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from sealmq.pki.paths.facts import Facts, Link

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509

LONGEST_PATH = 10
"""Certificates, the anchor included; real ones have two to five."""

MOST_SIGNATURES = 200
"""Signatures checked for one question: who lays out a maze of cross-signed CAs must not choose the work."""


@dataclass(frozen=True)
class Candidate:
    """A path found. `links` says of each certificate but the last how its issuer's signature looks.

    When not `anchored`, `namesakes` are the certificates known under the name of the missing issuer whose key did not
    sign the last one.
    """

    path: tuple[Facts, ...]
    links: tuple[Link, ...]
    anchored: bool
    namesakes: tuple[Facts, ...] = ()


@dataclass
class Search:
    """One search; read `is_complete` when `candidates` is through."""

    anchors: Sequence[x509.Certificate]
    intermediates: Sequence[x509.Certificate]
    is_complete: bool = True
    _left: int = MOST_SIGNATURES
    _known: dict[x509.Name, list[Facts]] = field(default_factory=dict)
    _trusted: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        seen: set[bytes] = set()
        self._trusted = frozenset(_der(one) for one in self.anchors)
        for certificate in [*self.anchors, *self.intermediates]:  # anchors first: the shortest path is tried first
            if _der(certificate) not in seen:
                seen.add(_der(certificate))
                facts = Facts.of(certificate)
                self._known.setdefault(facts.subject, []).append(facts)

    def candidates(self, leaf: x509.Certificate) -> Iterator[Candidate]:
        """Every path upwards from `leaf`: those that end in an anchor, and those that lead nowhere."""
        yield from self._climb((Facts.of(leaf),), ())

    def _climb(self, path: tuple[Facts, ...], links: tuple[Link, ...]) -> Iterator[Candidate]:
        top = path[-1]
        if _der(top.certificate) in self._trusted:
            yield Candidate(path, links, anchored=True)
            return
        passed = {_identity(one) for one in path}
        namesakes, signers = [], []
        for parent in self._known.get(top.issuer, []):
            if _identity(parent) in passed:
                continue  # a path that meets a CA twice is a loop (RFC 4158, section 5.2)
            if self._left <= 0 or len(path) >= LONGEST_PATH:
                self.is_complete = False
                break
            self._left -= 1
            link = Link(top, parent)
            if link.is_good or link.reason:
                signers.append((parent, link))
            else:
                namesakes.append(parent)
        if not signers:
            yield Candidate(path, links, anchored=False, namesakes=tuple(namesakes))
        for parent, link in signers:
            yield from self._climb((*path, parent), (*links, link))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _identity(facts: Facts) -> tuple[x509.Name, bytes]:
    """A CA is its name and its key; several certificates may speak of one CA."""
    return facts.subject, facts.certificate.tbs_certificate_bytes if facts.key is None else _spki(facts)


def _spki(facts: Facts) -> bytes:
    return facts.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
