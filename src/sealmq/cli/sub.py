"""`sealmq sub`: subscribes and prints messages, with the options of mosquitto_sub.

It refuses to know how a connection is made; `sealmq.cli.dial` does.
"""

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import dial, output
from sealmq.errors import NotSo

if TYPE_CHECKING:
    from sealmq.client.connection import Message

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def sub(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="mqtts://HOST[:8883] or wss://HOST[:8084]/mqtt")],
    topic: Annotated[list[str], typer.Option("-t", "--topic", metavar="FILTER", help="Topic filter; may repeat.")],
    count: Annotated[int | None, typer.Option("-C", min=1, metavar="N", help="End after N messages.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print the topic before the message.")] = False,
    qos: Annotated[
        int, typer.Option("-q", "--qos", metavar="0|1|2", parser=dial.qos, help="At most, at least, exactly once.")
    ] = 0,
    wait: Annotated[
        float | None,
        typer.Option("-W", min=0.0, metavar="SECONDS", help="End after that time; status 1 if -C is not reached."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr once subscribed.")] = False,
    device: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Act as this device of the data folder.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("-i", "--id", metavar="ID", help="Client id.  [default: DEVICE:sub-xxxx]")
    ] = None,
    cafile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CA certificates to verify the broker with.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of the client; needs --key.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the client.")] = None,
    version: Annotated[str, typer.Option("-V", "--protocol-version", metavar="5|311", help="MQTT version.")] = "5",
) -> None:
    """Print messages as they come, one per line, until Ctrl-C, -C or -W ends it.

    sealmq sub mqtts://localhost -t 'devices/sensor-1/#' --as sensor-1

    Ends with status 1 when the broker refuses the subscription or goes away.
    """
    who = dial.Who(device, client_id, cafile, cert, key)
    with dial.connect(ctx.obj, url, who, version=version, role="sub") as connection:
        connection.subscribe(topic, qos=qos)
        if not quiet:
            output.note(f"subscribed {' '.join(topic)}")
        seen = 0
        for message in connection.messages(timeout=wait):
            _write(message, verbose=verbose, as_json=ctx.obj.json)
            seen += 1
            if seen == count:
                return
    if count is not None:
        raise NotSo(f"{seen} of {count} messages came within {wait:g} s", code="messages-missing")


def _write(message: "Message", *, verbose: bool, as_json: bool) -> None:
    out = sys.stdout.buffer
    if as_json:
        out.write(json.dumps(_record(message), ensure_ascii=False).encode())
    else:
        out.write(message.topic.encode() + b" " if verbose else b"")
        out.write(message.payload)
    out.write(b"\n")
    out.flush()


def _record(message: "Message") -> dict[str, Any]:
    record: dict[str, Any] = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    try:
        record["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        record["payload_base64"] = base64.b64encode(message.payload).decode()
    if message.properties:
        record["properties"] = message.properties
    return record
