"""`sealmq pin`: which public keys devices may insist on, the list they were given, and what would strand them.

It refuses to know how a pin is checked; the data plane does, in the handshake.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.table import table
from sealmq.errors import NotSo, UsageError

if TYPE_CHECKING:
    from cryptography import x509

_SECONDS = 10.0

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command(short_help="The pins of certificates, in files or of a server.")
def show(
    ctx: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(metavar="URL|FILE...", help="mqtts://HOST[:PORT], or a file of certificates.")
    ],
) -> None:
    """Show the SHA-256 of the public key of each certificate.

    sealmq pin show sealmq-data/devices/sensor-1/ca.pem mqtts://broker.example

    Of a server it is the key that it shows now, unverified: compare it on a way that you trust.
    """
    found: list[dict[str, Any]] = [
        {"source": source, "subject": one.subject.rfc4514_string(), "pin": _pin(one)}
        for source in sources
        for one in _certificates(source)
    ]
    if ctx.obj.json:
        output.as_json(found)
        return
    table(["pin", "subject", "source"], [[f"sha256:{one['pin']}", one["subject"], one["source"]] for one in found])


@app.command(short_help="Write pins into the list of the fleet, or of a device.")
def add(
    ctx: typer.Context,
    pins: Annotated[list[str], typer.Argument(metavar="PIN|FILE...", help="A pin, or a file of certificates.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of a device, whose clients obey it.  [default: the data folder]"),
    ] = None,
) -> None:
    """Add pins to `pins.txt`; two at least have to stand there, so that one key can be lost.

    The list in the data folder says what devices were given: `sealmq ca rotate` refuses what would strand them. The one
    in the folder of a device is what `sealmq.Client` checks before CONNECT leaves.
    """
    from sealmq.pki.pinning import FILE
    from sealmq.tls.pins import append

    path = (to or ctx.obj.data) / FILE
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} does not exist", mend="name the folder of a device, or --data")
    every = append(path, [pair for one in pins for pair in _named(one)])
    if ctx.obj.json:
        output.as_json({"file": str(path), "pins": list(every)})
        return
    print(f"{len(every)} pins in {path}")
    output.note(f"see what they survive: {output.program()} pin plan")


@app.command(short_help="Which pins hold now, and after a renewal or a change of CA.")
def plan(ctx: typer.Context) -> None:
    """Show which pins of the fleet match which CA, and what would strand devices.

    Ends with status 1 when no pin holds now.
    """
    from sealmq.datafolder import DataFolder
    from sealmq.pki import pinning
    from sealmq.pki.authority import Authority
    from sealmq.tls.pins import read_list

    folder = DataFolder.open(ctx.obj.data)
    authority = Authority.open(folder)
    path = pinning.pins_path(folder)
    if not path.exists():
        raise NotSo(
            "no pins are written down for this fleet",
            mend=f"{output.program()} pin add {folder.path}/ca/root.pem BACKUP-PIN",
            code="pins-none",
        )
    pinned = read_list(path)
    keys, coming = pinning.keys(authority), pinning.outlook(authority, pinned)
    if ctx.obj.json:
        output.as_json(
            {
                "pins": [{"pin": pin, "key": keys.get(pin)} for pin in pinned],
                "outlook": [{"event": one.event, "holding": list(one.holding)} for one in coming],
            }
        )
    else:
        table(["pin", "key"], [[f"sha256:{pin}", keys.get(pin, "none here: a backup")] for pin in pinned])
        print()
        table(["event", "pins that hold"], [[one.event, _count(len(one.holding), len(pinned))] for one in coming])
    if not coming[0].holding:
        raise NotSo(
            "none of the pins is of a CA in force: devices that pin them are cut off",
            mend="`sealmq ca show` has the pins in force; give devices those",
            code="pins-strand",
        )


def _count(holding: int, of: int) -> str:
    return f"{holding} of {of}" if holding else "none: devices that pin are stranded"


def _named(text: str) -> list[tuple[str, str]]:
    """A pin, or those of a file with whose they are."""
    path = Path(text)
    if path.exists():
        return [(_pin(one), one.subject.rfc4514_string()) for one in _from_file(path)]
    return [(text, "")]


def _pin(certificate: "x509.Certificate") -> str:
    from sealmq.pki.fingerprints import spki_sha256

    return spki_sha256(certificate)


def _certificates(source: str) -> "list[x509.Certificate]":
    return [_of_server(source)] if "://" in source else _from_file(Path(source))


def _from_file(path: Path) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it holds no certificate in PEM form").lower()
        raise UsageError(f"file {path} cannot be read: {reason}", mend="name a file of certificates") from None


def _of_server(url: str) -> "x509.Certificate":
    import socket
    import ssl

    from cryptography import x509

    from sealmq.client.target import Target
    from sealmq.tls import policy

    target = Target.parse(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = policy.MINIMUM_VERSION
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is looked at, nothing is said to it
    try:
        with (
            socket.create_connection((target.host, target.port), _SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=target.host) as channel,
        ):
            shown = channel.getpeercert(binary_form=True)
    except OSError as error:
        reason = (getattr(error, "reason", None) or error.strerror or str(error)).lower()
        raise NotSo(f"server {target} shows no certificate: {reason}", mend="check host and port") from None
    if shown is None:
        raise NotSo(f"server {target} shows no certificate", mend="check host and port")
    return x509.load_der_x509_certificate(shown)
