"""Owns the program that mosquitto's tests start in its place: our broker behind a relay, configured as they ask.

Refuses what a test configures and we do not have: it ends with status 3 and notes the settings in
$SEALMQ_CONFORMANCE_NOTES.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from tests.conformance.mosquitto_conf import Wanted, read
from tests.conformance.relay import Relay


async def stand_in(wanted: Wanted) -> None:
    """Until SIGTERM. Connections are accepted at once, before the broker is up: its tests wait two seconds for that."""
    relay, ended = Relay(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    servers = await relay.listen(wanted.ports)
    from sealmq.testing import EphemeralBroker  # heavy, and the ports are to be open first
    from sealmq.tls import client_context

    data = (
        Path(os.environ["SEALMQ_CONFORMANCE_NOTES"]) / f"{wanted.ports[0]}-{wanted.kept_as}" if wanted.kept_as else None
    )
    with EphemeralBroker(
        limits=wanted.limits, dangerous={"any_client_id": True, "allow_all": True}, data=data
    ) as broker:
        files = broker.device("suite")
        context = client_context(ca=files.ca, certificate=files.cert, key=files.key)
        relay.opened(broker.host, broker.port, context)
        await ended.wait()
        for server in servers:
            server.close()


def main() -> None:
    wanted = read(sys.argv[1:])
    if wanted.foreign or not wanted.ports:
        notes = Path(os.environ["SEALMQ_CONFORMANCE_NOTES"]) / f"foreign-{os.getppid()}"
        notes.write_text(", ".join(sorted(wanted.foreign)) or "no listener")
        raise SystemExit(3)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(stand_in(wanted))


if __name__ == "__main__":
    main()
