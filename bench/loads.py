"""Owns the list of loads: what the generator is told for each, and which of its figures are the answer.

It refuses to know brokers.
"""

from dataclasses import dataclass, field

MS = 500  # of one flow, so that a fast broker and a slow one take as long


@dataclass(frozen=True)
class Figure:
    """One answer of a load."""

    key: str
    title: str
    unit: str


@dataclass(frozen=True)
class Load:
    """What the generator is told."""

    name: str
    mode: str
    options: dict[str, int]
    figures: tuple[Figure, ...]
    rounds: int = 5
    """At most."""
    lighter: dict[str, dict[str, int]] = field(default_factory=dict)
    """Other options for a broker that cannot carry the load at all."""
    is_optional: bool = False
    """Only where it is asked for, or where all is measured: it takes minutes."""


CPU = Figure("cpu_us_per_message", "broker CPU per message", "µs")
LATENCY = (
    Figure("p50_us", "latency p50", "µs"),
    Figure("p99_us", "latency p99", "µs"),
    Figure("p999_us", "latency p99.9", "µs"),
)
CONNECT = (
    Figure("cpu_ms_per_connect", "broker CPU per connection", "ms"),
    Figure("connects_per_second", "connections per second", "1/s"),
)
MEMORY = (Figure("kib_per_connection", "memory per idle connection", "KiB"),)

LOADS = (
    Load("idle-1000", "idle", {"count": 1000, "parallel": 8, "settle": 2000}, MEMORY, rounds=3),
    Load("pairs-qos0", "pairs", {"qos": 0, "ms": MS}, (CPU,)),
    Load("pairs-qos1", "pairs", {"qos": 1, "ms": MS}, (CPU,)),
    Load("pairs-qos2", "pairs", {"qos": 2, "ms": MS}, (CPU,)),
    Load("pairs-topics-qos0", "pairs", {"qos": 0, "topics": 10, "ms": MS}, (CPU,), rounds=3),
    Load("pairs-topics-qos1", "pairs", {"qos": 1, "topics": 10, "ms": MS}, (CPU,), rounds=3),
    Load("pairs-one-by-one", "pairs", {"window": 1, "ms": MS}, (CPU,)),
    Load("fan-in-50", "fan-in", {"senders": 50, "window": 20, "ms": MS}, (CPU,)),
    Load("fan-out-100", "fan-out", {"receivers": 100, "window": 100, "ms": MS}, (CPU,)),
    Load("fan-out-1000", "fan-out", {"receivers": 1000, "window": 20, "ms": MS}, (CPU,), rounds=3),
    Load(
        "sparse-500", "sparse", {"pairs": 500, "rate": 10, "seconds": 2}, (CPU, *LATENCY), 3, {"amqtt": {"pairs": 100}}
    ),
    Load("latency-1000", "sparse", {"pairs": 50, "rate": 20, "seconds": 2}, LATENCY),
    Load("latency-20000", "sparse", {"pairs": 50, "rate": 400, "seconds": 2}, (*LATENCY, CPU)),
    Load("handshakes-full", "handshakes", {"count": 300, "parallel": 8}, CONNECT),
    Load("handshakes-first", "handshakes", {"count": 300, "parallel": 8, "strangers": 1}, CONNECT),
    Load("handshakes-resumed", "handshakes", {"count": 300, "parallel": 8, "resume": 1}, CONNECT),
    Load("storm", "storm", {"count": 500, "rate": 1000}, LATENCY, rounds=3),
    Load("sparse-5000", "sparse", {"pairs": 5000, "rate": 1, "seconds": 3}, (CPU, *LATENCY), 3, is_optional=True),
    Load("idle-15000", "idle", {"count": 15_000, "parallel": 8, "settle": 2000}, MEMORY, rounds=1, is_optional=True),
)
