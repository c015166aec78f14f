"""Owns the guard over instruction counts: fixed work of codec and engine under callgrind, beside what is on record.

It refuses to measure time: instructions are the same on a busy machine. They are not the same with another compiler, so
that with another one than on record growth is told, and is no failure.

usage: .venv/bin/python -m bench.counts [--renew]
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from bench.generator import ROOT, target

RECORD = Path(__file__).with_suffix(".toml")
SCENARIOS = (
    "decode-publish",
    "encode-publish",
    "route-qos0",
    "route-qos1",
    "route-qos2",
    "burst-qos0",
    "burst-qos1",
    "burst-qos2",
    "fan-out-100",
    "connect",
)
TIMES = (200, 1200)
GROWTH = 1.1


def compiler() -> str:
    """Version of the Rust compiler."""
    return subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]


def instructions(program: Path, scenario: str, times: int) -> int:
    """Of one whole run."""
    words = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, scenario, str(times)]
    done = subprocess.run(words, check=False, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"error: {scenario} cannot be counted\n{done.stderr[-1000:]}")
    return int(found[1])


def counted() -> dict[str, int]:
    """Instructions of one time of each scenario; what comes before and after is taken off."""
    words = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "sealmq-engine", "--example", "counted"]
    subprocess.run(words, cwd=ROOT, check=True)
    program = target() / "examples" / "counted"
    few, many = TIMES
    return {
        name: round((instructions(program, name, many) - instructions(program, name, few)) / (many - few))
        for name in SCENARIOS
    }


def write(found: dict[str, int]) -> None:
    lines = [f"{name} = {count}" for name, count in found.items()]
    head = "# Instructions of one time of each scenario in crates/engine/examples/counted.rs; see bench/counts.py.\n"
    RECORD.write_text(f'{head}rustc = "{compiler()}"\n\n[instructions]\n' + "\n".join(lines) + "\n")


def main() -> int:
    """Status 1 when something has grown by more than a tenth."""
    parser = argparse.ArgumentParser(prog="python -m bench.counts", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="put what is counted now on record")
    found = counted()
    if parser.parse_args().renew:
        write(found)
    record = tomllib.loads(RECORD.read_text())
    grown = [name for name, count in found.items() if count > record["instructions"].get(name, 0) * GROWTH]
    for name, count in found.items():
        before = record["instructions"].get(name, 0)
        print(f"{name:15} {count:8} instructions, on record {before:8}{'  grown' if name in grown else ''}")
    if not grown:
        return 0
    if record["rustc"] != compiler():
        print(f"the record was made with rustc {record['rustc']}, this is {compiler()}: growth is not held against it")
        return 0
    print(f"error: more than a tenth over the record: {', '.join(grown)}", file=sys.stderr)
    print("mend: find out why; if it is worth it, .venv/bin/python -m bench.counts --renew", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
