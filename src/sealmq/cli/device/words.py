"""The arguments that the verbs of `sealmq device` share.

It refuses to know what they do.
"""

from pathlib import Path
from typing import Annotated

import typer

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="Device id: 1 to 64 letters, digits, - and _.")]
Profile = Annotated[
    str,
    typer.Option(metavar="NAME", help="How long certificates last: default 30 days, short 1 day, sleepy 180 days."),
]
Groups = Annotated[list[str] | None, typer.Option("--group", metavar="NAME", help="A group for the rules; may repeat.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The files are in DIR/ID/ instead of the folder `devices` in the data folder."),
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where the device reaches this broker, https://HOST:PORT; else the running one's."
    ),
]
