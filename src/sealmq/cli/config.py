"""`sealmq config`: the settings in force, and where each came from.

It refuses to start anything; a broker need not run.
"""

from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.callback()
def config() -> None:
    """The settings in force and where each came from."""


@app.command(short_help="List every setting, its value and where it came from.")
def explain(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Configuration; else sealmq.toml in the data folder."),
    ] = None,
) -> None:
    """List every setting: its value, its unit, where the value came from, and what it means.

    Origin is `default`, FILE:LINE or `environment NAME`. Options of a running `sealmq up` are not in it: `sealmq
    status` shows where that listens. Ends with status 2 when the file is wrong.
    """
    from sealmq.config.explain import explain as rows_of
    from sealmq.config.settings import load

    settings = load(ctx.obj.data / "sealmq.toml", file=file)
    rows = rows_of(settings)
    if ctx.obj.json:
        output.as_json([row.as_dict() for row in rows])
        return
    output.columns(
        ["setting", "value", "unit", "origin", "meaning"],
        [[row.setting, row.value, row.unit, row.origin, row.meaning] for row in rows],
    )
    for row in rows:
        if row.danger:
            print(f"DANGEROUS {row.setting.removeprefix('dangerous.')} = {row.value}: {row.meaning}")
