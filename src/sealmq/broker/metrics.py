"""The figures of a running broker in Prometheus' text format.

It refuses to measure anything; the data plane counts and this gives the numbers names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What goes up and down; every other number of the node only grows.
GAUGES = frozenset(
    {"connections", "sessions", "subscriptions", "retained", "retained_bytes", "queued", "inflight"}
    | {"connections_open", "connections_peak", "uptime_s"}
    | {"crl_seconds_left", "certificate_files_unsound"}
)


class NodeCollector(Collector):
    """Reads the node's numbers when it is asked; nothing is kept between two readings."""

    def __init__(self, stats: Callable[[], dict[str, Any]], refusals: Callable[[], dict[str, int]]) -> None:
        self._stats = stats
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        """One family per number, and the refusals by cause."""
        for name, value in sorted(self._stats().items()):
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if name in GAUGES:
                yield GaugeMetricFamily(f"sealmq_{name}", f"{_words(name)} now", value=value)
            else:
                yield CounterMetricFamily(f"sealmq_{name}", f"{_words(name)} since start", value=value)
        refused = CounterMetricFamily("sealmq_refused_by_cause", "refused connections since start", labels=["cause"])
        for cause, count in self._refusals().items():
            refused.add_metric([cause], count)
        yield refused


def exposition(collector: NodeCollector) -> bytes:
    """All figures as one text, in the format that `CONTENT_TYPE` names."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def _words(name: str) -> str:
    return name.replace("_", " ")
