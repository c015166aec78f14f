"""Owns one question: of fifty acknowledged QoS 1 messages for a session that is away, how many survive `kill -9`?

Refuses to judge: it prints what came out, for sealmq as it is and for Debian's mosquitto with its safest settings.

usage: .venv/bin/python -m bench.fifty [--runs 10]
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench.peers import DEVICE, Peer, mosquitto, sealmq

from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target

MESSAGES = 50
TOPIC = "shared/bench/fifty"
AWAY = f"{DEVICE}:away"
# Every knob that makes it safer: a save after every change and every second, and no bound on the queue.
SAFEST = "persistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n"
USUAL = "persistence true\npersistence_location {}/\n"

Broker = Callable[[Path], AbstractContextManager[Peer]]


def brokers() -> dict[str, Broker]:
    """What is compared, by the name in the table; each starts on a folder that may have been used."""
    return {
        "sealmq, as it is": sealmq.run,
        'sealmq, durability "memory"': lambda folder: sealmq.run(folder, '[durability]\ndefault = "memory"\n'),
        "mosquitto, safest settings": lambda folder: mosquitto.run(folder, SAFEST.format(folder)),
        "mosquitto, persistence true": lambda folder: mosquitto.run(folder, USUAL.format(folder)),
    }


def connect(peer: Peer, client_id: str, *, clean_start: bool) -> Connection:
    """A connection whose session lasts an hour beyond it, unless `clean_start`."""
    host, port = peer.address.rsplit(":", 1)
    identity = Identity.read(ca=peer.ca, certificate=peer.certificate, key=peer.key)
    return Connection.open(
        Target("mqtts", host, int(port)),
        identity,
        client_id=client_id,
        clean_start=clean_start,
        session_expiry=None if clean_start else 3600,
    )


def kill(pid: int) -> None:
    """The end of a process that nobody asks."""
    os.kill(pid, signal.SIGKILL)


def once(
    broker: Broker,
    folder: Path,
    pause: float,
    *,
    end: Callable[[int], None] = kill,
    settled: Callable[[], None] = lambda: None,
) -> tuple[int, int, bool]:
    """Acknowledged, kept, and whether the session was there; `end` comes `pause` seconds after the last PUBACK.

    `settled` is called when the session is there, before the first message.
    """
    with broker(folder) as peer:
        with connect(peer, AWAY, clean_start=False) as away:
            away.subscribe([TOPIC], qos=1)
        settled()
        with connect(peer, f"{DEVICE}:sender", clean_start=True) as sender:
            acknowledged = sum(sender.publish(TOPIC, b"%d" % number, qos=1) < 0x80 for number in range(MESSAGES))
            time.sleep(pause)
            end(peer.pid)
    with broker(folder) as peer, connect(peer, AWAY, clean_start=False) as away:
        kept = {message.payload for message in away.messages(timeout=1.0)}
        return acknowledged, len(kept), bool(away.connack()["session_present"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fifty", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the last PUBACK and the kill")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    for name, broker in brokers().items():
        runs = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(prefix="sealmq-fifty-") as folder:
                runs.append(once(broker, Path(folder), options.pause))
        results[name] = runs
        if not options.json:
            kept = " ".join(str(run[1]) for run in runs)
            sessions = sum(run[2] for run in runs)
            print(
                f"{name:28} acknowledged {min(run[0] for run in runs)} in each run,"
                f" session there {sessions} of {len(runs)} times, kept: {kept}",
                flush=True,
            )
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
