"""`sealmq trace`: a real handshake and MQTT session, step by step.

It refuses to know how it is done; `sealmq.trace` does it, and shows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealmq.cli import output
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.cli.app import Globals
    from sealmq.trace.compare import Row
    from sealmq.trace.model import Trace
    from sealmq.trace.recording import Recording
    from sealmq.trace.request import Identity, MqttVersion

_MQTT: dict[str, MqttVersion] = {
    "5": "5.0",
    "5.0": "5.0",
    "mqttv5": "5.0",
    "311": "3.1.1",
    "3.1.1": "3.1.1",
    "mqttv311": "3.1.1",
}

_WAIT = 60.0  # seconds for a handshake at the broker

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def trace(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="mqtts://HOST[:8883], wss://HOST[:8084]/mqtt, or https:// or tls:// up to the channel"
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
            metavar="A B", help="Put two recordings or URLs side by side: steps, bytes, time, what was saved."
        ),
    ] = None,
    compare_with: Annotated[str, typer.Option(metavar="resumed|1.2|1.3", help="Connect again so, and compare.")] = "",
) -> None:
    """Go through a real handshake and MQTT session and show each step; ends with status 1 when it failed.

    sealmq trace mqtts://localhost:8883 --as sensor-1 --explain
    """
    from sealmq.trace.build import trace_of
    from sealmq.trace.model import to_json
    from sealmq.trace.recording import Recording

    def ask(url: str, *, version_of_tls: str = tls, twice: bool = resume) -> Recording:
        from sealmq.trace import recorder
        from sealmq.trace.request import Bounds, Request
        from sealmq.trace.target import Target

        if version not in _MQTT:
            raise UsageError(f"MQTT version {version!r} is not known", mend="-V takes 5 or 311")
        if version_of_tls not in ("", "1.2", "1.3"):
            raise UsageError(f"TLS version {version_of_tls!r} cannot be chosen", mend="--tls takes 1.2 or 1.3")
        request = Request(
            Target.parse(url),
            _identity(ctx.obj, device, cafile, cert, key),
            tls="1.2" if version_of_tls == "1.2" else "1.3" if version_of_tls == "1.3" else "",
            legacy=legacy,
            ciphers=ciphers,
            resume=twice,
            server_name=server_name,
            mqtt=_MQTT[version],
            client_id=client_id,
            topic=topic,
            protocols=None if alpn is None else tuple(word for word in alpn.split(",") if word),
            bounds=Bounds() if timeout is None else Bounds(connect=timeout, handshake=timeout, mqtt=timeout),
        )
        return recorder.run(request)

    if compare is not None or compare_with:
        others = (replay, of_device, page_file, ladder_file)
        if any(other is not None for other in others) or of_anyone or save or (url is None) == (compare is None):
            raise UsageError(
                "what to compare is not clear", mend="give --compare A B, or URL --compare-with resumed, 1.2 or 1.3"
            )
        _compare(ctx.obj, _pair(ask, url, compare, compare_with))
        return
    if sum((url is not None, replay is not None, of_device is not None, of_anyone)) != 1:
        raise UsageError("what to trace is not clear", mend="give a URL, --replay FILE, --device ID or --next")
    if replay is not None:
        recording = Recording.read(replay)
    elif url is None:
        recording = _of_broker(ctx.obj, of_device, _WAIT if timeout is None else timeout)
    else:
        recording = ask(url)
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


def _pair(
    ask: Callable[..., Recording], url: str | None, compare: tuple[str, str] | None, with_what: str
) -> tuple[Trace, Trace]:
    """The two traces that were asked for."""
    from sealmq.trace.build import trace_of
    from sealmq.trace.recording import Recording

    if url is None:
        first, second = (
            trace_of(ask(one) if "://" in one else Recording.read(Path(one))) for one in compare or ("", "")
        )
        return first, second
    if with_what == "resumed":
        again = trace_of(ask(url, twice=True))
        return again.previous or again, again
    if with_what not in ("1.2", "1.3"):
        raise UsageError(f"{with_what!r} cannot be compared with", mend="--compare-with takes resumed, 1.2 or 1.3")
    return trace_of(ask(url)), trace_of(ask(url, version_of_tls=with_what))


def _compare(options: Globals, pair: tuple[Trace, Trace]) -> None:
    from sealmq.trace import compare as comparing

    found = comparing.compare(*pair)
    if options.json:
        output.as_json(comparing.to_json(found))
    else:
        head = ["", comparing.label(found.first), comparing.label(found.second), "difference"]
        output.columns(head, [_cells(row) for row in found.rows])
        print(f"\n{found.summary}")
    if "failed" in (pair[0].outcome, pair[1].outcome):
        raise typer.Exit(1)


def _cells(row: Row) -> list[str]:
    digits = 1 if row.unit == "ms" else 0
    unit = " ms" if row.unit == "ms" else ""
    return [
        row.name,
        f"{row.first:.{digits}f}{unit}",
        f"{row.second:.{digits}f}{unit}",
        f"{row.difference:+.{digits}f}",
    ]


def _of_broker(options: Globals, device: str | None, seconds: float) -> Recording:
    """The next handshake that the running broker sees."""
    from sealmq.broker import control
    from sealmq.cli.folder import running
    from sealmq.errors import NotSo
    from sealmq.pki.names import check_device_id
    from sealmq.trace.brokerside import recording_of

    if device is not None:
        check_device_id(device)
    folder = running(options.data)
    who = f"device {device}" if device else "anyone"
    output.note(f"waiting up to {seconds:g} s for the next handshake of {who}")
    args = {"device": device, "seconds": seconds}
    found = control.call(folder, "trace-record", args, patience=seconds + 10)["recording"]
    if found is None:
        raise NotSo(
            f"no handshake of {who} came within {seconds:g} s",
            mend="connect it now, or wait longer with --timeout; `sealmq log refusals` shows whom the broker refused",
            code="nothing-recorded",
        )
    return recording_of(found)


def _identity(
    options: Globals, device: str | None, cafile: Path | None, cert: Path | None, key: Path | None
) -> Identity:
    from sealmq.trace.request import Identity

    if device is None:
        return Identity(cafile, cert, key)
    if cert is not None or key is not None:
        raise UsageError("--as and --cert or --key name two identities", mend="give one of them")
    from sealmq.datafolder import DataFolder
    from sealmq.pki.operations import device_files

    files = device_files(DataFolder.open(options.data), device)
    return Identity(cafile or files.ca, files.cert, files.key)


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
