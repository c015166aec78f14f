"""`sealmq sub`: subscribes and prints messages, with the options of mosquitto_sub.

It refuses to know how a connection is made (`sealmq.cli.dial`) and how a message is written (`sealmq.cli.formats`).
"""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sealmq.cli import dial, output
from sealmq.cli.formats import Format
from sealmq.cli.properties import PropertyCommand
from sealmq.errors import NotSo, UsageError

if TYPE_CHECKING:
    from sealmq.client.subscription import SubscribeOptions

_RETAIN_HANDLING: dict[str, Literal[0, 1, 2]] = {"always": 0, "new": 1, "never": 2}

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(cls=PropertyCommand)
@dial.connecting
def sub(
    ctx: typer.Context,
    url: dial.URL,
    topic: Annotated[list[str], typer.Option("-t", "--topic", metavar="FILTER", help="Topic filter; may repeat.")],
    filter_out: Annotated[
        list[str] | None, typer.Option("-T", "--filter-out", metavar="FILTER", help="Print none of these; may repeat.")
    ] = None,
    unsubscribe: Annotated[
        list[str] | None, typer.Option("-U", "--unsubscribe", metavar="FILTER", help="Unsubscribe first; may repeat.")
    ] = None,
    count: Annotated[int | None, typer.Option("-C", min=1, metavar="N", help="End after N messages.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print the topic before the message.")] = False,
    text: Annotated[
        str | None, typer.Option("-F", "--format", metavar="FORMAT", help="How to print, such as '%t %q %p'.")
    ] = None,
    no_newline: Annotated[bool, typer.Option("-N", "--no-eol", help="No line break after a message.")] = False,
    qos: dial.QOS = 0,
    no_retained: Annotated[bool, typer.Option("-R", help="Print no retained messages.")] = False,
    retained_only: Annotated[
        bool, typer.Option("--retained-only", help="Print retained messages, and end with the first other one.")
    ] = False,
    retain_as_published: Annotated[
        bool, typer.Option("--retain-as-published", help="Keep the retain flag of new messages (MQTT 5).")
    ] = False,
    retain_handling: Annotated[
        str, typer.Option(metavar="always|new|never", help="When to send retained messages (MQTT 5).")
    ] = "always",
    no_local: Annotated[bool, typer.Option("--no-local", help="Nothing of one's own (MQTT 5).")] = False,
    only_subscribe: Annotated[bool, typer.Option("-E", help="End once the broker has the subscription.")] = False,
    wait: Annotated[
        float | None,
        typer.Option("-W", min=0.0, metavar="SECONDS", help="End after that time; status 1 if -C is not reached."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr once subscribed.")] = False,
    *,
    who: dial.Who,
) -> None:
    """Print messages as they come, one per line, until Ctrl-C, -C or -W ends it.

    sealmq sub mqtts://localhost -t 'devices/sensor-1/#' --as sensor-1

    Ends with status 1 when the broker refuses the subscription or goes away.
    """
    options = _options(who, retain_handling, no_local=no_local, retain_as_published=retain_as_published)
    end = "" if no_newline else "\n"
    chosen = Format.json(end) if ctx.obj.json else Format(text or ("%t %p" if verbose else "%p"), end)
    with dial.connect(ctx.obj, url, who, role="sub") as connection:
        if unsubscribe:
            connection.unsubscribe(unsubscribe)
        connection.subscribe(topic, qos=qos, options=options)
        if not quiet:
            output.note(f"subscribed {' '.join(topic)}")
        if only_subscribe:
            return
        seen = 0
        for message in connection.messages(timeout=wait):
            if retained_only and not message.retain:
                return
            if (no_retained and message.retain) or any(message.matches(one) for one in filter_out or ()):
                continue
            sys.stdout.buffer.write(chosen.of(message))
            sys.stdout.buffer.flush()
            seen += 1
            if seen == count:
                return
    if count is not None:
        raise NotSo(f"{seen} of {count} messages came within {wait:g} s", code="messages-missing")


def _options(who: dial.Who, retain_handling: str, *, no_local: bool, retain_as_published: bool) -> "SubscribeOptions":
    from sealmq.client.subscription import SubscribeOptions

    if retain_handling not in _RETAIN_HANDLING:
        raise UsageError(f"retain handling {retain_handling!r} is not known", mend="one of always, new, never")
    options = SubscribeOptions(
        no_local=no_local,
        retain_as_published=retain_as_published,
        retain_handling=_RETAIN_HANDLING[retain_handling],
        **who.given.subscribe(),
    )
    if options != SubscribeOptions() and who.mqtt != "5.0":
        raise UsageError("MQTT 3.1.1 has no options of a subscription", mend="leave them out, or use -V 5")
    return options
