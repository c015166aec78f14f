"""A recording as a pcapng file with its secrets inside: Wireshark opens it decrypted.

It refuses to pretend: the bytes of TLS are those that crossed, the TCP and IP around them are made up here, since a
program does not see them. Format: draft-ietf-opsawg-pcapng, the Decryption Secrets Block included.
"""

from __future__ import annotations

import ipaddress
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.trace.steps import started_at
from sealmq.trace.tls import keylog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealmq.trace.recording import Event, Recording

_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 10
_TLS_KEY_LOG = 0x544C534B
_LINK_RAW = 101  # packets begin with the IP header
_SEGMENT = 1400  # bytes of TCP payload
_SYN, _ACK, _PUSH, _FIN, _RESET = 0x02, 0x10, 0x08, 0x01, 0x04
_DEFAULT = ("127.0.0.1", 40000), ("127.0.0.1", 8883)

Endpoint = tuple[str, int]


def write(recording: Recording, path: Path) -> None:
    """Write the file, mode 0600, for it holds the secrets. Raises `Environment`."""
    from sealmq.secretfiles import write_private

    write_private(path, to_bytes(recording))


def to_bytes(recording: Recording) -> bytes:
    """The file: a section, an interface, the secrets, then every connection packet by packet."""
    started = int((started_at(recording.conditions) - datetime.fromtimestamp(0, UTC)).total_seconds() * 1_000_000)
    blocks = [
        _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
        _block(_INTERFACE, struct.pack("<HHI", _LINK_RAW, 0, 0)),
    ]
    # what nobody else can read is left out (RFC 9850 leaves labels open)
    lines = recording.key_log.splitlines(keepends=True)
    key_log = b"".join(line for line in lines if keylog.label_of(line) not in keylog.OWN)
    if key_log:
        blocks.append(_block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + _padded(key_log)))
    offset = 0.0
    for events in recording.connections:
        for t_ms, packet in _packets(events):
            when = started + int((offset + t_ms) * 1000)
            head = struct.pack("<IIIII", 0, when >> 32, when & 0xFFFFFFFF, len(packet), len(packet))
            blocks.append(_block(_PACKET, head + _padded(packet)))
        offset += events[-1].t_ms if events else 0.0
    return b"".join(blocks)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class _Side:
    """One end of the made-up TCP connection."""

    def __init__(self, endpoint: Endpoint, sequence: int) -> None:
        self.address = ipaddress.ip_address(endpoint[0])
        self.port = endpoint[1]
        self.sequence = sequence


def _packets(events: tuple[Event, ...]) -> Iterator[tuple[float, bytes]]:
    connected = next((event for event in events if event.kind == "connected"), None)
    if connected is None:
        return
    local = _endpoint(connected.text("local"), _DEFAULT[0])
    remote = _endpoint(connected.text("address"), _DEFAULT[1])
    if ipaddress.ip_address(local[0]).version != ipaddress.ip_address(remote[0]).version:
        local, remote = _DEFAULT
    here, there = _Side(local, 1000), _Side(remote, 5000)
    t_ms = connected.t_ms
    for one, other, flags in ((here, there, _SYN), (there, here, _SYN | _ACK), (here, there, _ACK)):
        yield t_ms, _segment(one, other, flags)
    for event in events:
        if event.kind in ("sent", "received"):
            one, other = (here, there) if event.kind == "sent" else (there, here)
            for at in range(0, len(event.data), _SEGMENT):
                yield event.t_ms, _segment(one, other, _ACK | _PUSH, event.data[at : at + _SEGMENT])
        elif event.kind == "ended":
            t_ms = event.t_ms
            if event.facts.get("how") == "reset":
                yield t_ms, _segment(there, here, _RESET | _ACK)
                return
            yield t_ms, _segment(here, there, _FIN | _ACK)
            yield t_ms, _segment(there, here, _FIN | _ACK)
            yield t_ms, _segment(here, there, _ACK)


def _endpoint(text: str, default: Endpoint) -> Endpoint:
    host, _, port = text.rpartition(":")
    host = host.strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(host)), int(port) & 0xFFFF
    except ValueError:
        return default


def _segment(one: _Side, other: _Side, flags: int, data: bytes = b"") -> bytes:
    acknowledged = other.sequence if flags & _ACK else 0
    head = struct.pack("!HHIIBBHHH", one.port, other.port, one.sequence, acknowledged, 5 << 4, flags, 65_535, 0, 0)
    one.sequence += len(data) + (1 if flags & (_SYN | _FIN) else 0)
    pseudo = one.address.packed + other.address.packed
    length = len(head) + len(data)
    pseudo += struct.pack("!BBH", 0, 6, length) if one.address.version == 4 else struct.pack("!IHBB", length, 0, 0, 6)
    tcp = head[:16] + struct.pack("!H", _checksum(pseudo + head + data)) + head[18:] + data
    if one.address.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, 6, 64) + one.address.packed + other.address.packed + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + one.address.packed + other.address.packed
    return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + tcp


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
