"""`sealmq pub`: publishes messages, with the options of mosquitto_pub.

It refuses to know how a connection is made; `sealmq.cli.dial` does.
"""

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealmq.cli import dial, output
from sealmq.cli.properties import PropertyCommand
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.client.connection import Connection

_IDLE = 5.0  # seconds without a line after which the connection is looked after
_PROGRESS = 2.0  # seconds after which a person is told how far it is

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(cls=PropertyCommand)
@dial.connecting
def pub(
    ctx: typer.Context,
    url: dial.URL,
    topic: Annotated[str, typer.Option("-t", "--topic", metavar="TOPIC", help="Topic to publish on.")],
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="The message.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", metavar="FILE", help="The message is this file.")] = None,
    null: Annotated[
        bool, typer.Option("-n", "--null-message", help="An empty message; with -r it clears the topic.")
    ] = False,
    stdin: Annotated[bool, typer.Option("-s", "--stdin-file", help="The message is all of standard input.")] = False,
    lines: Annotated[bool, typer.Option("-l", "--stdin-line", help="One message per line of standard input.")] = False,
    qos: dial.QOS = 0,
    retain: Annotated[bool, typer.Option("-r", "--retain", help="The broker keeps it for later subscribers.")] = False,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Publish it N times.")] = 1,
    repeat_delay: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Pause between them.")] = 0.0,
    content_type: Annotated[str | None, typer.Option(metavar="TYPE", help="Content type (MQTT 5).")] = None,
    response_topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where an answer is wanted (MQTT 5).")
    ] = None,
    expiry: Annotated[int | None, typer.Option(min=0, metavar="SECONDS", help="Life of the message (MQTT 5).")] = None,
    user_property: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="User property (MQTT 5); may repeat.")
    ] = None,
    *,
    who: dial.Who,
) -> None:
    """Publish one message, or each line of standard input with -l.

    sealmq pub mqtts://localhost -t devices/sensor-1/t -m 21.5 --as sensor-1

    With QoS 1 and 2 it ends once the broker has the message, with status 1 when the broker refuses it. With QoS 0
    nobody answers.
    """
    from sealmq.client import reasons

    if [message is not None, file is not None, null, stdin, lines].count(True) != 1:
        raise UsageError("what to publish is not clear", mend="give exactly one of -m TEXT, -f FILE, -n, -s and -l")
    properties = who.given.publish(
        content_type=content_type, response_topic=response_topic, expiry=expiry, user=_pairs(user_property or [])
    )
    if properties is not None and who.mqtt != "5.0":
        raise UsageError("MQTT 3.1.1 has no properties", mend="leave them out, or use -V 5")
    payload = None if lines else _payload(message, file, stdin=stdin)
    with dial.connect(ctx.obj, url, who, role="pub") as connection, _progress(is_wanted=lines) as told:
        bodies = _lines(connection) if payload is None else _repeated(payload, repeat, repeat_delay)
        for code in connection.publish_many(topic, bodies, qos=qos, retain=retain, properties=properties):
            told.one_more()
            if ctx.obj.json:
                output.as_json({"topic": topic, "qos": qos, "reason_code": code, "reason": reasons.name(code)})


def _payload(message: str | None, file: Path | None, *, stdin: bool) -> bytes:
    if message is not None:
        return message.encode("utf-8", "surrogateescape")
    if stdin:
        return sys.stdin.buffer.read()
    if file is None:
        return b""
    try:
        return file.read_bytes()  # before connecting: a slip in the path costs nothing
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"file {file} cannot be read: {reason}", mend="check the path after -f") from None


def _repeated(payload: bytes, repeat: int, delay: float) -> Iterator[bytes | None]:
    for number in range(repeat):
        if number and delay:
            yield None
            time.sleep(delay)
        yield payload


def _lines(connection: "Connection") -> Iterator[bytes | None]:
    """Lines of standard input; None when for now there is none. The end of the connection is noticed meanwhile."""
    source, rest = sys.stdin.fileno(), b""
    while True:
        if not select.select([source], [], [], 0)[0]:
            yield None
            while not select.select([source], [], [], _IDLE)[0]:
                connection.next_message(timeout=0)
        part = os.read(source, 1 << 16)
        if not part:
            break
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in whole)
    if rest:
        yield rest


class _Told:
    """How many are through; the number shows on a terminal once it takes long."""

    def __init__(self, *, is_wanted: bool) -> None:
        self._next = time.monotonic() + _PROGRESS if is_wanted and sys.stderr.isatty() else float("inf")
        self._began = time.monotonic()
        self.count = 0
        self.is_shown = False

    def one_more(self) -> None:
        """One more is through."""
        self.count += 1
        if self.count & 0xFF == 0 and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.2
            self.is_shown = True
            rate = self.count / (time.monotonic() - self._began)
            print(f"\r{self.count:,} published, {rate:,.0f}/s ", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _progress(*, is_wanted: bool) -> Iterator[_Told]:
    told = _Told(is_wanted=is_wanted)
    try:
        yield told
    finally:
        if told.is_shown:
            print(f"\r{told.count:,} published            ", file=sys.stderr)


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"user property {text!r} has no value", mend="write --user-property KEY=VALUE")
        pairs.append((name, value))
    return tuple(pairs)
