"""`sealmq user`: users with passwords, for clients that cannot hold a certificate.

It refuses to know how passwords are kept; it asks for one, has it hashed, and hands on the hash.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.cli.cert.files import passphrase_in
from sealmq.cli.folder import perform
from sealmq.cli.table import moment, table
from sealmq.errors import UsageError

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 letters, digits, - _ . and @.")]


@app.command(short_help="Add a user; the password is asked for.")
def add(
    ctx: typer.Context,
    name: Name,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="The password, in the first line of FILE."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give a user that exists another password.")] = False,
) -> None:
    """Add a user: a client that shows no certificate, but this name and the password in its CONNECT, over TLS.

    With the first user the listeners let clients without certificate through to CONNECT; what a user may do is what
    rules with who = "user:NAME" allow, and nothing without one. A running broker takes it at once.
    """
    from sealmq.pki.users import check_user_name, password_hash

    check_user_name(name)
    password = passphrase_in(password_file)
    args = {"name": name, "hash": password_hash(_asked(name) if password is None else password), "replace": replace}
    made = perform(ctx.obj.data, "user-add", args, create=True)
    if ctx.obj.json:
        output.as_json(made)
        return
    print(
        f"user {name} added\n\nnext, allow something in rules.toml of the data folder, and reload the broker (SIGHUP)."
    )
    print("That file replaces the built-in rules, so keep what devices need in it: see docs/access.md\n")
    topics = 'topics = ["users/{id}/#"]'
    actions = 'actions = ["publish", "subscribe"]'
    print(f'  [[rule]]\n  name = "{name}"\n  who = "user:{name}"\n  {actions}\n  {topics}')


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List every user."""
    found = perform(ctx.obj.data, "user-list", {})
    if ctx.obj.json:
        output.as_json(found)
    elif not found["users"]:
        print(f"no users; add one with: {output.program()} user add NAME")
    else:
        table(["user", "since"], [[user["name"], moment(user["created_at"])] for user in found["users"]])


@app.command()
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a user; connections of that user end.

    Ends with status 1 when there is no such user.
    """
    found = perform(ctx.obj.data, "user-remove", {"name": name})
    if ctx.obj.json:
        output.as_json(found)
    else:
        print(f"user {name} removed")


def _asked(name: str) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            f"password of {name} cannot be asked for: this is no terminal", mend="give it with --password-file FILE"
        )
    from getpass import getpass

    first = getpass(f"password of {name}: ")
    if getpass("again: ") != first:
        raise UsageError("the two passwords are not the same", mend="try again")
    return first.encode()
