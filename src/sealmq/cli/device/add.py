"""`sealmq device add`: a device with its files, or with a token to enrol by itself.

It refuses to know how certificates are made.
"""

import shlex
from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.device.presharedkey import print_key
from sealmq.cli.device.token import print_token
from sealmq.cli.device.words import DeviceId, Groups, Out, Profile, Url
from sealmq.cli.folder import broker_address, perform
from sealmq.cli.table import facts, left, moment
from sealmq.errors import UsageError


def add(
    ctx: typer.Context,
    device_id: DeviceId,
    out: Out = None,
    profile: Profile = "default",
    group: Groups = None,
    token: Annotated[
        bool, typer.Option("--token", help="Print a one-time token, good for a day, instead of making files.")
    ] = False,
    url: Url = None,
    psk: Annotated[
        bool,
        typer.Option("--psk", help="A pre-shared key instead of a certificate, for `sealmq up --psk`."),
    ] = False,
    reuse_retired: Annotated[
        bool, typer.Option("--reuse-retired", help="Give out an id that was retired; refused without this.")
    ] = False,
) -> None:
    """Make a device: its key, its certificate and the CA it trusts, in DIR/ID/{cert,key,ca}.pem.

    With --token nothing secret is made here: the device makes its own key and enrols once with the URI that is printed,
    which carries the pin of the CA. With --psk the device gets DIR/ID/psk.txt, one line identity:hexkey, and no
    certificate. The first device makes the data folder and the CA as well. Ends with status 1 when the device exists
    already.
    """
    from sealmq.pki.names import check_device_id, check_group
    from sealmq.pki.profiles import device_profile

    check_device_id(device_id)  # before anything is made
    device_profile(profile)
    groups = [check_group(name) for name in group or ()]
    if token and out is not None:
        raise UsageError("--out and --token exclude each other", mend="with a token the device writes its files itself")
    if psk and token:
        raise UsageError("--psk and --token exclude each other", mend="a key is made here: leave --token out")
    if psk and profile != "default":
        raise UsageError("--profile is for certificates, a pre-shared key does not end", mend="leave --profile out")
    if url is not None and not token:
        raise UsageError("--url goes with --token", mend="leave it out, or add --token")
    args = {"id": device_id, "profile": profile, "groups": groups, "reuse_retired": reuse_retired}
    if token:
        print_token(ctx.obj, {**args, "new": True}, url=url, create=True)
        return
    target = str(out.expanduser().absolute()) if out is not None else None
    if psk:
        key = {"id": device_id, "groups": groups, "reuse_retired": reuse_retired, "out": target}
        print_key(ctx.obj, perform(ctx.obj.data, "device-add-psk", key, create=True))
        return
    made = perform(ctx.obj.data, "device-add", {**args, "out": target}, create=True)
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
