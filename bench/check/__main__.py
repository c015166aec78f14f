"""Owns the doubt about our own generator: the same loads from a second one, in C on OpenSSL, and how far they differ.

It refuses to decide who is right: beyond 15 % of each other it ends with status 1.

usage: .venv/bin/python -m bench.check [--rounds 3] [--peers sealmq,mosquitto]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import generator, peers
from bench.peers import Peer

APART = 0.15
RESULTS = Path(__file__).resolve().parents[1] / "results.json"
MS = 2000
LOADS: dict[str, tuple[str, dict[str, int], str, float]] = {
    "pairs-qos0": ("pairs", {"qos": 0, "ms": MS}, "cpu_us_per_message", 1),
    "pairs-qos1": ("pairs", {"qos": 1, "ms": MS}, "cpu_us_per_message", 1),
    "pairs-qos2": ("pairs", {"qos": 2, "ms": MS}, "cpu_us_per_message", 1),
    "handshakes": ("handshakes", {"count": 1000}, "cpu_ms_per_connect", 1000),
    "idle": ("idle", {"count": 500, "parallel": 1}, "kib_per_connection", 1),
}
"""Mode, options, and the figure of the first generator, with its factor to the unit of the second."""


def compiled(folder: Path) -> Path:
    """The second generator."""
    source = Path(__file__).with_name("check.c")
    subprocess.run(["cc", "-O2", "-o", folder / "check", source, "-lssl", "-lcrypto"], check=True)
    return folder / "check"


def second(program: Path, peer: Peer, mode: str, options: dict[str, int]) -> float:
    """Its figure."""
    words = [program, mode, peer.address.rpartition(":")[2], str(peer.pid), peer.ca, peer.certificate, peer.key]
    words += [str(options.get("qos", 0)), str(options.get("ms") or options["count"])]
    return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=180).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="sealmq,mosquitto")
    given = parser.parse_args()
    status = 0
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept: dict[str, dict[str, list[float]]] = known.setdefault("check", {})
    with tempfile.TemporaryDirectory() as name:
        program = compiled(Path(name))
        for broker in map(peers.broker, given.peers.split(",")):
            broker.install()
            for load, (mode, options, key, factor) in LOADS.items():
                first, other = [], []
                for _ in range(given.rounds):
                    # Of memory it is the second broker's first crowd that would be cheaper: each has its own.
                    for figures in (first, other):
                        with tempfile.TemporaryDirectory() as folder, broker.run(Path(folder)) as peer:
                            if figures is first:
                                figures.append(generator.load(peer, mode, options)[key] * factor)
                            else:
                                figures.append(second(program, peer, mode, options))
                ours, theirs = statistics.median(first), statistics.median(other)
                verdict = "" if abs(theirs / ours - 1) <= APART else "  APART"
                status |= bool(verdict)
                kept.setdefault(load, {})[broker.name] = [ours, theirs]
                print(f"{broker.name:10} {load:11} {ours:9.3f} {theirs:9.3f}  {theirs / ours:.2f}{verdict}", flush=True)
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
