"""Owns one figure: how long a broker with many kept sessions takes from its start until it accepts and resumes one.

Refuses to judge: it prints what came out, after a clean stop and after `kill -9`.

usage: .venv/bin/python -m bench.restart [--sessions 10000] [--messages 100]
"""

import argparse
import json
import os
import resource
import signal
import tempfile
import time
from pathlib import Path

from bench import generator
from bench.fifty import connect
from bench.peers import DEVICE, Peer, sealmq

FIRST = 100_000  # the load generator numbers kept sessions from here
# The load generator opens all its connections at once.
ROOM = f"{sealmq.LIMITS}max_handshakes = 20000\nhandshake_timeout_ms = 60000\nconnect_timeout_ms = 60000\n"


def fill(peer: Peer, sessions: int, messages: int) -> None:
    """So many sessions that are away, each with so many messages waiting."""
    options = {"publishers": 1, "count": messages, "window": 10, "sessions": sessions, "attend": 0}
    generator.load(peer, "durable", options)


def restarted(folder: Path) -> dict[str, object]:
    """Seconds from the start of the program to its `ready` line, and to the CONNACK of a session that was kept."""
    began = time.perf_counter()
    with sealmq.run(folder, ROOM) as peer:
        ready = time.perf_counter() - began
        with connect(peer, f"{DEVICE}:{FIRST}", clean_start=False) as one:
            is_there = one.connack()["session_present"]
        resumed = time.perf_counter() - began
        rss = next(
            int(line.split()[1])
            for line in Path(f"/proc/{peer.pid}/status").read_text().splitlines()
            if "VmRSS" in line
        )
        os.kill(peer.pid, signal.SIGKILL)
    return {
        "ready_s": round(ready, 3),
        "resumed_s": round(resumed, 3),
        "session_present": is_there,
        "rss_mib": round(rss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=10, help="waiting in each session")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator.build("load")
    with tempfile.TemporaryDirectory(prefix="sealmq-restart-") as name:
        folder = Path(name)
        with sealmq.run(folder, ROOM) as peer:
            fill(peer, options.sessions, options.messages)
        size = sum(path.stat().st_size for path in (folder / "data").glob("store.sqlite3*"))
        print(
            json.dumps(
                {
                    "sessions": options.sessions,
                    "messages": options.messages,
                    "store_mib": round(size / (1 << 20), 1),
                    "after a clean stop": restarted(folder),
                    "after kill -9": restarted(folder),
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
