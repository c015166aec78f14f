"""`sealmq log`: what the running broker remembers.

It refuses to read files: the broker is asked, through its control socket.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from sealmq.cli import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_POLL = 30.0  # seconds that one question to the broker may wait for a refusal


@app.callback()
def log() -> None:
    """What the running broker remembers: whom it refused and why."""


@app.command()
def refusals(
    ctx: typer.Context,
    count: Annotated[int, typer.Option("-n", "--count", min=0, max=1000, help="How many of the latest.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with those to come, until Ctrl-C.")] = False,
) -> None:
    """List whom the running broker refused and why, the latest last; ends with status 1 when no broker runs.

    With --json it is a list, with --json --follow one object per line.
    """
    from sealmq.broker import control
    from sealmq.cli.folder import running

    folder = running(ctx.obj.data)
    found = control.call(folder, "refusals", {})
    last, shown = int(found["last"]), found["refusals"]
    _show(shown[-count:] if count else [], as_json=ctx.obj.json, follow=follow)
    if not follow and not shown and not ctx.obj.json:
        print("no connection was refused since the broker started")
    while follow:
        found = control.call(folder, "refusals", {"after": last, "seconds": _POLL}, patience=_POLL + 10)
        last = int(found["last"])
        _show(found["refusals"], as_json=ctx.obj.json, follow=True)


def _show(found: list[dict[str, Any]], *, as_json: bool, follow: bool) -> None:
    if as_json and not follow:
        output.as_json(found)
        return
    for event in found:
        if as_json:
            print(json.dumps(event, default=str), flush=True)
        else:
            print("\n".join(_lines(event)), flush=True)


def _lines(event: dict[str, Any]) -> list[str]:
    from sealmq.broker.log import certificate_line, clean

    when = datetime.fromtimestamp(event["at"] / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    place = f"{event.get('peer', '?')} → {event.get('listener', '?')}, {event.get('stage', '?')}"
    lines = [
        f"{when}  {clean(place)}  [{clean(event.get('cause', 'unknown'))}]",
        f"    {clean(event.get('summary') or '')}",
    ]
    if event.get("certificate"):
        lines.append(f"    certificate: {certificate_line(event['certificate'])}")
    if event.get("client_id"):
        lines.append(f"    client id: {clean(event['client_id'])}")
    if event.get("mend"):
        lines.append(f"    mend: {clean(event['mend'])}")
    return lines
