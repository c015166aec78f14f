"""The figures of a running broker in Prometheus' text format.

It refuses to measure anything; the data plane counts and this gives the numbers names.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sealmq.pki.expiry import Kind
from sealmq.pki.signing import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from prometheus_client.metrics_core import Metric

    from sealmq.pki.expiry import Expiring

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What goes up and down; every other number of the node only grows.
GAUGES = frozenset(
    {"connections", "sessions", "subscriptions", "retained", "retained_bytes", "queued", "inflight"}
    | {"memory_bytes", "memory_bound_bytes"}
    | {"connections_open", "connections_peak", "uptime_s"}
    | {"crl_seconds_left", "certificate_files_unsound"}
)

_BUCKETS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}


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


# Of the store's figures, what goes up and down; the others only grow.
_STORE_GAUGES = ("sessions", "queued_messages", "queued_bytes", "retained", "file_bytes", "wal_bytes", "max_bytes")
_STORE_COUNTERS = ("commits", "syncs", "written_bytes")
_HEALTH = ("good", "full", "failed")


class StoreCollector(Collector):
    """What the store holds, what it costs, and how it is; no series while everything is in memory."""

    def __init__(self, stats: Callable[[], dict[str, Any]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Sizes, counts, the time of a commit, one series per health with 1 for the one there is."""
        store = self._stats().get("store")
        if store is None:
            return
        for name in _STORE_GAUGES:
            yield GaugeMetricFamily(f"sealmq_store_{name}", f"{_words(name)} in the store now", value=store[name])
        for name in _STORE_COUNTERS:
            yield CounterMetricFamily(f"sealmq_store_{name}", f"{_words(name)} of the store", value=store[name])
        seconds = GaugeMetricFamily(
            "sealmq_store_commit_seconds", "what a commit has taken since start", labels=["quantile"]
        )
        for quantile, name in (("0.5", "p50"), ("0.99", "p99"), ("1", "max")):
            seconds.add_metric([quantile], store["commit_us"][name] / 1e6)
        yield seconds
        health = GaugeMetricFamily("sealmq_store_health", "1 for the state of the store", labels=["state"])
        for state in _HEALTH:
            health.add_metric([state], float(state == store["health"]))
        yield health


class ExpiryCollector(Collector):
    """When certificates and lists end. Devices are counted by time left, so that a fleet makes no more series."""

    def __init__(self, ending: Callable[[], Sequence[Expiring]], *, now: Callable[[], datetime] = utc_now) -> None:
        self._ending = ending
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """One series per CA, server certificate and list; one per bucket of devices, and their nearest end."""
        now = self._now()
        ends = GaugeMetricFamily(
            "sealmq_certificate_not_after_seconds",
            "end of a certificate, or when a list is due, seconds since the epoch",
            labels=["kind", "name"],
        )
        devices: list[datetime] = []
        for one in self._ending():
            if one.kind is Kind.DEVICE:
                devices.append(one.end)
            else:
                ends.add_metric([one.kind, one.name], one.end.timestamp())
        yield ends
        counts = GaugeMetricFamily(
            "sealmq_device_certificates", "active devices by the time their certificate has left", labels=["left"]
        )
        for name, count in _by_time_left(devices, now).items():
            counts.add_metric([name], count)
        yield counts
        if coming := [end for end in devices if end > now]:
            yield GaugeMetricFamily(
                "sealmq_device_certificate_nearest_not_after_seconds",
                "the next end of a device certificate, seconds since the epoch",
                value=min(coming).timestamp(),
            )


def exposition(*collectors: Collector) -> bytes:
    """All figures as one text, in the format that `CONTENT_TYPE` names."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def _by_time_left(ends: Sequence[datetime], now: datetime) -> dict[str, int]:
    """How many end within each of `_BUCKETS` and not within an earlier one; `expired` first, `more` last."""
    counts = dict.fromkeys(("expired", *_BUCKETS, "more"), 0)
    for end in ends:
        left = end - now
        fitting = (name for name, length in _BUCKETS.items() if left <= length)
        counts["expired" if left <= timedelta(0) else next(fitting, "more")] += 1
    return counts


def _words(name: str) -> str:
    return name.replace("_", " ")
