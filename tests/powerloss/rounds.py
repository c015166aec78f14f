"""A power loss run: the rounds of `make crash`, on a disk that forgets what was not synced when the broker is killed.

It refuses to know what is promised; the ledger does.

usage: make powerloss [ROUNDS=200] [SEED=1]
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crash import rounds
from powerloss.disk import Disk, PoweredBroker, build, missing


def run(folder: Path, *, count: int, seed: int, settings: str = "") -> rounds.Outcome:
    """Play `count` rounds on a disk mounted in `folder`; the broker's log is beside it."""
    point = folder / "disk"
    point.mkdir()
    with Disk(build(), point, seed=seed) as disk:
        outcome = rounds.run(
            point,
            rounds=count,
            seed=seed,
            settings=settings,
            broker_on=lambda data: PoweredBroker(data, disk, log=folder / "broker.log", seed=seed),
        )
    outcome.counts.update(disk.counts)
    return outcome


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="make powerloss", description="cut the power under the broker; nothing acknowledged may be lost"
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of a run")
    parser.add_argument("--settings", default="", help="configuration of the broker, TOML")
    options = parser.parse_args()
    if (why := missing()) is not None:
        print(f"error: a power loss cannot be played here: {why}", file=sys.stderr)
        return 2
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="sealmq-powerloss-") as name:
        outcome = run(Path(name), count=options.rounds, seed=seed, settings=options.settings)
        print(rounds.report(outcome))
        if outcome.violations:
            print(f"repeat: make powerloss ROUNDS={options.rounds} SEED={seed}")
            return 1
    print(rounds.KEPT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
