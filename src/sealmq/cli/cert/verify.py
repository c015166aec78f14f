"""`sealmq cert verify`: each step of path validation with its verdict, and what to mend.

It refuses to know how a path is found or a step decided; `sealmq.pki.paths` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotation when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.table import moment, printable
from sealmq.errors import NotSo, UsageError

if TYPE_CHECKING:
    from cryptography import x509

    from sealmq.pki import paths


def verify(
    ctx: typer.Context,
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="The certificate, its chain behind it.")],
    host: Annotated[
        str | None, typer.Option("--host", metavar="NAME", help="The name or address it must be for.")
    ] = None,
    ca: Annotated[
        list[Path] | None,
        typer.Option("--ca", metavar="FILE", help="What is trusted; may repeat.  [default: the CA of the data folder]"),
    ] = None,
    chain: Annotated[
        list[Path] | None, typer.Option("--chain", metavar="FILE", help="Further CA certificates, not trusted.")
    ] = None,
    crl: Annotated[list[Path] | None, typer.Option("--crl", metavar="FILE", help="Revocation lists.")] = None,
    purpose: Annotated[
        str | None,
        typer.Option("--purpose", metavar="SIDE", help="client or server.  [default: as the certificate says]"),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Not now but then: 2026-12-24 or 2026-12-24T18:00Z.")
    ] = None,
) -> None:
    """Verify a certificate as a peer does, and tell each step: signature, dates, names, usages, revocation and more.

    Ends with status 1 when it is not valid. Stricter than openssl where TLS is: see docs/certificates.md.
    """
    from sealmq.pki import certfiles
    from sealmq.pki.names import check_host
    from sealmq.pki.paths import Question
    from sealmq.pki.paths import verify as validate

    leaf, *sent = certfiles.certificates(certificate)
    side = _purpose(purpose, leaf, host)
    anchors, own_lists = _trusted(ctx, ca)
    question = Question(
        at=_moment(at),
        anchors=tuple(anchors),
        purpose=side,
        host=check_host(host) if host is not None else None,
        intermediates=(*sent, *(one for path in chain or () for one in certfiles.certificates(path))),
        crls=(*own_lists, *(one for path in crl or () for one in certfiles.revocation_lists(path))),
    )
    report = validate(leaf, question)
    if ctx.obj.json:
        output.as_json(_as_json(report, question))
    else:
        _print(report, question)
    if not report.is_valid:
        step = report.best.failed[0]
        raise NotSo(
            f"certificate {printable(str(certificate))} is not valid: {printable(step.what)}",
            mend=printable(step.mend),
            code=step.fault,
        )


def _purpose(text: str | None, leaf: x509.Certificate, host: str | None) -> Any:  # noqa: ANN401 - Usage, not imported yet
    from cryptography import x509

    from sealmq.pki.paths.facts import Facts
    from sealmq.pki.profiles import Usage

    if text is not None:
        if text not in ("client", "server"):
            raise UsageError(f"purpose {text!r} does not exist", mend="use client or server")
        return Usage.CLIENT if text == "client" else Usage.SERVER
    usages = Facts.of(leaf).find(x509.ExtendedKeyUsage)
    client_alone = usages is not None and [oid.dotted_string for oid in usages] == ["1.3.6.1.5.5.7.3.2"]
    return Usage.CLIENT if client_alone and host is None else Usage.SERVER


def _trusted(
    ctx: typer.Context, files: list[Path] | None
) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    from sealmq.pki import certfiles

    if files:
        return [one for path in files for one in certfiles.certificates(path)], []
    from cryptography.x509 import load_pem_x509_certificates

    from sealmq.cli.folder import perform
    from sealmq.datafolder import DataFolder
    from sealmq.errors import DataFolderError
    from sealmq.pki.revocation import crl_path

    try:
        pem = perform(ctx.obj.data, "ca-export", {})["pem"]
        lists = crl_path(DataFolder.open(ctx.obj.data))
    except DataFolderError as error:
        if error.code not in {"data-folder-missing", "ca-missing"}:
            raise
        raise UsageError(
            "nothing is trusted: there is no data folder with a CA here",
            mend="name a CA file with --ca; public ones are in /etc/ssl/certs/ca-certificates.crt on Debian",
            code="anchors-missing",
        ) from None
    return load_pem_x509_certificates(pem.encode()), certfiles.revocation_lists(lists) if lists.exists() else []


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"time {text!r} is not understood", mend="write 2026-12-24 or 2026-12-24T18:00Z (UTC unless it says so)"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _print(report: paths.Report, question: paths.Question) -> None:
    who = "clients" if question.purpose.value == "clientAuth" else "servers"
    host = f" under the name {question.host}" if question.host is not None else ""
    verdict = "valid" if report.is_valid else "NOT VALID"
    print(f"{verdict} for {who}{host} at {moment(question.at)}")
    _print_path(report.best)
    for other in report.paths[1:]:
        what = "also valid" if other.is_valid else f"not valid: {printable(other.failed[0].what)}"
        above = " > ".join(printable(_label(one)) for one in other.certificates[1:])
        print(f"\nanother path, through {above or 'nothing'}: {what}")
    if not report.is_complete:
        print("\nthere are more paths than were looked at")


def _print_path(path: paths.Path) -> None:
    width = max(len(step.check) for step in path.steps)
    for position, certificate in enumerate(path.certificates):
        print(f"\n{printable(_label(certificate))}{_role(path, position)}")
        for step in path.steps:
            if step.position != position:
                continue
            print(f"  {step.verdict.value:<8}{step.check.ljust(width)}  {printable(step.what)}")
            if step.mend:
                print(f"  {'':8}{'':{width}}  mend: {printable(step.mend)}")


def _role(path: paths.Path, position: int) -> str:
    if path.anchored and position == len(path.certificates) - 1:
        return ", trusted"
    return ", its issuer" if position == 1 else ""


def _label(certificate: x509.Certificate) -> str:
    from sealmq.pki.paths.facts import Facts

    return Facts.of(certificate).label


def _as_json(report: paths.Report, question: paths.Question) -> dict[str, Any]:
    from sealmq.pki.fingerprints import certificate_sha256

    return {
        "valid": report.is_valid,
        "purpose": question.purpose.value,
        "host": str(question.host) if question.host is not None else None,
        "at": question.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "is_complete": report.is_complete,
        "paths": [
            {
                "valid": path.is_valid,
                "anchored": path.anchored,
                "certificates": [
                    {"subject": _label(one), "sha256": certificate_sha256(one)} for one in path.certificates
                ],
                "steps": [
                    {
                        "certificate": step.position,
                        "check": step.check,
                        "verdict": step.verdict.value,
                        "what": step.what,
                        "fault": step.fault or None,
                        "mend": step.mend or None,
                    }
                    for step in path.steps
                ],
            }
            for path in report.paths
        ],
    }
