"""`sealmq acl`: which rule decides what a client may publish and subscribe.

It refuses to know how rules are matched: the data plane is asked.
"""

from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, printable
from sealmq.errors import NotSo, UsageError

app = typer.Typer(rich_markup_mode=None)

_ANONYMOUS = "anonymous"


@app.callback()
def acl() -> None:
    """Which rule decides what a client may publish and subscribe."""


@app.command(short_help="Say which rule decides about a topic, and why.")
def explain(
    ctx: typer.Context,
    who: Annotated[str, typer.Argument(metavar="ID", help="Device id, user:NAME, or anonymous.")],
    action: Annotated[str, typer.Argument(metavar="publish|subscribe")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Topic name, or filter when subscribing.")],
    client_id: Annotated[
        str | None, typer.Option("--client-id", metavar="NAME", help="Its client id.  [default: the id]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Configuration; else sealmq.toml in the data folder."),
    ] = None,
) -> None:
    """Say which rule decides whether a client may publish to a topic or subscribe to a filter, and why.

    Ends with status 1 when the answer is no. The files are read as they are now: a broker that runs takes changed
    rules at its next reload (SIGHUP).
    """
    if action not in ("publish", "subscribe"):
        raise UsageError(f"action {action!r} is neither publish nor subscribe", mend="write one of these two")
    from sealmq.broker import acl as rules
    from sealmq.config.settings import load
    from sealmq.datafolder import DataFolder

    settings = load(ctx.obj.data / "sealmq.toml", file=config)
    groups = _groups(ctx.obj.data, who)
    found = rules.explain(
        settings,
        DataFolder.open(ctx.obj.data),
        identity=None if who == _ANONYMOUS else who,
        client_id=client_id if client_id is not None else who.removeprefix("user:"),
        action=action,
        topic=topic,
        groups={who: groups},
    )
    if ctx.obj.json:
        output.as_json({"who": who, "groups": groups, "action": action, "topic": topic, **found})
    else:
        verb = "may" if found["allowed"] else "may NOT"
        print(f"{who} {verb} {action} {printable(topic)}\n")
        facts(
            [("rule", found["rule"] or "none"), ("why", found["why"]), ("groups", ", ".join(groups) or "none")],
            indent=2,
        )
    if not found["allowed"]:
        raise NotSo(
            f"{who} may not {action} {printable(topic)}",
            mend="add a rule that allows it above those that do not, and reload the broker",
            code="denied",
        )


def _groups(data: Path, who: str) -> list[str]:
    """The groups of a device, by the registry; none for users and others. Raises `NotSo` for what does not exist."""
    if who == _ANONYMOUS:
        return []
    if who.startswith("user:"):
        known = perform(data, "user-list", {})["users"]
        if who.removeprefix("user:") not in {user["name"] for user in known}:
            raise NotSo(f"{who} does not exist", mend="see `sealmq user list`", code="user-unknown")
        return []
    return list(perform(data, "device-show", {"id": who})["groups"])
