"""`sealmq expiry`: every certificate and revocation list by the time it has left.

It refuses to know what there is; the broker, or the data folder, is asked.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.folder import perform
from sealmq.cli.table import left, moment, printable, table
from sealmq.errors import NotSo, UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_SOON, _URGENT = 30 * 86_400, 7 * 86_400  # seconds


@app.command()
def expiry(
    ctx: typer.Context,
    within: Annotated[
        str | None,
        typer.Option(
            "--within",
            metavar="TIME",
            help="Only what ends within 30d, 12h, … and should have been renewed; status 1 if any.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Configuration, while no broker runs; else sealmq.toml."),
    ] = None,
) -> None:
    """List every certificate known by the time it has left: CAs, the broker's, revocation lists, each active device's.

    With --within it ends with status 1 when something ends in that time, so that a timer can watch over it. What lasts
    less than three times that long, and so is renewed later, is told of once a sixth of its life is left.
    """
    limit = _duration(within) if within is not None else None
    from sealmq.broker.expiry import files_that_end
    from sealmq.config.settings import load
    from sealmq.datafolder import DataFolder
    from sealmq.pki.operations.expiry import ending

    settings = load(ctx.obj.data / "sealmq.toml", file=config)
    named = files_that_end(settings, DataFolder.open(ctx.obj.data))
    found = perform(ctx.obj.data, "expiry", {"files": [(kind, str(path.absolute())) for kind, path in named]})
    rows = found["certificates"] if limit is None else ending(found["certificates"], within=limit)
    if ctx.obj.json:
        output.as_json({"certificates": rows, "unreadable": found["unreadable"]})
    else:
        _print(rows, found["unreadable"], within)
    if limit is not None and rows:
        raise NotSo(
            f"{len(rows)} of {len(found['certificates'])} end within {within}, "
            f"first {rows[0]['kind']} {printable(rows[0]['name'])}",
            mend="devices and the built-in certificates renew themselves while they are online; see docs/expiry.md",
            code="ends-soon",
        )


def _print(rows: list[dict[str, Any]], unreadable: list[str], within: str | None) -> None:
    if rows:
        table(
            ["left", "kind", "name", "until"],
            [[left(one["seconds_left"]), one["kind"], one["name"], moment(one["not_after"])] for one in rows],
            styles=[_style(one["seconds_left"]) for one in rows],
        )
    elif within is not None:
        print(f"nothing ends within {within} that should have been renewed by now")
    for path in unreadable:
        output.note(f"note: {path} cannot be read, so nobody can tell when it ends")


def _style(seconds: int) -> str:
    return "red" if seconds <= _URGENT else "yellow" if seconds <= _SOON else ""


def _duration(text: str) -> timedelta:
    from sealmq.config.address import BadValue
    from sealmq.config.duration import parse_duration

    try:
        return parse_duration(text)
    except BadValue as error:
        raise UsageError(f"--within {text!r} {error.message}", mend=error.mend) from None
