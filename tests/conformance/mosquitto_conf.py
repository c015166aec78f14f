"""Owns what of a mosquitto.conf has a counterpart here, and what the stand-in therefore cannot stand in for.

Refuses to start anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# mosquitto's own defaults, which its tests count on.
DEFAULTS = {
    "receive_maximum": 20,
    "max_inflight": 20,
    "topic_alias_maximum": 10,
    "max_topic_levels": 201,
    "max_session_expiry_s": 4294967295,
    "sys_interval_s": 0,
}
LIMITS = {
    "max_inflight_messages": ("max_inflight", "receive_maximum"),
    "max_keepalive": ("max_keep_alive_s",),
    "max_packet_size": ("max_packet_size",),
    "max_queued_messages": ("max_queued_messages",),
    "max_queued_bytes": ("max_queued_bytes",),
    "max_topic_alias": ("topic_alias_maximum",),
}
WITHOUT_EFFECT = {"log_type", "log_dest", "per_listener_settings", "autosave_interval", "autosave_on_changes"}
LEAST = {"max_packet_size": 256}


@dataclass
class Wanted:
    """What a test asks of its broker: ports, limits in our names, where it keeps things, and what we do not have."""

    ports: list[int] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=lambda: dict(DEFAULTS))
    kept_as: str = ""
    foreign: set[str] = field(default_factory=set)


def read(words: list[str]) -> Wanted:
    """The command line of mosquitto with the file it names."""
    wanted, port = Wanted(), 0
    rest = iter(words)
    for word in rest:
        if word == "-p":
            port = int(next(rest))
        elif word == "-c":
            _read_file(Path(next(rest)), wanted)
    if port:
        wanted.ports = [port]
    return wanted


def _read_file(path: Path, wanted: Wanted) -> None:
    file = ""
    is_kept = is_closed = False
    for line in path.read_text(errors="replace").splitlines():
        name, _, value = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        match name:
            case "port" | "listener":
                wanted.ports.append(int(value.split()[0]))
            case "persistence":
                is_kept = value == "true"
            case "persistence_file" | "persistence_location":
                file += value
            case "allow_anonymous":
                is_closed = is_closed or value == "false"
            case _ if name in LIMITS and int(value) >= LEAST.get(name, 0):
                wanted.limits |= dict.fromkeys(LIMITS[name], int(value))
            case _ if name not in WITHOUT_EFFECT:
                wanted.foreign.add(name)
    if is_closed and not wanted.foreign:
        wanted.foreign.add("allow_anonymous false")
    if is_kept:
        wanted.kept_as = file.replace("/", "_") or "mosquitto.db"
