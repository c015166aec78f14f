"""`sealmq device`: adds devices to the fleet, lists them, shows one.

It refuses to know how certificates are made; it parses, calls and prints.
"""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.folder import broker_address, perform
from sealmq.cli.table import facts, left, moment, table

app = typer.Typer(rich_markup_mode=None)

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="Device id: 1 to 64 letters, digits, - and _.")]


@app.command(short_help="Make a device: its key, its certificate, and the CA it trusts.")
def add(
    ctx: typer.Context,
    device_id: DeviceId,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write DIR/ID/ instead of the folder `devices` in the data folder."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(metavar="NAME", help="How long certificates last: default 30 days, short 1 day, sleepy 180 days."),
    ] = "default",
) -> None:
    """Make a device: its key, its certificate and the CA it trusts, in DIR/ID/{cert,key,ca}.pem.

    The first one makes the data folder and the CA as well. Ends with status 1 when the device exists already.
    """
    from sealmq.pki.names import check_device_id
    from sealmq.pki.profiles import device_profile

    check_device_id(device_id)  # before anything is made
    device_profile(profile)
    target = str(out.expanduser().absolute()) if out is not None else None
    args = {"id": device_id, "out": target, "profile": profile}
    made = perform(ctx.obj.data, "device-add", args, create=True)
    if ctx.obj.json:
        output.as_json(made)
        return
    certificate, files = made["certificate"], made["files"]
    lasts, until = left(certificate["seconds_left"]), moment(certificate["not_after"])
    print(f"device {made['id']} added: its certificate lasts {lasts}, until {until}\n")
    facts(
        [
            (files["cert"], "certificate, with its issuing CA"),
            (files["key"], "private key, mode 0600: it belongs on the device alone"),
            (files["ca"], "the CA to verify the broker with"),
        ],
        indent=2,
    )
    _print_next(ctx.obj, made, is_in_folder=out is None)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List every device with the time its certificate has left."""
    found = perform(ctx.obj.data, "device-list", {})
    if ctx.obj.json:
        output.as_json(found)
        return
    if not found["devices"]:
        print(f"no devices yet; make one with: {output.program()} device add ID")
        return
    head = ["device", "status", "profile", "valid until", "left"]
    table(head, [_row(device) for device in found["devices"]])


@app.command()
def show(ctx: typer.Context, device_id: DeviceId) -> None:
    """Show one device: status, profile and every certificate it was given.

    Ends with status 1 when there is no such device.
    """
    from sealmq.pki.names import check_device_id

    found = perform(ctx.obj.data, "device-show", {"id": check_device_id(device_id)})
    if ctx.obj.json:
        output.as_json(found)
        return
    lifetime = f", certificates last {left(found['lifetime_seconds'])}" if found["lifetime_seconds"] else ""
    facts(
        [
            ("device", found["id"]),
            ("status", found["status"]),
            ("profile", found["profile"] + lifetime),
            ("identity", found["uri"]),
            ("since", moment(found["created_at"])),
        ]
    )
    for certificate in found["certificates"]:
        print("\ncertificate")
        facts(
            [
                ("status", certificate["status"]),
                ("left", left(certificate["seconds_left"])),
                ("valid from", moment(certificate["not_before"])),
                ("valid until", moment(certificate["not_after"])),
                ("serial", certificate["serial"]),
                ("sha256", certificate["sha256"]),
            ],
            indent=2,
        )


def _row(device: dict[str, Any]) -> list[str]:
    expires = moment(device["not_after"])
    return [device["id"], device["status"], device["profile"], expires, left(device["seconds_left"])]


def _print_next(options: Any, made: dict[str, Any], *, is_in_folder: bool) -> None:  # noqa: ANN401 - Globals
    host, port = broker_address(options.data)
    device, files = made["id"], made["files"]
    who = ["--cafile", files["ca"], "--cert", files["cert"], "--key", files["key"]]
    reach = ["-h", host, "-p", str(port), *who]
    topic = f"devices/{device}"
    program = shlex.split(output.program())
    data = ["--data", str(options.data_option.absolute())] if getattr(options, "data_option", None) else []
    own = [*data, "--as", device] if is_in_folder else who
    url = f"mqtts://{host}:{port}"
    print(f"\nnext, with the broker running (`{output.program()} up`), listen and publish as this device:\n")
    for command in (
        ["mosquitto_sub", *reach, "-i", f"{device}:sub", "-t", f"{topic}/#", "-v"],
        ["mosquitto_pub", *reach, "-i", f"{device}:pub", "-t", f"{topic}/hello", "-m", "hello"],
        [*program, "sub", url, "-t", f"{topic}/#", *own],
    ):
        print(f"  {shlex.join(command)}")
