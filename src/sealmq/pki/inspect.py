"""What is in files of certificates, chains, requests, keys and revocation lists, with what is odd about each.

It knows nothing of trust: it says what is in a file, not whether a peer would accept it (`paths` does).
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.pki import certfiles, oddities
from sealmq.pki.describe import (
    describe_certificate,
    describe_crl,
    describe_private_key,
    describe_public_key,
    describe_request,
)
from sealmq.pki.descriptions import CertificateDescription, Described, KeyDescription, Unreadable
from sealmq.pki.malformed import MALFORMED, reason
from sealmq.pki.oddities import Oddity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509


def inspect_files(
    paths: Iterable[Path], *, now: datetime | None = None, passphrase: bytes | None = None
) -> list[Described]:
    """What is in the files, PEM, DER, PKCS #7 or PKCS #12, in order, each with what is odd about it at `now`.

    `passphrase` opens keys and PKCS #12 stores that are under one. Oddities that need several objects (a key that fits
    no certificate, a chain out of order) are at the object to mend. Raises what `certfiles.pieces` does.
    """
    now = now or datetime.now(UTC)
    found: list[Described] = []
    chains: dict[Path, list[x509.Certificate]] = {}
    for path in map(Path, paths):
        for position, piece in enumerate(certfiles.pieces(path, passphrase=passphrase), start=1):
            chain = chains.setdefault(path, [])
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # pyca warns of what is reported as an oddity here
                    found.append(_describe(path, position, piece, now, chain, passphrase))
            except MALFORMED as error:
                mend = "get the file anew from where it came"
                found.append(Unreadable(path, position, _label(piece), reason(error), mend))
    return [_with_others(item, found, chains) for item in found]


def _describe(
    path: Path,
    position: int,
    piece: certfiles.Piece,
    now: datetime,
    chain: list[x509.Certificate],
    passphrase: bytes | None,
) -> Described:
    match piece.label:
        case certfiles.CERTIFICATE:
            certificate = certfiles.load_certificate(piece)
            described = describe_certificate(path, position, certificate, now)
            chain.append(certificate)
            return described
        case certfiles.REQUEST:
            return describe_request(path, position, piece.data)
        case certfiles.CRL:
            return describe_crl(path, position, certfiles.load_crl(piece), now)
        case certfiles.PRIVATE_KEY:
            return describe_private_key(path, position, piece, passphrase)
        case certfiles.PUBLIC_KEY:
            return describe_public_key(path, position, piece)
        case certfiles.PKCS12:
            return _shut_store(path, position, was_tried=passphrase is not None)
    why, mend = "not a kind of object that is read here", "give certificates, requests, keys and revocation lists"
    return Unreadable(path, position, _label(piece), why, mend)


def _shut_store(path: Path, position: int, *, was_tried: bool) -> Unreadable:
    if was_tried:
        why, mend = "the passphrase does not open it", "check the first line of the file after --passphrase-file"
    else:
        why = "it is under a passphrase, or damaged"
        mend = "write the passphrase into the first line of a file, and give it with --passphrase-file FILE"
    return Unreadable(path, position, "PKCS #12 store", why, mend)


def _label(piece: certfiles.Piece) -> str:
    return f"DER {piece.label}" if piece.is_der else piece.label


def _with_others(item: Described, found: list[Described], chains: dict[Path, list[x509.Certificate]]) -> Described:
    if isinstance(item, CertificateDescription):
        if item is next(
            other for other in found if isinstance(other, CertificateDescription) and other.file == item.file
        ):
            return replace(item, oddities=(*item.oddities, *oddities.of_order(chains[item.file])))
        return item
    certificates = {other.spki_sha256 for other in found if isinstance(other, CertificateDescription)}
    if isinstance(item, KeyDescription) and certificates and item.spki_sha256 not in {"", *certificates}:
        stray = Oddity(
            "key-mismatch",
            "the key belongs to none of the certificates",
            "a handshake with this pair fails",
            "use the key that the certificate was requested with, or request a new certificate",
        )
        return replace(item, oddities=(*item.oddities, stray))
    return item
