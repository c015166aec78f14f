"""`sealmq device renew`: a new key and certificate for a device whose files lie here.

It refuses to know how certificates are made.
"""

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId, Out
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, left, moment


def renew(ctx: typer.Context, device_id: DeviceId, out: Out = None) -> None:
    """Give a device a new key and certificate, in the place of the old files.

    For a device whose files were made here; one that enrolled by itself renews by itself (`sealmq agent`). The old
    certificate counts as superseded once the new one was seen. Ends with status 1 when there are no such files.
    """
    target = str(out.expanduser().absolute()) if out is not None else None
    made = perform(ctx.obj.data, "device-renew", {"id": device_id, "out": target})
    if ctx.obj.json:
        output.as_json(made)
        return
    certificate, files = made["certificate"], made["files"]
    lasts, until = left(certificate["seconds_left"]), moment(certificate["not_after"])
    print(f"device {made['id']} renewed: its certificate lasts {lasts}, until {until}\n")
    facts(
        [(files["cert"], "certificate, with its issuing CA"), (files["key"], "private key, new; mode 0600")],
        indent=2,
    )
    print("\nnext: restart what uses them, so that it connects with the new certificate")
