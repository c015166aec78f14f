"""`sealmq ca`: shows the built-in CA, exports what devices trust, and replaces the CA without an outage.

It refuses to know how a CA is made; it parses, calls and prints.
"""

from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.cli.folder import perform
from sealmq.cli.rotate import app as rotate
from sealmq.cli.table import facts, left, moment, table

app = typer.Typer(rich_markup_mode=None)
app.add_typer(rotate, name="rotate", help="Replace the root or an issuing CA while the fleet goes on.")


@app.command(short_help="Show the root and the issuing CAs.")
def show(ctx: typer.Context) -> None:
    """Show the root and the issuing CAs: names, dates, fingerprints and SPKI pins."""
    found = perform(ctx.obj.data, "ca-show", {})
    if ctx.obj.json:
        output.as_json(found)
        return
    print(f"fleet {found['fleet']}\n")
    table(
        ["role", "subject", "state", "valid until", "left"],
        [
            [one["role"], one["subject"], one["state"], moment(one["not_after"]), left(one["seconds_left"])]
            for one in found["authorities"]
        ],
    )
    for one in found["authorities"]:
        print(f"\n{one['role']}" + (f" {one['number']}" if one["number"] > 1 else ""))
        facts(
            [
                ("file", one["file"]),
                ("issuer", one["issuer"]),
                ("serial", one["serial"]),
                ("valid from", moment(one["not_before"])),
                ("sha256", one["sha256"]),
                ("spki", one["spki_sha256"]),
            ],
            indent=2,
        )


@app.command(short_help="Export the root: what devices trust.")
def export(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it to this file (0644) instead of standard output.")
    ] = None,
) -> None:
    """Export what a device verifies the broker with, in PEM form: the root, and during a rotation both roots."""
    found = perform(ctx.obj.data, "ca-export", {})
    if out is not None:
        from sealmq.secretfiles import write_public

        target = out.expanduser().absolute()
        write_public(target, found["pem"].encode("ascii"))
        found = {"file": str(target), "sha256": found["sha256"]}
    if ctx.obj.json:
        output.as_json(found)
    elif out is not None:
        print(f"{found['file']} written, sha256 {found['sha256']}")
    else:
        print(found["pem"], end="")
