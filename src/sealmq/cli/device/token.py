"""`sealmq device token`: a one-time token as a URI and as a QR code, and what to do with it on the device.

It refuses to know what a token opens.
"""

import shlex
import sys
from typing import Any

import typer

from sealmq.cli import output
from sealmq.cli.device.words import DeviceId, Url
from sealmq.cli.folder import https_address, perform
from sealmq.cli.table import moment

_HERE = {"localhost", "127.0.0.1", "::1"}


def token(ctx: typer.Context, device_id: DeviceId, url: Url = None) -> None:
    """Make a new enrolment token for a device that exists; one of before that was not used is void.

    Ends with status 1 when there is no such device, or when it is revoked or retired.
    """
    print_token(ctx.obj, {"id": device_id}, url=url)


def print_token(options: Any, args: dict[str, Any], *, url: str | None, create: bool = False) -> None:  # noqa: ANN401
    """Ask for a token with the arguments of `device_token` and print it; `options` are the `Globals`."""
    from sealmq.client.registration import RegistrationServer
    from sealmq.pki.tokens import EnrolmentUri

    server = RegistrationServer(url) if url is not None else None  # before anything is made
    made = perform(options.data, "device-token", args, create=create)
    host, port = (server.host, server.port) if server is not None else https_address(options.data)
    uri = str(EnrolmentUri(host, port, made["id"], made["token"], made["pin"]))
    if options.json:
        output.as_json({**made, "uri": uri})
        return
    print(f"device {made['id']} may enrol once, until {moment(made['expires_at'])}:\n\n  {uri}\n")
    _print_qr(uri)
    own = [*shlex.split(output.program()), "agent", "--dir", made["id"], "--enrol", uri]
    door = f"https://{host}:{port}"
    print("\nnext, on the device, which makes its own key:\n")
    print(f"  {shlex.join(own)}\n")
    print("or, where there is only curl, with ca.pem from `sealmq ca export` and a request made by openssl:\n")
    who = ["-H", f"Authorization: Bearer {made['token']}", "--data-binary", "@device.csr"]
    print(f"  {shlex.join(['curl', '--cacert', 'ca.pem', *who, f'{door}/enrol', '-o', 'cert.pem'])}")
    if host in _HERE:
        output.note(
            f"\nnote: {host} is this machine; for others, start with --https 0.0.0.0:{port} and give --url here"
        )


def _print_qr(uri: str) -> None:
    import segno

    segno.make(uri, error="m", boost_error=False).terminal(out=sys.stdout, compact=True, border=2)
