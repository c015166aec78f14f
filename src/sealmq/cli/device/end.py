"""`sealmq device revoke` and `retire`: a device is thrown out, for now or for good.

It refuses to know how connections are closed.
"""

from typing import Annotated, Any

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId
from sealmq.cli.folder import perform
from sealmq.errors import NotSo


def revoke(
    ctx: typer.Context,
    device_id: DeviceId,
    reason: Annotated[
        str, typer.Option(metavar="WORD", help="key-compromise, cessation-of-operation, … as in the CRL (RFC 5280).")
    ] = "unspecified",
) -> None:
    """Throw a device out: its certificates and tokens are void and its connections closed when this returns.

    Works without a running broker too. Ends with status 1 when there is no such device, or when a running broker has
    shut it out and the disk takes no record of that.
    """
    from sealmq.pki.revocation import check_reason

    args = {"id": device_id, "reason": check_reason(reason)}
    _print(ctx, perform(ctx.obj.data, "device-revoke", args), "revoked")


def retire(ctx: typer.Context, device_id: DeviceId) -> None:
    """End a device: revoked, dropped, its sessions and retained messages purged, its files here removed.

    Its id is not given out again, unless `device add --reuse-retired` asks for it. Ends with status 1 when there is no
    such device or it is retired already.
    """
    _print(ctx, perform(ctx.obj.data, "device-retire", {"id": device_id}), "retired")


def _print(ctx: typer.Context, ended: dict[str, Any], word: str) -> None:
    unwritten = ended["unwritten"]
    if ctx.obj.json:
        output.as_json(ended)
    else:
        _say(ended, "shut out" if unwritten else word)
    if unwritten:
        raise NotSo(
            f"device {ended['id']} is out until this broker ends, no longer: {unwritten['message']}",
            mend="free some space: the broker then writes it by itself; until it has, do not restart it"
            " (this command, run again, tells)",
            code="revocation-unwritten",
        )


def _say(ended: dict[str, Any], word: str) -> None:
    count, took = ended["sessions_closed"], ended["milliseconds"]
    sessions = f"{count} session{'' if count == 1 else 's'} closed"
    print(f"device {ended['id']} {word} ({ended['reason']}): {sessions} in {took:.1f} ms")
    if ended["already"]:
        print("it was revoked before")
    if ended["unwritten"]:
        print("in force: its sessions are closed; handshakes, tickets, tokens and renewals are refused")
        kept = "; its session, messages and files are still there" if "sessions_purged" in ended else ""
        print(f"missing:  none of it is on disk{kept}")
        return
    if "sessions_purged" in ended:
        kept = f"{ended['sessions_purged']} sessions and {ended['retained_purged']} retained messages purged"
        print(kept + ("; its files here are removed" if ended["files_removed"] else ""))
    if ended["crl"] is None:
        output.note("note: no room for the revocation list; the broker writes it when there is")
