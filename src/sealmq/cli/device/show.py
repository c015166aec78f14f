"""`sealmq device list` and `show`.

It refuses to know where devices are remembered.
"""

from typing import Any

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId
from sealmq.cli.folder import perform
from sealmq.cli.table import facts, left, moment, table


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
            ("groups", ", ".join(found["groups"]) or "-"),
            ("since", moment(found["created_at"])),
            *([("reason", found["reason"])] if found["reason"] else []),
        ]
    )
    for certificate in found["certificates"]:
        print("\ncertificate")
        facts(
            [
                ("status", certificate["status"]),
                ("left", left(certificate["seconds_left"])),
                ("last seen", moment(certificate["last_seen_at"])),
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
