"""`sealmq pub`: publishes messages, with the options of mosquitto_pub.

It refuses to know how a connection is made; `sealmq.cli.dial` does.
"""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealmq.cli import dial, output
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.client.connection import Connection

_IDLE = 5.0  # seconds without a line after which the connection is looked after

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def pub(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="mqtts://HOST[:8883] or wss://HOST[:8084]/mqtt")],
    topic: Annotated[str, typer.Option("-t", "--topic", metavar="TOPIC", help="Topic to publish on.")],
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="The message.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", metavar="FILE", help="The message is this file.")] = None,
    null: Annotated[
        bool, typer.Option("-n", "--null-message", help="An empty message; with -r it clears the topic.")
    ] = False,
    lines: Annotated[bool, typer.Option("-l", "--stdin-line", help="One message per line of standard input.")] = False,
    qos: Annotated[
        int, typer.Option("-q", "--qos", metavar="0|1|2", parser=dial.qos, help="At most, at least, exactly once.")
    ] = 0,
    retain: Annotated[bool, typer.Option("-r", "--retain", help="The broker keeps it for later subscribers.")] = False,
    content_type: Annotated[str | None, typer.Option(metavar="TYPE", help="Content type (MQTT 5).")] = None,
    response_topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where an answer is wanted (MQTT 5).")
    ] = None,
    expiry: Annotated[int | None, typer.Option(min=0, metavar="SECONDS", help="Life of the message (MQTT 5).")] = None,
    user_property: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="User property (MQTT 5); may repeat.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Act as this device of the data folder.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("-i", "--id", metavar="ID", help="Client id.  [default: DEVICE:pub-xxxx]")
    ] = None,
    cafile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CA certificates to verify the broker with.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of the client; needs --key.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the client.")] = None,
    version: Annotated[str, typer.Option("-V", "--protocol-version", metavar="5|311", help="MQTT version.")] = "5",
) -> None:
    """Publish one message, or each line of standard input with -l.

    sealmq pub mqtts://localhost -t devices/sensor-1/t -m 21.5 --as sensor-1

    With QoS 1 and 2 it ends once the broker has the message, with status 1 when the broker refuses it. With QoS 0
    nobody answers.
    """
    from sealmq.client import reasons
    from sealmq.client.connection import Properties

    if [message is not None, file is not None, null, lines].count(True) != 1:
        raise UsageError("what to publish is not clear", mend="give exactly one of -m TEXT, -f FILE, -n and -l")
    properties = Properties(
        content_type=content_type, response_topic=response_topic, expiry=expiry, user=_pairs(user_property or [])
    )
    if properties.as_json() is not None and version not in ("5", "5.0", "mqttv5"):
        raise UsageError("MQTT 3.1.1 has no properties", mend="leave them out, or use -V 5")
    who = dial.Who(device, client_id, cafile, cert, key)
    payload = None if lines else _payload(message, file)
    with dial.connect(ctx.obj, url, who, version=version, role="pub") as connection:
        for body in _lines(connection) if payload is None else [payload]:
            code = connection.publish(topic, body, qos=qos, retain=retain, properties=properties)
            if ctx.obj.json:
                output.as_json({"topic": topic, "qos": qos, "reason_code": code, "reason": reasons.name(code)})


def _payload(message: str | None, file: Path | None) -> bytes:
    if message is not None:
        return message.encode("utf-8", "surrogateescape")
    if file is None:
        return b""
    try:
        return file.read_bytes()  # before connecting: a slip in the path costs nothing
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"file {file} cannot be read: {reason}", mend="check the path after -f") from None


def _lines(connection: "Connection") -> Iterator[bytes]:
    """Lines of standard input; while none comes the connection is kept alive, and its end is noticed."""
    source, rest = sys.stdin.fileno(), b""
    while True:
        if not select.select([source], [], [], _IDLE)[0]:
            connection.next_message(timeout=0)
            continue
        part = os.read(source, 1 << 16)
        if not part:
            break
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in whole)
    if rest:
        yield rest


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"user property {text!r} has no value", mend="write --user-property KEY=VALUE")
        pairs.append((name, value))
    return tuple(pairs)
