"""`sealmq store`: copies the store, puts a copy back, looks it through, says what it holds.

It refuses to know how that is done; through the broker that runs, or on the file while none does.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.folder import through_broker_or
from sealmq.datafolder import DataFolder

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@app.callback()
def store() -> None:
    """Sessions, queued and retained messages that survive a restart: store.sqlite3 of the data folder."""


@app.command()
def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file to write; nothing is overwritten.")],
) -> None:
    """Copy the store to FILE, mode 0600: one moment of it, whole and looked through; the broker may go on."""
    done = _perform(ctx, "store-backup", {"to": str(file.absolute())})
    if ctx.obj.json:
        output.as_json(done)
        return
    print(f"{done['path']}: {_copied(done)}")
    print(f"to put it back, with the broker stopped: {output.program()} store restore {file}")


@app.command()
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `store backup` has written.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a store that is there; that one is kept.")
    ] = False,
    other_fleet: Annotated[
        bool,
        typer.Option("--other-fleet", help="Take over the backup of another fleet: its sessions become this one's."),
    ] = False,
) -> None:
    """Make the store from FILE, which is looked through first. No broker may run on the data folder."""
    from sealmq.broker import keeping

    done = keeping.restore(DataFolder.open(ctx.obj.data), file.absolute(), replace=replace, take_over=other_fleet)
    if ctx.obj.json:
        output.as_json(done)
        return
    print(f"{done['path']}: {_copied(done)}")
    if done["kept"]:
        print(f"what was there before is kept as {done['kept']}")


@app.command()
def check(ctx: typer.Context) -> None:
    """Look through the whole store; ends with status 1 when something in it is not as it was written."""
    found = _perform(ctx, "store-check", {})
    if ctx.obj.json:
        output.as_json(found)
    elif found["findings"]:
        print("\n".join(found["findings"]))
        output.complain(
            f"store {found['path']} is damaged: {_some(len(found['findings']), 'finding')}",
            f"stop the broker, then put a backup in its place: {output.program()} store restore FILE --replace",
        )
    else:
        print(f"store {found['path']} is sound")
    if found["findings"]:
        raise typer.Exit(1)


@app.command()
def stats(ctx: typer.Context) -> None:
    """What the store holds, and what it has cost since the broker started."""
    found = _perform(ctx, "store-stats", {})
    if ctx.obj.json:
        output.as_json(found)
        return
    from sealmq.cli.table import facts

    rows = [("store", found["path"]), ("holds", contents(found))]
    rows.append(("pages", f"{found['pages']}, {found['free_pages']} of them free"))
    if found["commits"]:
        rows.append(("commits", commits(found)))
        rows.append(("written", size(found["written_bytes"])))
    facts(rows)


def contents(store: dict[str, Any]) -> str:
    """What a store holds, its size and its health, in a line; `store` as in `Node.stats`."""
    bound = f" of {size(store['max_bytes'])}" if "max_bytes" in store else ""
    return (
        f"{_some(store['queued_messages'], 'message')} ({size(store['queued_bytes'])})"
        f" for {_some(store['sessions'], 'session')},"
        f" {store['retained']} retained; {size(store['file_bytes'] + store['wal_bytes'])}{bound} on disk;"
        f" {store['health']}"
    ) + (f": {store['why']}" if store.get("why") else "")


def commits(store: dict[str, Any]) -> str:
    """How long its commits took, in a line."""
    took = store["commit_us"]
    return (
        f"{_some(store['commits'], 'commit')}, {store['syncs']} synced;"
        f" p50 {took['p50'] / 1000:.2f} ms, p99 {took['p99'] / 1000:.2f} ms"
    )


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole: `4.2 MiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def _perform(ctx: typer.Context, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    from sealmq.broker import keeping

    folder = DataFolder.open(ctx.obj.data)
    return through_broker_or(lambda: keeping.alone(folder, verb, args), folder, verb, args)


def _copied(done: dict[str, Any]) -> str:
    return (
        f"{size(done['bytes'])}, {_some(done['messages'], 'message')} for {_some(done['sessions'], 'session')},"
        f" {done['retained']} retained"
    )


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
