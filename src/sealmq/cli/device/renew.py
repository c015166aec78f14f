"""`sealmq device renew`: a new key and certificate for a device whose files lie here, or a new pre-shared key.

It refuses to know how they are made.
"""

from typing import Any

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId, Out
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, left, moment


def renew(ctx: typer.Context, device_id: DeviceId, out: Out = None) -> None:
    """Give a device a new key and certificate, in the place of the old files.

    For a device whose files were made here; one that enrolled by itself renews by itself (`sealmq agent`). The old
    certificate counts as superseded once the new one was seen. A device with a pre-shared key gets another, with the
    identity ID~2, ID~3, …; with --out the file is made in DIR, to be brought to the device. Both keys are good until
    the new one was seen; then the old one is gone. Ends with status 1 when there are no such files.
    """
    target = str(out.expanduser().absolute()) if out is not None else None
    made = perform(ctx.obj.data, "device-renew", {"id": device_id, "out": target})
    if ctx.obj.json:
        output.as_json(made)
        return
    if "identity" in made:
        _print_key(made)
        return
    certificate, files = made["certificate"], made["files"]
    lasts, until = left(certificate["seconds_left"]), moment(certificate["not_after"])
    print(f"device {made['id']} renewed: its certificate lasts {lasts}, until {until}\n")
    facts(
        [(files["cert"], "certificate, with its issuing CA"), (files["key"], "private key, new; mode 0600")],
        indent=2,
    )
    print("\nnext: restart what uses them, so that it connects with the new certificate")


def _print_key(made: dict[str, Any]) -> None:
    print(f"device {made['id']} has a new pre-shared key: its identity is {made['identity']}\n")
    facts([(made["files"]["psk"], "one line identity:hexkey, mode 0600: it belongs on the device alone")], indent=2)
    print(f"\nnext: bring the line to the device; {made['replaces']} stays good until the new key was seen")
