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
    """Show one device: status, profile, every certificate and pre-shared key it was given, and whether it was seen.

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
            *([("pending", _pending(found))] if _pending(found) else []),
        ]
    )
    for certificate in found["certificates"]:
        print("\ncertificate")
        facts(
            [
                ("status", certificate["status"]),
                ("left", left(certificate["seconds_left"])),
                ("last seen", "not yet" if certificate["pending"] else moment(certificate["last_seen_at"])),
                ("valid from", moment(certificate["not_before"])),
                ("valid until", moment(certificate["not_after"])),
                ("serial", certificate["serial"]),
                ("sha256", certificate["sha256"]),
            ],
            indent=2,
        )
    for key in found["keys"]:
        print("\npre-shared key")
        seen = [("last seen", "not yet")] if key["pending"] else []
        facts([("identity", key["identity"]), ("made", moment(key["created_at"])), *seen], indent=2)


def _pending(device: dict[str, Any]) -> str:
    """What the device was given besides what it uses, and has not shown yet; empty when there is nothing."""
    keys, certificates = device["keys"], device["certificates"]
    waiting = [f"pre-shared key {key['identity']} is not seen yet" for key in keys if key["pending"]]
    if len(certificates) > 1:
        waiting += [f"certificate {one['serial']} is not seen yet" for one in certificates if one["pending"]]
    return "; ".join(waiting) + ("; the one before it is good until then" if waiting else "")


def _row(device: dict[str, Any]) -> list[str]:
    expires = moment(device["not_after"])
    return [device["id"], device["status"], device["profile"], expires, left(device["seconds_left"])]
