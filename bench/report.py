"""Owns the tables of docs/benchmarks.md: it fills the places between `<!-- NAME -->` and `<!-- end -->`.

It refuses to write prose: what is between the tables is written by hand, and stays.

usage: .venv/bin/python -m bench.report [bench/results.json]
"""

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench import charts, peers
from bench.loads import LOADS, Figure, Load
from bench.rounds import Figures

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
SHARED = 3  # significant digits


class Ratio(NamedTuple):
    """Of two brokers, round by round."""

    low: float
    middle: float
    high: float


def ratio(figures: Figures, name: str, other: str, key: str) -> Ratio | None:
    """What `name` spends in `other`'s stead, or None where one of them has no figure."""
    pairs = zip(figures.get(name, []), figures.get(other, []), strict=False)
    ratios = [mine[key] / theirs[key] for mine, theirs in pairs if mine.get(key) and theirs.get(key)]
    return Ratio(min(ratios), statistics.median(ratios), max(ratios)) if ratios and name != other else None


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    release = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    return {
        "processor": f"{os.cpu_count()} processors, {model.group(1) if model else platform.machine()}",
        "system": f"{release.group(1) if release else platform.system()}, Linux {platform.release()}",
    }


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{SHARED}g}" if value < 10 else f"{value:.1f}"


def spread(values: list[float]) -> str:
    """The median, and from where to where."""
    middle = number(statistics.median(values))
    return f"{middle} ({number(min(values))}-{number(max(values))})" if len(values) > 1 else middle


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """In Markdown, the first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def absolute(known: dict[str, Any], chosen: Iterable[tuple[Load, Figure]], *, with_spread: bool = False) -> str:
    """Loads down, brokers across: medians."""
    rows = []
    for load, figure in chosen:
        cells = [f"{load.name}: {figure.title}, {figure.unit}"]
        for name in peers.NAMES:
            values = [one[figure.key] for one in known["loads"].get(load.name, {}).get(name, []) if one.get(figure.key)]
            cells.append((spread(values) if with_spread else number(statistics.median(values))) if values else "-")
        rows.append(cells)
    return table(["", *peers.NAMES], rows)


def ratios(known: dict[str, Any], chosen: Iterable[tuple[Load, Figure]]) -> str:
    """Ours as a part of mosquitto's, of the best peer's and of the floor's, with the spread over the rounds."""
    rows = []
    for load, figure in chosen:
        figures: Figures = known["loads"].get(load.name, {})
        cells = [f"{load.name}: {figure.title}"]
        others = {
            name: statistics.median([one[figure.key] for one in rounds if one.get(figure.key)])
            for name, rounds in figures.items()
            if name not in {"sealmq", "floor"} and any(one.get(figure.key) for one in rounds)
        }
        best = min(others, key=others.__getitem__, default="")
        for other, label in (("mosquitto", ""), (best, f" {best}"), ("floor", "")):
            found = ratio(figures, "sealmq", other, figure.key)
            cells.append(f"{number(found.middle)} ({number(found.low)}-{number(found.high)}){label}" if found else "-")
        rows.append([*cells, str(min(len(figures.get("sealmq", [])), len(figures.get("mosquitto", []))))])
    return table(["sealmq as a part of", "mosquitto", "best peer", "floor", "rounds"], rows)


def reasons(known: dict[str, Any]) -> str:
    """Why a cell is a dash."""
    found = {(load, name): why for load, names in known["failed"].items() for name, why in names.items()}
    rows = [[load, name, " ".join(why.split())[:160]] for (load, name), why in sorted(found.items())]
    return table(["load", "broker", "why there is no figure"], rows) if rows else ""


def starts(known: dict[str, Any]) -> str:
    """Seconds from the start of the process until it accepts."""
    cells = []
    for name in peers.NAMES:
        seconds = {one["start_s"] for figures in known["loads"].values() for one in figures.get(name, [])}
        cells.append(number(statistics.median(seconds)) if seconds else "-")
    return table(["", *peers.NAMES], [["seconds", *cells]])


def versions(known: dict[str, Any]) -> str:
    """What was compared, on what."""
    lines = [f"{known['machine']['processor']}; {known['machine']['system']}. "]
    lines += [
        ", ".join(known["versions"][name] for name in peers.NAMES if name in known["versions"] and name != "floor")
        + "."
    ]
    return "".join(lines)


def check(known: dict[str, Any]) -> str:
    """The two generators side by side."""
    rows = [
        [f"{name}, {load}", number(ours), number(theirs), f"{theirs / ours:.2f}"]
        for load, brokers in sorted(known.get("check", {}).items())
        for name, (ours, theirs) in brokers.items()
    ]
    return table(["", "first", "second", "ratio"], rows)


def processors(known: dict[str, Any]) -> str:
    """How many a second by one processor, and by two."""
    titles = {
        "qos0": "messages a second, QoS 0",
        "qos1": "messages a second, QoS 1",
        "handshakes": "full handshakes a second",
    }
    curves = {title: known.get("growth", {}).get(f"processors-{name}", {}) for name, title in titles.items()}
    rows = [
        [f"{name}: {title}", *(number(y) for _, y in lines)]
        for title, curve in curves.items()
        for name, lines in curve.items()
    ]
    return table(["a second", "one processor", "two"], rows)


def write(known: dict[str, Any]) -> None:
    """Fill the page and draw the pictures."""
    every = [(load, figure) for load in LOADS for figure in load.figures]
    costs = [(load, figure) for load, figure in every if figure.key not in {"connects_per_second", "p50_us", "p999_us"}]
    parts = {
        "versions": versions(known),
        "ratios": ratios(known, costs),
        "figures": absolute(known, every),
        "starts": starts(known),
        "reasons": reasons(known),
        "check": check(known),
        "processors": processors(known),
    }
    text = PAGE.read_text()
    for name, part in parts.items():
        head, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{head}<!-- {name} -->\n{part}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    PAGE.write_text(text)
    charts.draw(known, DOCS / "images")


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("results.json")
    write(json.loads(Path(given).read_text()))


if __name__ == "__main__":
    main()
