"""Owns the pictures of the comparison, as SVG.

It refuses to know how the figures came about.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

COLOURS = {
    "floor": "#9a9a9a",
    "sealmq": "#0b6e4f",
    "mosquitto": "#b5502e",
    "rumqttd": "#e0a030",
    "mochi": "#4a90c2",
    "nats": "#2b4c7e",
    "hivemq": "#8e5ea2",
    "aedes": "#c774a0",
    "amqtt": "#5c4033",
}
BARS = ("pairs-qos0", "pairs-qos1", "pairs-qos2", "fan-in-50", "fan-out-100", "sparse-500")
CURVES = {
    "connections-idle": ("µs of CPU per message, 4 busy pairs", "idle connections beside them"),
    "connections-active": ("µs of CPU per message, all send", "connections"),
    "subscriptions": ("µs of CPU per message", "subscriptions that do not match"),
    "payload": ("µs of CPU per message", "payload, bytes"),
    "alive": ("share of one core", "connections, each with a PINGREQ every 15 s"),
}


def draw(known: dict[str, Any], folder: Path) -> None:
    """Into `folder`, one file a picture."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "sealmq", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    )
    folder.mkdir(exist_ok=True)
    _bars(known["loads"], folder / "bench-messages.svg")
    for name, (y, x) in CURVES.items():
        curves = {curve: lines for curve, lines in known.get("growth", {}).items() if curve.startswith(name)}
        if curves:
            _curve(curves, (y, x), folder / f"bench-{name}.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def _bars(loads: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_subplot()
    names = [name for name in COLOURS if any(name in loads.get(load, {}) for load in BARS)]
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        at, height = [], []
        for group, load in enumerate(BARS):
            if rounds := loads.get(load, {}).get(name):
                at.append(group + (index - len(names) / 2 + 0.5) * width)
                height.append(statistics.median(one["cpu_us_per_message"] for one in rounds))
        axes.bar(at, height, width, label=name, color=COLOURS[name])
    axes.set_yscale("log")
    axes.set_ylabel("µs of broker CPU per delivered message")
    axes.set_xticks(range(len(BARS)), BARS)
    axes.legend(ncols=5, fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.2))
    _save(figure, path)


def _curve(curves: dict[str, Any], titles: tuple[str, str], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2))
    axes = figure.add_subplot()
    for number, (curve, lines) in enumerate(curves.items()):
        for name, line in lines.items():
            kind = f", {curve.rsplit('-', 1)[1]}" if len(curves) > 1 else ""
            style = "--" if number else "-"
            axes.plot(
                *zip(*line, strict=True), style, marker="o", markersize=3, label=name + kind, color=COLOURS.get(name)
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel(titles[0])
    axes.set_xlabel(titles[1])
    axes.legend(fontsize=8)
    _save(figure, path)
