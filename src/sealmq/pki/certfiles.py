"""Files of certificates and the like, taken apart into their objects: PEM, DER, PKCS #7 and PKCS #12.

It knows nothing of what an object says; whoever asks parses it.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from sealmq.errors import ConfigError, NotSo, UsageError
from sealmq.pki import keys
from sealmq.pki.malformed import MALFORMED, reason
from sealmq.secretfiles import is_exposed, raise_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes; a revocation list of 100,000 entries has 4 MB, everything else is smaller."""

CERTIFICATE, REQUEST, CRL, PRIVATE_KEY, PUBLIC_KEY, PKCS12 = (
    "CERTIFICATE",
    "CERTIFICATE REQUEST",
    "X509 CRL",
    "PRIVATE KEY",
    "PUBLIC KEY",
    "PKCS12",
)
_SYNONYMS = {"X509 CERTIFICATE": CERTIFICATE, "TRUSTED CERTIFICATE": CERTIFICATE, "NEW CERTIFICATE REQUEST": REQUEST}
_IGNORED = {"EC PARAMETERS", "DH PARAMETERS"}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s.*?-----END \1-----", re.DOTALL)
_DER = serialization.Encoding.DER


@dataclass(frozen=True, slots=True)
class Piece:
    """One object of a file: `label` as PEM writes it, `data` the PEM block or, when `is_der`, the DER form.

    A `PKCS12` piece is a store that could not be opened, because there was no passphrase or a wrong one.
    """

    label: str
    data: bytes = field(repr=False)
    is_der: bool


def read(path: Path) -> bytes:
    """The content of a file. Raises `Environment` when it cannot be read, `UsageError` when it is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise_environment(error, path, doing="read")
    if len(data) > LARGEST_FILE:
        raise UsageError(f"file {path} is larger than {LARGEST_FILE // 1024 // 1024} MiB", mend="check the path")
    return data


def read_passphrase(path: Path) -> bytes:
    """The first line of a file that holds a passphrase. Raises `ConfigError` when it is empty or longer than 1 KiB."""
    line = read(path).split(b"\n", 1)[0].removesuffix(b"\r")
    if not 0 < len(line) <= 1024:
        raise ConfigError(
            f"passphrase file {path} holds no passphrase in its first line",
            mend="write it there, without quotes",
            code="passphrase-missing",
        )
    return line


def is_open_to_others(path: Path) -> bool:
    """Whether others on this machine can read a file of secrets; False for what is no file, such as a pipe."""
    return path.is_file() and is_exposed(path)


def pieces(path: Path, *, passphrase: bytes | None = None) -> list[Piece]:
    """The objects in a file, in order. A PKCS #12 store is opened with `passphrase`, or without one where none is set.

    Raises what `read` does, and `NotSo` with code `nothing-recognised` when the file holds none of all these.
    """
    data = read(path)
    blocks = [(match[1].decode(), match[0]) for match in _PEM.finditer(data)]
    found: list[Piece] = []
    for label, block in blocks:
        if label == "PKCS7":
            found.extend(_certificates(pkcs7.load_pem_pkcs7_certificates, block))
        elif label not in _IGNORED:
            found.append(_pem_piece(label, block))
    if not found and not blocks:
        found = list(_der_pieces(data, passphrase))
    if not found:
        raise NotSo(
            f"file {path} holds no certificate, request, key or revocation list",
            mend="give a PEM, DER, PKCS #7 or PKCS #12 file",
            code="nothing-recognised",
        )
    return found


def certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file, in order; keys beside them are passed over.

    Raises what `pieces` does, and `ConfigError` with code `certificate-invalid` when there is none or one of them
    cannot be parsed.
    """
    found = [piece for piece in pieces(path) if piece.label == CERTIFICATE]
    try:
        loaded = [load_certificate(piece) for piece in found]
    except MALFORMED as error:
        raise _invalid(path, f"holds a certificate that cannot be parsed: {reason(error)}") from error
    if not loaded:
        raise _invalid(path, "holds no certificate")
    return loaded


def revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    """The revocation lists in a file, in order. Raises like `certificates`, with code `crl-invalid`."""
    found = [piece for piece in pieces(path) if piece.label == CRL]
    try:
        loaded = [load_crl(piece) for piece in found]
    except MALFORMED as error:
        raise ConfigError(
            f"file {path} holds a revocation list that cannot be parsed: {reason(error)}", code="crl-invalid"
        ) from error
    if not loaded:
        raise ConfigError(f"file {path} holds no revocation list", mend="check the path", code="crl-invalid")
    return loaded


def load_certificate(piece: Piece) -> x509.Certificate:
    """Parse a `CERTIFICATE`. Raises ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyca warns of what `oddities` reports
        return (
            x509.load_der_x509_certificate(piece.data) if piece.is_der else x509.load_pem_x509_certificate(piece.data)
        )


def load_crl(piece: Piece) -> x509.CertificateRevocationList:
    """Parse an `X509 CRL`. Raises ValueError."""
    return x509.load_der_x509_crl(piece.data) if piece.is_der else x509.load_pem_x509_crl(piece.data)


def _pem_piece(label: str, block: bytes) -> Piece:
    plain = _SYNONYMS.get(label, label)
    if plain.endswith(PRIVATE_KEY):
        plain = PRIVATE_KEY
    elif plain.endswith(PUBLIC_KEY):
        plain = PUBLIC_KEY
    elif plain != label:
        block = block.replace(label.encode(), plain.encode())
    return Piece(plain, block, is_der=False)


def _der_pieces(data: bytes, passphrase: bytes | None) -> Iterator[Piece]:
    loaders: dict[str, Callable[[bytes], Any]] = {
        CERTIFICATE: x509.load_der_x509_certificate,
        REQUEST: x509.load_der_x509_csr,
        CRL: x509.load_der_x509_crl,
        PRIVATE_KEY: _private_key,
        PUBLIC_KEY: serialization.load_der_public_key,
    }
    for label, load in loaders.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(data)
        except MALFORMED:
            continue
        yield Piece(label, data, is_der=True)
        return
    yield from _certificates(pkcs7.load_der_pkcs7_certificates, data) or _store(data, passphrase)


def _private_key(der: bytes) -> None:
    with contextlib.suppress(TypeError):  # one under a passphrase is one all the same
        keys.parse(der, None)


def _certificates(load: Callable[[bytes], list[x509.Certificate]], data: bytes) -> list[Piece]:
    try:
        return [Piece(CERTIFICATE, one.public_bytes(_DER), is_der=True) for one in load(data)]
    except MALFORMED:
        return []


_PFX = re.compile(
    rb"\x30(?:\x80|[\x81-\x84].{1,4}|.)\x02\x01\x03\x30.{0,6}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01", re.DOTALL
)
"""The beginning of a PKCS #12 store (RFC 7292, section 4): version 3, content of type data."""


def _store(data: bytes, passphrase: bytes | None) -> list[Piece]:
    if not _PFX.match(data):
        return []
    try:
        key, first, others = pkcs12.load_key_and_certificates(data, passphrase)
    except MALFORMED:
        return [Piece(PKCS12, data, is_der=True)]
    found = []
    if key is not None:
        der = key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        found.append(Piece(PRIVATE_KEY, der, is_der=True))
    chain = ([first] if first is not None else []) + list(others)
    return found + [Piece(CERTIFICATE, one.public_bytes(_DER), is_der=True) for one in chain]


def _invalid(path: Path, what: str) -> ConfigError:
    return ConfigError(f"file {path} {what}", mend="give certificates in PEM or DER form", code="certificate-invalid")
