"""Fifty acknowledged messages for a session that is away, then the power goes: how many are there afterwards?

It refuses to judge: it prints what came out, for sealmq in two modes and for Debian's mosquitto with its safest
settings. Everything before the first message counts as old, which the kernel has written by itself.

usage: make powerloss-fifty [RUNS=10]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve()
    sys.path[:0] = [str(here.parent.parent), str(here.parent.parent.parent)]

from bench import fifty
from bench.peers import sealmq

from powerloss.disk import Disk, build, missing


def once(broker: fifty.Broker, *, seed: int) -> tuple[int, int, bool]:
    """As `bench.fifty.once`, on a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="sealmq-fifty-") as name, Disk(build(), Path(name), seed=seed) as disk:

        def lose_power(pid: int) -> None:
            disk.cut("nothing")
            fifty.kill(pid)
            disk.mount()

        return fifty.once(broker, disk.path, 0.0, end=lose_power, settled=disk.sync)


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="make powerloss-fifty", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    if (why := missing()) is not None:
        print(f"error: a power loss cannot be played here: {why}", file=sys.stderr)
        return 2
    brokers = fifty.brokers()
    brokers["sealmq, durability os"] = lambda folder: sealmq.run(folder, '[durability]\ndefault = "os"\n')
    for name in ("sealmq, as it is", "sealmq, durability os", "mosquitto, safest settings"):
        runs = [once(brokers[name], seed=seed) for seed in range(options.runs)]
        sessions = sum(present for _, _, present in runs)
        kept = " ".join(str(count) for _, count, _ in runs)
        acknowledged = min(count for count, _, _ in runs)
        print(f"{name:28} acknowledged {acknowledged}, session there {sessions} of {len(runs)} times, kept: {kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
