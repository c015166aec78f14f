"""`sealmq device pending`, `approve` and `deny`: devices that came with a factory certificate.

It refuses to know how they asked.
"""

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId, Groups, Profile
from sealmq.cli.folder import perform
from sealmq.cli.table import moment, table


def pending(ctx: typer.Context) -> None:
    """List the devices that came with a certificate of a factory CA and wait for an approval."""
    found = perform(ctx.obj.data, "device-pending", {})
    if ctx.obj.json:
        output.as_json(found)
        return
    if not found["pending"]:
        print("no device waits; they come with a certificate of a CA in enrolment.factory_ca")
        return
    head = ["device", "known", "asked", "from", "factory certificate", "sha256"]
    rows = [
        [one["id"], one["known"] or "-", moment(one["requested_at"]), one["peer"], one["subject"], one["sha256"][:16]]
        for one in found["pending"]
    ]
    table(head, rows)
    print(f"\nlet one in with: {output.program()} device approve ID")


def approve(ctx: typer.Context, device_id: DeviceId, profile: Profile = "default", group: Groups = None) -> None:
    """Let a waiting device in: it gets its certificate when it asks the next time.

    Ends with status 1 when no such device has asked.
    """
    args = {"id": device_id, "profile": profile, "groups": group or []}
    found = perform(ctx.obj.data, "device-approve", args)
    if ctx.obj.json:
        output.as_json(found)
    else:
        print(f"device {found['id']} approved; it gets its certificate when it asks again")


def deny(ctx: typer.Context, device_id: DeviceId) -> None:
    """Turn a waiting device away until it is approved. Ends with status 1 when no such device has asked."""
    found = perform(ctx.obj.data, "device-deny", {"id": device_id})
    if ctx.obj.json:
        output.as_json(found)
    else:
        print(f"device {found['id']} denied")
