"""`sealmq cert show`: what is in certificate files, anybody's, and what is odd about it.

It refuses to know how they are parsed; it needs no data folder.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotation when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from sealmq.cli import output
from sealmq.cli.cert.files import PassphraseFile, passphrase_in
from sealmq.cli.table import facts, left, moment, printable
from sealmq.errors import NotSo

if TYPE_CHECKING:
    from sealmq.pki import descriptions

_SHOWN_ENTRIES = 20


def show(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="PEM, DER, PKCS #7 (.p7b) or PKCS #12 (.p12) files.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show certificates, chains, requests, keys and revocation lists, and what is odd about each.

    Keys are described, never printed. Give a key together with its certificate to see whether they belong together.
    Status 1 when something in the files cannot be read.
    """
    from sealmq.pki.descriptions import Unreadable, as_json
    from sealmq.pki.inspect import inspect_files

    now = datetime.now(UTC)
    found = inspect_files(files, now=now, passphrase=passphrase_in(passphrase_file))
    if ctx.obj.json:
        output.as_json({"objects": [as_json(item) for item in found]})
    else:
        for index, item in enumerate(found):
            if index:
                print()
            _print(item, now)
    for item in found:
        if isinstance(item, Unreadable):
            what = printable(f"{item.label} in {item.file} cannot be read: {item.reason}")
            raise NotSo(what, mend=item.mend, code="object-unreadable")


def _print(item: descriptions.Described, now: datetime) -> None:
    title, pairs = _described(item, now)
    print(f"{printable(str(item.file))} #{item.position}: {title}")
    facts([(name, value) for name, value in pairs if value], indent=2)
    for oddity in item.oddities:
        print(f"  odd ({oddity.slug}): {printable(oddity.what)}")
        print(f"    why:  {oddity.why}")
        print(f"    mend: {printable(oddity.mend)}")


def _described(item: descriptions.Described, now: datetime) -> tuple[str, list[tuple[str, str]]]:
    from sealmq.pki import descriptions

    match item:
        case descriptions.CertificateDescription():
            return _certificate(item, now)
        case descriptions.RequestDescription():
            return "certificate request", [
                ("subject", item.subject),
                ("asks for", ", ".join((*item.names, *item.extended_key_usage, *item.key_usage))),
                ("key", item.key),
                ("signature", item.signature),
                ("spki", item.spki_sha256),
            ]
        case descriptions.KeyDescription():
            kind = "private key" if item.is_private else "public key"
            unknown = "" if item.key else ": give it with --passphrase-file to see more"
            protected = f"under a passphrase{unknown}" if item.is_encrypted else ""
            return kind, [("key", item.key), ("protected", protected), ("spki", item.spki_sha256)]
        case descriptions.CrlDescription():
            return "revocation list", [
                ("issuer", item.issuer),
                ("issued", moment(item.last_update)),
                ("next due", moment(item.next_update)),
                ("number", str(item.number) if item.number is not None else ""),
                ("signature", item.signature),
                ("entries", str(item.revoked)),
                *_entries(item),
            ]
        case descriptions.Unreadable():
            return f"cannot be read ({item.label})", [("reason", item.reason), ("mend", item.mend)]
        case _:
            return "unknown", []


def _entries(item: descriptions.CrlDescription) -> list[tuple[str, str]]:
    rows = [
        ("revoked", f"{moment(one.revoked_at)}  serial {one.serial}{f' ({one.reason})' if one.reason else ''}")
        for one in item.entries[:_SHOWN_ENTRIES]
    ]
    more = item.revoked - len(rows)
    return [*rows, ("", f"and {more} more")] if more else rows


def _certificate(item: descriptions.CertificateDescription, now: datetime) -> tuple[str, list[tuple[str, str]]]:
    title = "certificate"
    if item.is_ca:
        depth = "" if item.path_length is None else f", path length {item.path_length}"
        kind = "a root CA" if item.subject == item.issuer else "an issuing CA"
        title = f"certificate of {kind}{depth}"
    return title, [
        ("subject", item.subject or "(empty)"),
        ("issuer", item.issuer),
        ("names", ", ".join(item.names)),
        ("valid from", moment(item.not_before)),
        ("valid until", f"{moment(item.not_after)} ({left(int((item.not_after - now).total_seconds()))})"),
        ("usage", ", ".join((*item.extended_key_usage, *item.key_usage))),
        ("key", item.key),
        ("signature", item.signature),
        ("serial", item.serial),
        ("sha256", item.sha256),
        ("spki", item.spki_sha256),
    ]
