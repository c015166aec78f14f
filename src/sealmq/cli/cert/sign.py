"""`sealmq cert sign`: a certificate for a request, from a CA in two files or from the one of the data folder.

It refuses to know how certificates are made.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.cert.files import passphrase_in, target
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, moment
from sealmq.errors import UsageError

_DAYS = 30


def sign(
    ctx: typer.Context,
    request: Annotated[Path, typer.Argument(metavar="CSR", help="The request, PEM or DER.")],
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="What the certificate is for: client or server.")
    ] = "server",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", help="With the CA of the data folder: for this device, by its profile."),
    ] = None,
    san: Annotated[
        list[str] | None,
        typer.Option("--san", metavar="NAME", help="A name to certify: DNS:…, IP:…, URI:… or a host; may repeat."),
    ] = None,
    names_of_request: Annotated[
        bool, typer.Option("--names-of-request", help="Certify the alternative names that the request asks for.")
    ] = False,
    common_name: Annotated[
        str | None, typer.Option("--common-name", metavar="NAME", help="Common name of the subject; else it is empty.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", metavar="N", help=f"Lifetime.  [default: {_DAYS}]")] = None,
    ca_cert: Annotated[
        Path | None, typer.Option("--ca-cert", metavar="FILE", help="A CA of yours, and those above it.")
    ] = None,
    ca_key: Annotated[Path | None, typer.Option("--ca-key", metavar="FILE", help="Its private key.")] = None,
    ca_passphrase_file: Annotated[
        Path | None, typer.Option("--ca-passphrase-file", metavar="FILE", help="The passphrase of that key.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to this file instead of standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Sign a certificate request: the CA takes the public key and the proof that its owner has the private one.

    The names are those given here; of the request's own only with --names-of-request. Ends with status 1 when the
    request is refused: weak key, wrong signature, a critical extension that is not understood.
    """
    own_ca = ca_cert is not None or ca_key is not None
    _check_options(profile, device, own_ca=own_ca, whole_ca=bool(ca_cert and ca_key), has_days=days is not None)
    path = target(out, force=force) if out is not None else None
    from sealmq.pki import certfiles, requests

    data = certfiles.read(request)
    names = [*(san or []), *(_names_of(data) if names_of_request else [])]
    if ca_cert is not None and ca_key is not None:
        made = _with_files(data, profile, names, common_name, days, ca_cert, ca_key, passphrase_in(ca_passphrase_file))
    elif device is not None:
        made = perform(ctx.obj.data, "cert-sign-device", {"request": requests.as_pem(data), "id": device})
    else:
        args = {"names": names, "common_name": common_name, "days": _DAYS if days is None else days}
        made = perform(ctx.obj.data, "cert-sign-server", {"request": requests.as_pem(data), **args})
    if path is not None:
        from sealmq.secretfiles import write_public

        write_public(path, made["pem"].encode("ascii"))
    _print(ctx, made, path)


def _check_options(profile: str, device: str | None, *, own_ca: bool, whole_ca: bool, has_days: bool) -> None:
    if profile not in ("client", "server"):
        raise UsageError(f"profile {profile!r} does not exist", mend="use client or server")
    if own_ca and not whole_ca:
        raise UsageError("--ca-cert and --ca-key belong together", mend="give both, or none for the built-in CA")
    if own_ca and device is not None:
        raise UsageError("--device is for the CA of the data folder", mend="leave --ca-cert and --ca-key out")
    if profile == "client" and not own_ca and device is None:
        raise UsageError(
            "the CA of the data folder certifies clients as devices of its registry",
            mend="give --device ID; a device that is not there yet is made with `sealmq device add`",
        )
    if device is not None and has_days:
        raise UsageError("--days is decided by the profile of the device", mend="leave it out")


def _names_of(data: bytes) -> list[str]:
    from sealmq.pki import requests
    from sealmq.pki.describe import describe_name

    return [describe_name(name) for name in requests.accept(data).names]


def _with_files(
    data: bytes,
    profile: str,
    names: list[str],
    common_name: str | None,
    days: int | None,
    ca_cert: Path,
    ca_key: Path,
    passphrase: bytes | None,
) -> dict[str, Any]:
    from sealmq.pki.certfiles import is_open_to_others
    from sealmq.pki.certify import Wanted, certify, open_signer
    from sealmq.pki.operations.certificates import signed
    from sealmq.pki.profiles import Usage
    from sealmq.pki.signing import utc_now
    from sealmq.pki.x509names import parse_alternative_name

    if is_open_to_others(ca_key):
        output.note(f"note: others on this machine can read {ca_key}, and so issue certificates; chmod 600 {ca_key}")
    usage = Usage.CLIENT if profile == "client" else Usage.SERVER
    found = tuple(parse_alternative_name(name) for name in names)
    wanted = Wanted(usage, found, common_name, _DAYS if days is None else days)
    by = open_signer(ca_cert, ca_key, passphrase=passphrase)
    return signed(certify(data, by=by, wanted=wanted, now=utc_now()))


def _print(ctx: typer.Context, made: dict[str, Any], path: Path | None) -> None:
    if ctx.obj.json:
        output.as_json({"file": str(path) if path else None, **made})
    elif path is None:
        print(made["pem"], end="")
    else:
        print(f"{path} written: the certificate, and behind it the CA that issued it\n")
        facts(
            [
                ("subject", made["subject"] or "(empty)"),
                ("valid until", moment(made["not_after"])),
                ("serial", made["serial"]),
                ("sha256", made["sha256"]),
            ],
            indent=2,
        )
