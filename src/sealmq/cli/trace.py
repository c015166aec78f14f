"""`sealmq trace`: a real handshake and MQTT session, step by step.

It refuses to know how it is done; `sealmq.trace` does it, and shows it.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from sealmq.cli import output
from sealmq.cli.traceask import Asked, next_at_broker
from sealmq.cli.tracecompare import compare as both_came_about
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.trace.model import Trace
    from sealmq.trace.recording import Recording

_WAIT = 60.0  # seconds for a handshake at the broker

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def trace(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="mqtts://HOST[:8883], mqtts+psk://HOST[:8884], wss://HOST[:8084]/mqtt; https:// or tls:// for the "
            "channel alone",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Act as this device of the data folder.")
    ] = None,
    cafile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CA certificates to trust, and CRLs to heed.  [default: those of the system]"
        ),
    ] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain of the client.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the client.")] = None,
    psk_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pre-shared key: one line, identity:hexkey, as in psk.txt.")
    ] = None,
    psk_identity: Annotated[
        str, typer.Option(metavar="NAME", help="Which of several in that file, a psk_file of mosquitto's kind.")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say for each step why it is there.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every field by its name.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Connect twice, the second time with the session of the first.")
    ] = False,
    tls: Annotated[str, typer.Option(metavar="1.2|1.3", help="Allow this version alone.")] = "",
    ciphers: Annotated[
        str, typer.Option(metavar="LIST", help="Cipher suites of TLS 1.2, as OpenSSL writes them.")
    ] = "",
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Also speak what nobody should any more, for looking only.")
    ] = False,
    post_quantum: Annotated[
        bool, typer.Option("--post-quantum", help="Offer X25519MLKEM768 first, by sealmq's own client.")
    ] = False,
    server_name: Annotated[
        str, typer.Option(metavar="NAME", help="Ask for and verify this name instead of the host.")
    ] = "",
    alpn: Annotated[
        str | None, typer.Option(metavar="LIST", help="Offer these protocols, by comma; empty for none.")
    ] = None,
    topic: Annotated[str, typer.Option(help="Topic to publish on and hear.  [default: devices/ID/trace]")] = "",
    client_id: Annotated[str, typer.Option("-i", "--id", metavar="ID", help="Client id.  [default: ID:trace]")] = "",
    version: Annotated[str, typer.Option("-V", "--protocol-version", metavar="5|311", help="MQTT version.")] = "5",
    timeout: Annotated[
        float | None, typer.Option(min=0.1, max=600, metavar="SECONDS", help="Patience in each stage.")
    ] = None,
    save: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Keep the recording, WITH ITS SECRETS; .pcapng for Wireshark; may repeat."),
    ] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Show a recording again instead.")] = None,
    page_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Draw it as a page to walk through, all in this one file."),
    ] = None,
    ladder_file: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the ladder diagram alone.")
    ] = None,
    of_device: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", help="Show the next handshake of this device, as the broker sees it."),
    ] = None,
    of_anyone: Annotated[
        bool, typer.Option("--next", help="Show the next handshake of anyone, as the broker sees it.")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Two side by side, URLs or recordings; after a URL two of full, resumed, 1.2, 1.3, post-quantum.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Connect so often for --compare; times are medians.")
    ] = 5,
    pid: Annotated[
        int | None, typer.Option(min=1, metavar="PID", help="The broker, a process of this machine: measure its CPU.")
    ] = None,
) -> None:
    """Go through a real handshake and MQTT session and show each step; ends with status 1 when it failed.

    sealmq trace mqtts://localhost:8883 --as sensor-1 --explain
    """
    from sealmq.trace.build import trace_of
    from sealmq.trace.model import to_json
    from sealmq.trace.recording import Recording

    asked = Asked(
        ctx.obj, device, cafile, cert, key, psk_file, psk_identity, tls, ciphers, legacy, post_quantum, resume,
        server_name, alpn, topic, client_id, version, timeout, pid,
    )  # fmt: skip
    if compare is not None:
        others = (replay, of_device, page_file, ladder_file)
        if any(other is not None for other in others) or of_anyone or save or resume:
            raise UsageError(
                "--compare goes with none of --replay, --device, --next, --save, --html, --svg and --resume",
                mend="save both with --save and compare the recordings; `URL --compare full resumed` connects anew",
            )
        if not both_came_about(asked, url, compare, rounds=rounds):
            raise typer.Exit(1)
        return
    if sum((url is not None, replay is not None, of_device is not None, of_anyone)) != 1:
        raise UsageError("what to trace is not clear", mend="give a URL, --replay FILE, --device ID or --next")
    if replay is not None:
        recording = Recording.read(replay)
    elif url is None:
        recording = next_at_broker(ctx.obj, of_device, _WAIT if timeout is None else timeout)
    else:
        recording = asked.run(url)
    made = trace_of(recording)
    _save(recording, save or [])
    _draw(made, page_file, ladder_file)
    if ctx.obj.json:
        output.as_json(to_json(made))
    else:
        from sealmq.trace import render

        render.show(made, explain=explain, verbose=verbose)
    if made.outcome == "failed":
        raise typer.Exit(1)


def _draw(made: Trace, page_file: Path | None, ladder_file: Path | None) -> None:
    from sealmq import secretfiles
    from sealmq.trace import page

    for path, draw in ((page_file, page.html), (ladder_file, page.svg)):
        if path is not None:
            # no secrets, but all that was said in the channel
            secretfiles.write_private(path, draw(made).encode())
            output.note(f"drawn in {path} (mode 0600): no keys in it, but what was said on this connection")


def _save(recording: Recording, paths: list[Path]) -> None:
    for path in paths:
        if path.suffix == ".pcapng":
            from sealmq.trace import pcapng

            pcapng.write(recording, path)
        else:
            recording.write(path)
        output.note(f"kept in {path} (mode 0600): whoever has it can read all that was said on this connection")
