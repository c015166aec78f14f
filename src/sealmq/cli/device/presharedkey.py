"""What `sealmq device add --psk` prints: where the key is, and what to do with it on the device.

It refuses to know how keys are made, and never prints one.
"""

import shlex
from typing import Any

from sealmq.cli import output
from sealmq.cli.folder import psk_address
from sealmq.cli.table import facts


def print_key(options: Any, made: dict[str, Any]) -> None:  # noqa: ANN401 - Globals
    """Print the result of `device_add_psk`; `options` are the `Globals`."""
    if options.json:
        output.as_json(made)
        return
    host, port = psk_address(options.data)
    device, file = made["id"], made["files"]["psk"]
    print(f"device {device} added: it has a pre-shared key\n")
    facts([(file, "one line identity:hexkey, mode 0600: it belongs on the device alone")], indent=2)
    # the shell puts the key in: it stands neither here nor in the history
    key = f'"$(cut -d: -f2 {shlex.quote(file)})"'
    reach = shlex.join(["mosquitto_sub", "-h", host, "-p", str(port), "--psk-identity", device])
    topic = shlex.join(["-i", f"{device}:sub", "-t", f"devices/{device}/#", "-v"])
    own = shlex.join([*shlex.split(output.program()), "sub", f"mqtts+psk://{host}:{port}", "--psk-file", file])
    print(f"\nnext, with the broker running (`{output.program()} up --psk 127.0.0.1:{port}`), listen as this device:\n")
    print(f"  {own} {topic}")
    print(f"  {reach} --psk {key} {topic}")
