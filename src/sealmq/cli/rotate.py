"""`sealmq ca rotate`: takes a step in replacing a CA, and shows how far the fleet is.

It refuses to know when a step may be taken; it parses, calls and prints.
"""

from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, moment, table
from sealmq.errors import UsageError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

_AFTERWARDS = {
    "stage": "a new root exists and nobody was told; publish it when you want to begin",
    "publish": "devices are given both roots; let them fetch the bundle, then switch",
    "switch": "the new root signs and both are trusted; let devices renew, then drain",
    "drain": "the old root is trusted no more; retire it when nothing complains",
    "retire": "the key of the old root is destroyed; the rotation is complete",
}
_NAMED = 20


@app.command(short_help="Replace the root, one step at a time.")
def root(
    ctx: typer.Context,
    stage: Annotated[bool, typer.Option("--stage", help="Make the new root and the bridge from the old one.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Give devices both roots.")] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Sign under the new root; the old one is trusted too.")
    ] = False,
    drain: Annotated[bool, typer.Option("--drain", help="Trust the old root no more.")] = False,
    retire: Annotated[bool, typer.Option("--retire", help="Destroy the key of the old root.")] = False,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Devices that must hold the bundle to switch or drain."),
    ] = 95,
    force: Annotated[bool, typer.Option("--force", help="Go on, whichever devices that cuts off.")] = False,
) -> None:
    """Replace the root in five steps: --stage, --publish, --switch, --drain, --retire.

    No step drops a session. `--switch` and `--drain` are refused while too many devices do not hold the new bundle,
    and name them. `sealmq ca rotate status` shows which step comes next.
    """
    wanted = {"stage": stage, "publish": publish, "switch": switch, "drain": drain, "retire": retire}
    steps = [name for name, given in wanted.items() if given]
    if len(steps) != 1:
        raise UsageError(
            f"root is rotated one step at a time, {len(steps)} were given",
            mend="give the one that `sealmq ca rotate status` shows as the next",
        )
    args = {"kind": "root", "step": steps[0], "threshold": threshold / 100, "force": force}
    found = perform(ctx.obj.data, "ca-rotate", args)
    _report(ctx, found, _AFTERWARDS[steps[0]])


@app.command(short_help="A new issuing CA for devices.")
def devices(ctx: typer.Context) -> None:
    """A new issuing CA for devices; certificates of the one before it are accepted until they expire."""
    found = perform(ctx.obj.data, "ca-rotate", {"kind": "devices"})
    _report(ctx, found, "the new issuing CA signs; the old one retires by itself with its last certificate")


@app.command(short_help="A new issuing CA for the broker's certificate.")
def servers(ctx: typer.Context) -> None:
    """A new issuing CA for the broker's own certificate, which is reissued under it."""
    found = perform(ctx.obj.data, "ca-rotate", {"kind": "servers"})
    _report(ctx, found, "the new issuing CA signs; a running broker shows its certificate from now on")


@app.command(short_help="How far a rotation is, and which devices lack the new bundle.")
def status(ctx: typer.Context) -> None:
    """How far a rotation is: every CA with its state, who holds the bundle, who does not, and the next step."""
    found = perform(ctx.obj.data, "ca-rotation", {})
    if ctx.obj.json:
        output.as_json(found)
        return
    table(
        ["authority", "number", "state", "since"],
        [[one["kind"], str(one["number"]), one["state"], moment(one["since"])] for one in found["authorities"]],
    )
    print()
    held = f"{found['confirmed']} of {found['devices']} devices ({found['share']:.1%})"
    rows = [("bundle", f"version {found['bundle']['version']}, held by {held}")]
    if found["missing"]:
        rows.append(("without it", _some(found["missing"])))
    if found["next"] == "drain":
        rows.append(("old root only", _some(found["dependent"]) or "no device"))
    if found["next"] in ("switch", "drain"):
        rows.append(
            ("bridge", "yes" if found["bridged"] else "no: the old root allows none, every device needs the bundle")
        )
    if found["root_is_due"]:
        rows.append(("root", "less than a third of its life is left: replace it"))
    rows.append(("next", f"sealmq ca rotate root --{found['next']}"))
    facts(rows)


def _report(ctx: typer.Context, found: dict[str, Any], afterwards: str) -> None:
    if ctx.obj.json:
        output.as_json(found)
        return
    print(afterwards)
    print("see: sealmq ca rotate status")


def _some(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
