"""`sealmq agent`: keeps the certificate of this machine fresh, from its enrolment on.

It refuses to know when a certificate is due; `sealmq.client.agent` does.
"""

import threading
from pathlib import Path
from typing import Annotated

import typer

from sealmq.cli import output
from sealmq.errors import UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def agent(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where cert.pem, key.pem and ca.pem are, or are to be.")
    ],
    enrol: Annotated[
        str | None,
        typer.Option(
            "--enrol",
            metavar="URI",
            envvar="SEALMQ_ENROL",
            show_envvar=False,
            help="The first time: what `sealmq device add ID --token` printed; also taken from $SEALMQ_ENROL.",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The broker, https://HOST:PORT; else that of --enrol.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, then end; for cron and timers.")] = False,
) -> None:
    """Enrol once, then renew in time: a new key every time, proven by connecting with it before it is put in place.

    What uses the files reads cert.pem and key.pem anew when it connects. Runs until it is ended; ends by itself with
    status 1 when the device is revoked or retired. With --once it also ends with 1 when what is due fails, since the
    server refuses it or is down; it says nothing when nothing is due.
    """
    import random

    from sealmq.client.agent import Agent, prove_by_connecting
    from sealmq.client.registration import RegistrationServer
    from sealmq.pki.devicefiles import DeviceFiles
    from sealmq.pki.tokens import EnrolmentUri

    uri = EnrolmentUri.parse(enrol) if enrol is not None else None
    place = url if url is not None else uri.server_url if uri is not None else None
    if place is None:
        raise UsageError("agent needs to know its server", mend="give --url https://HOST:PORT, or --enrol URI")
    server = RegistrationServer(place)
    files = DeviceFiles.inside(directory.expanduser().absolute())
    worker = Agent(
        files,
        server,
        prove=prove_by_connecting(server.host),
        tell=output.note,
        chance=random.random,
        uri=uri,
    )
    if once:
        worker.step()
        return
    never = threading.Event()
    while True:
        never.wait(worker.round())
