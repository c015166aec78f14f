"""`sealmq status`: asks the running broker how it is.

It refuses to guess: without a running broker there is no status.
"""

from datetime import datetime
from typing import Any

import typer

from sealmq.cli import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_SHOWN = 5
_SHOWN_CLIENTS = 10


@app.command()
def status(ctx: typer.Context) -> None:
    """Show listeners, clients, counts, dangerous settings and the last refusals of the broker on the data folder.

    Ends with status 1 when no broker runs there.
    """
    from sealmq.broker import control
    from sealmq.datafolder import DataFolder
    from sealmq.errors import DataFolderError, NotSo

    try:
        folder = DataFolder.open(ctx.obj.data)
    except DataFolderError as error:
        if error.code != "data-folder-missing":
            raise
        mend = "start one: sealmq up; or name its data folder with --data"
        raise NotSo(f"no broker runs on {ctx.obj.data}", mend=mend, code="broker-not-running") from None
    found = control.call(folder, "status")
    if ctx.obj.json:
        output.as_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from sealmq.broker.log import clean
    from sealmq.cli.table import moment

    print(
        f"broker {found['version']} on {found['data']}, process {found['pid']}, up {output.duration(found['uptime_s'])}"
    )
    for url in found["listeners"]:
        print(f"  listens  {url}")
    for one in found.get("certificates", []):
        print(f"  shows    {clean(', '.join(one['names']))}, {one['source']}, until {moment(one['not_after'])}")
    for setting in found["dangerous"]:
        print(f"  DANGEROUS {setting['setting']} = {setting['value']}: {setting['meaning']}")
    _print_store(found.get("durability"), found["counts"].get("store"))
    _print_clients(found.get("clients", []), found["counts"].get("connections", 0))
    counts = {name: value for name, value in found["counts"].items() if isinstance(value, int | float) and value}
    counts.pop("uptime_s", None)  # the first line has it
    if counts:
        print()
        output.columns(["count", "value"], [[name, str(value)] for name, value in sorted(counts.items())])
    refused = found["refused"]
    print()
    if not refused["by_cause"]:
        print("refused since start: none")
        return
    print("refused since start: " + ", ".join(f"{cause} {count}" for cause, count in refused["by_cause"].items()))
    for event in refused["last"][-_SHOWN:]:
        _print_refusal(event)


def _print_store(durability: dict[str, Any] | None, store: dict[str, Any] | None) -> None:
    if durability is None:
        return
    from sealmq.cli.store import commits, contents

    modes = [str(durability["default"]), *(f"{one['mode']} for {one['filter']}" for one in durability["topics"])]
    print(f"  keeps    durability {', '.join(modes)}: {contents(store) if store else 'nothing on disk'}")
    if store:
        print(f"           {commits(store)}")


def _print_clients(clients: list[dict[str, Any]], connected: int) -> None:
    if not clients:
        return
    from sealmq.broker.log import clean

    fields = ("client_id", "device", "protocol", "peer", "listener")
    rows = [[clean(client.get(field) or "-") for field in fields] for client in clients[:_SHOWN_CLIENTS]]
    print()
    output.columns(["client", "device", "mqtt", "from", "listener"], rows)
    if connected > len(rows):
        print(f"and {connected - len(rows)} more: `{output.program()} status --json` lists up to {len(clients)}")


def _print_refusal(event: dict[str, Any]) -> None:
    from sealmq.broker.log import certificate_line, clean

    when = datetime.fromtimestamp(event["at"] / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    summary = event.get("summary") or event.get("cause", "")
    print(f"  {when}  {clean(event.get('peer', '?'))}  {clean(event.get('stage', '?'))}: {clean(summary)}")
    if event.get("certificate"):
        print(f"      certificate: {certificate_line(event['certificate'])}")
    if event.get("mend"):
        print(f"      mend: {clean(event['mend'])}")
