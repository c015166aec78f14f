"""The command `sealmq`: its verbs, the options that every verb takes, and how a run ends.

It refuses to know what a verb does, and imports the module of a verb only when that verb is used, so that help and
completion stay fast.
"""

import copy
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from sealmq.errors import SealmqError, UsageError


class Verb(NamedTuple):
    """Where a verb lives, its line in the help, and whether it has verbs of its own."""

    module: str
    help: str
    group: bool = False


VERBS = {
    "up": Verb("sealmq.cli.up", "Start the broker; the first start makes its CA and certificates."),
    "status": Verb("sealmq.cli.status", "What the running broker serves, and whom it refused and why."),
    "device": Verb("sealmq.cli.device", "Devices of the fleet, from add and token to revoke and retire.", group=True),
    "agent": Verb("sealmq.cli.agent", "On a device: enrol once, then renew the certificate in time."),
    "pub": Verb("sealmq.cli.pub", "Publish messages, options as in mosquitto_pub."),
    "sub": Verb("sealmq.cli.sub", "Subscribe and print messages, options as in mosquitto_sub."),
    "bench": Verb("sealmq.cli.bench", "Load any broker: connections and messages, rates, latencies, its CPU."),
    "pin": Verb("sealmq.cli.pin", "Public keys that devices insist on, and what would strand them.", group=True),
    "trace": Verb("sealmq.cli.trace", "Walk through a real handshake and MQTT session, and say why one failed."),
    "log": Verb("sealmq.cli.log", "What the running broker remembers: whom it refused and why.", group=True),
    "ca": Verb("sealmq.cli.ca", "The built-in certificate authority: show, export, rotate.", group=True),
    "cert": Verb(
        "sealmq.cli.cert", "Keys, requests and certificates in files: key, csr, sign, show, verify.", group=True
    ),
    "user": Verb(
        "sealmq.cli.user", "Users with passwords, for clients without certificate: add, list, remove.", group=True
    ),
    "store": Verb("sealmq.cli.store", "Kept sessions and messages: backup, restore, check, stats.", group=True),
    "acl": Verb("sealmq.cli.acl", "Which rule decides what a client may publish and subscribe.", group=True),
    "expiry": Verb("sealmq.cli.expiry", "Every certificate and revocation list by the time it has left."),
    "config": Verb("sealmq.cli.config", "The settings in force and where each came from.", group=True),
}

EPILOG = "A first run: `sealmq up`, and in another shell `sealmq device add sensor-1`; each prints what to do next."
STATUS_INTERRUPTED = 130  # 128 + SIGINT, as shells count
STATUS_PIPE = 141  # 128 + SIGPIPE


@dataclass
class Globals:
    """The options that every verb takes, in `ctx.obj`; given before or after the verb."""

    data_option: Path | None = None
    json: bool = False

    @property
    def data(self) -> Path:
        """The data folder: `--data`, else `$SEALMQ_DATA`, else `./sealmq-data`."""
        from sealmq.datafolder import DataFolder

        return DataFolder.resolve(self.data_option)


class Verbs(TyperGroup):
    """A group whose commands are imported on use; the help comes from the table above."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002
        """The verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Import the verb and give it the global options. Raises `UsageError` for a verb that does not exist."""
        if cmd_name.startswith("-"):
            return None
        if cmd_name not in VERBS:
            raise _unknown(cmd_name)
        verb = VERBS[cmd_name]
        found = import_module(verb.module).app
        command = typer.main.get_group(found) if verb.group else typer.main.get_command(found)
        command.name = cmd_name
        command.help = command.help or verb.help
        shared = [parameter for parameter in self.params if parameter.name in ("data", "json")]
        _graft(command, shared)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002
        """The verbs of the help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


app = typer.Typer(
    name="sealmq",
    cls=Verbs,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, value: bool) -> None:
    if value:
        from sealmq import __version__

        print(f"sealmq {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def sealmq(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        # readable=False: who may not read it hears so from whatever reads it, with a mend that fits
        typer.Option("--data", metavar="DIR", readable=False, help="Data folder; else $SEALMQ_DATA, ./sealmq-data."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda value: _version(value=value), help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """MQTT over TLS, right by default: broker, device certificates, handshake insight and client."""
    del version
    ctx.obj = Globals(data, json)
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def run(args: list[str]) -> int:
    """Run one command line; the exit status. Errors are on stderr as `error: …` and, where there is one, `mend: …`."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("sealmq", list(args)) as ctx:
            command.invoke(ctx)
        sys.stdout.flush()
    except SealmqError as error:
        _complain(error.message, error.mend)
        return error.exit_status
    except typer.Exit as end:
        return _flushed(end.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # whoever read has gone; point stdout elsewhere, so that the interpreter's last flush finds no broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_PIPE
    except UnicodeEncodeError:
        _complain("an argument is not UTF-8 text", "write it in UTF-8; paths may be anything")
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _complain(f"{place}{(error.strerror or str(error)).lower()}", "")
        return 2
    except Exception as error:
        if not _is_usage_error(error):
            raise
        return _usage(error)
    return 0


def _flushed(status: int) -> int:
    sys.stdout.flush()
    return status


def _is_usage_error(error: Exception) -> bool:
    # typer's usage errors are click's, or those of its own copy of click; BadParameter is public in both
    return isinstance(error, typer.BadParameter.__mro__[2])


def _usage(error: Any) -> int:  # noqa: ANN401
    message = " ".join(error.format_message().split()).rstrip(".")
    path = error.ctx.command_path if getattr(error, "ctx", None) is not None else "sealmq"
    _complain(message[:1].lower() + message[1:], f"see `{path} --help`")
    return 2


def _complain(message: str, mend: str) -> None:
    from sealmq.cli.output import complain

    complain(message, mend)


def _unknown(verb: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1)
    mend = f"did you mean `sealmq {near[0]}`?" if near else "`sealmq --help` lists the commands"
    return UsageError(f"command {verb!r} does not exist", mend=mend, code="verb-unknown")


def _graft(command: Any, shared: list[Any]) -> None:  # noqa: ANN401
    """Let a verb, and the verbs in it, take the global options too, so that their place does not matter."""
    command.rich_markup_mode = None  # one style of help, and no heavy import for it
    taken = {name for parameter in command.params for name in parameter.opts}
    for parameter in shared:
        if not taken & set(parameter.opts):
            own = copy.copy(parameter)
            own.expose_value = False
            own.callback = _remember
            command.params.append(own)
    for inner in getattr(command, "commands", {}).values():
        _graft(inner, shared)


def _remember(ctx: Any, parameter: Any, value: Any) -> Any:  # noqa: ANN401
    if value and isinstance(ctx.obj, Globals):
        if parameter.name == "json":
            ctx.obj.json = True
        else:
            ctx.obj.data_option = Path(value)
    return value
