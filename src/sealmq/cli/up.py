"""`sealmq up`: starts the broker, says what it serves, and waits for signals.

It refuses to know what a broker is made of; `sealmq.broker.service` does.
"""

import os
import re
import shlex
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import output
from sealmq.errors import NotSo, SealmqError

if TYPE_CHECKING:
    from sealmq.broker.facts import Facts
    from sealmq.broker.service import Service
    from sealmq.config.settings import Settings

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@app.command()
def up(
    ctx: typer.Context,
    mqtts: Annotated[
        list[str] | None,
        typer.Option(
            "--mqtts", metavar="ADDR", help="MQTT over TLS on HOST:PORT; may repeat.  [default: 127.0.0.1:8883]"
        ),
    ] = None,
    https: Annotated[
        str | None,
        typer.Option("--https", metavar="ADDR", help='Health, CA and metrics, or "off".  [default: 127.0.0.1:8443]'),
    ] = None,
    wss: Annotated[
        str | None,
        typer.Option("--wss", metavar="ADDR", help="MQTT over WebSocket at /mqtt; 8084 by custom.  [default: off]"),
    ] = None,
    psk: Annotated[
        str | None,
        typer.Option(
            "--psk",
            metavar="ADDR",
            help="MQTT over TLS with pre-shared keys; 8884 by custom.  [default: off]",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Configuration; else sealmq.toml in the data folder."),
    ] = None,
) -> None:
    """Start the broker in the foreground; the first start makes the CA, the server certificate and the data folder.

    Prints `ready URL` for each listener once it accepts; port 0 picks a free one. HOST 0.0.0.0 serves every address
    of this machine. Ctrl-C and SIGTERM end it with status 0; SIGHUP takes settings, rules and certificates anew.
    """
    from sealmq.broker.service import Service
    from sealmq.config.settings import load

    data: Path = ctx.obj.data
    given = {"listen.mqtts": mqtts or None, "listen.https": https, "listen.wss": wss, "listen.psk": psk}
    overrides = {name: value for name, value in given.items() if value is not None}

    def read_settings() -> "Settings":
        return load(data / "sealmq.toml", file=config, overrides=overrides)

    failures: list[dict[str, Any]] = []

    def watch(facts: "Facts") -> None:
        fatal = [event for event in facts.of("failure", "store") if event.get("fatal")]
        if fatal:
            failures.extend(fatal)
            os.kill(os.getpid(), signal.SIGTERM)

    with ExitStack() as stack:
        service = stack.enter_context(Service(data, read_settings, sinks=[watch]))
        wake = stack.enter_context(SignalBytes())
        for url in service.urls():
            print(f"ready {url}", flush=True)
        if service.first_start and service.settings.config.log.format == "text":
            output.note(_next_steps(service, ctx.obj.data_option))
        _serve(service, wake)
    if failures:
        mend = failures[0].get("mend") or "start it again, and report what stands above as a defect"
        raise NotSo(f"broker has stopped: {failures[0]['summary']}", mend=mend)


class SignalBytes:
    """From here on a signal is a byte in the socket that the block gets; afterwards the usual handlers hold again."""

    def __enter__(self) -> socket.socket:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd = signal.set_wakeup_fd(self._writer.fileno())
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        return self._reader

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd)
        self._reader.close()
        self._writer.close()


def _serve(service: "Service", wake: socket.socket) -> None:
    while True:
        caught = set(wake.recv(64))
        if caught & {signal.SIGTERM, signal.SIGINT}:
            service.logger.info("stopping", summary="signal received; clients are told and connections closed")
            return
        try:
            service.reload()
        except SealmqError as error:
            summary = f"{error.message}; what was in force stays in force"
            service.logger.error("reload", summary=summary, mend=error.mend)  # noqa: TRY400


def _next_steps(service: "Service", data: Path | None) -> str:
    sealmq = output.program() + (f" --data {shlex.quote(str(data))}" if data else "")
    url = re.sub(r"://(127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):", "://localhost:", service.urls()[0])
    return f"""
A new CA was made in {service.folder.path}. Next, in another shell:

  {sealmq} device add sensor-1
  {sealmq} sub {url} -t 'devices/sensor-1/#' --as sensor-1
  {sealmq} pub {url} -t devices/sensor-1/temperature -m 21.5 --as sensor-1
"""
