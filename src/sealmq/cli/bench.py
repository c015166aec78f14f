"""`sealmq bench`: a load on any broker, and what it came to.

It refuses to know how a load is made; `sealmq.client.load` does.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import dial, output
from sealmq.cli.properties import PropertyCommand
from sealmq.cli.table import facts
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.client.load import Generator

_KINDS = ("connect", "pub", "sub", "pair", "fan-in", "fan-out", "sparse")
_SPARSE = 10.0  # messages a second of each, where nothing else is said
_REFRESH = 0.25  # seconds

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(cls=PropertyCommand)
@dial.connecting
def bench(
    ctx: typer.Context,
    url: dial.URL,
    kind: Annotated[str, typer.Argument(metavar="|".join(_KINDS), help="Who talks to whom.")] = "pair",
    clients: Annotated[int, typer.Option("-n", "--clients", min=1, metavar="N", help="Connections, or pairs.")] = 10,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Messages of each publisher.")] = 10_000,
    rate: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="PER-SECOND", help="Of each publisher.  [sparse: 10, else no limit]"),
    ] = None,
    size: Annotated[int, typer.Option("-s", "--size", metavar="BYTES", help="Payload.")] = 64,
    qos: dial.QOS = 0,
    seconds: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="At most that long.")] = 60.0,
    topic: Annotated[
        str | None, typer.Option("-t", "--topic", help="Topics begin with it.  [default: devices/DEVICE/bench]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="connect: resumed handshakes in place of full ones.")
    ] = False,
    pid: Annotated[int | None, typer.Option(metavar="PID", help="The broker on this machine: its CPU, memory.")] = None,
    *,
    who: dial.Who,
) -> None:
    """Load a broker: connections, or messages of many clients, and print rates, latencies, and what the broker spent.

    sealmq bench mqtts://localhost pair -n 4 -q 1 --as sensor-1 --pid $(pgrep -f 'sealmq up')

    Ends with status 1 when connections or messages are refused; slow is not a failure.
    """
    from sealmq.client.load import Generator, Kind, Load

    if kind not in _KINDS:
        raise UsageError(f"load {kind!r} is not known", mend=f"one of {', '.join(_KINDS)}")
    if resume and kind != "connect":
        raise UsageError("--resume is for connect alone", mend="leave it out")
    target, identity = dial.reach(ctx.obj, url, who)
    if resume and target.is_psk:
        raise UsageError("a pre-shared key has no resumed handshake", mend="leave --resume out")
    own = f"devices/{identity.device}/bench" if identity.device else "bench"
    load = Load(
        kind=Kind(kind),
        clients=clients,
        count=count,
        rate=rate if rate is not None else _SPARSE if kind == "sparse" else 0.0,
        size=size,
        qos=qos,  # type: ignore[arg-type]
        seconds=seconds,
        topic=topic or own,
        is_full=not resume,
        pid=pid,
    )
    generator = Generator(url, identity, dial.opening(who, identity, role="bench"), load)
    found = asyncio.run(_watched(generator))
    if ctx.obj.json:
        output.as_json(found)
        return
    facts((name.replace("_", " "), _words(value)) for name, value in found.items() if value is not None)


async def _watched(generator: "Generator") -> dict[str, Any]:
    """Run it, and show on a terminal how far it is."""
    if not sys.stderr.isatty():
        return await generator.run()
    from rich.console import Console

    running = asyncio.ensure_future(generator.run())
    with Console(stderr=True).status("connecting") as status:
        while not running.done():
            await asyncio.wait([running], timeout=_REFRESH)
            tally = generator.tally
            status.update(f"{tally.connected} connected, {tally.published:,} published, {tally.delivered:,} delivered")
    return running.result()


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {one}" for name, one in value.items() if one is not None)
    return f"{value:,}" if isinstance(value, int) else str(value)
