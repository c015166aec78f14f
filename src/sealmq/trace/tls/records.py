"""Cuts the bytes of one direction into TLS records (RFC 8446, section 5.1).

It refuses to know what is inside a record, and reads nothing past the point where the bytes stop being TLS.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealmq.trace.tls import names

HEADER = 5
LARGEST = 16_384 + 2_048  # bytes of a fragment: RFC 5246, section 6.2.3, the larger of the two versions


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `header` are its 5 bytes, `fragment` the rest."""

    content_type: int
    header: bytes
    fragment: bytes

    @property
    def wire(self) -> int:
        """Bytes on the wire."""
        return HEADER + len(self.fragment)


class Cutter:
    """Feed it bytes in order; `broken` says why, once they are no TLS records any more, and `rest` has them."""

    def __init__(self) -> None:
        """Nothing fed, nothing broken."""
        self.rest = b""
        self.broken = ""

    def feed(self, data: bytes) -> list[Record]:
        """The records that are complete now."""
        self.rest += data
        done: list[Record] = []
        while not self.broken and (length := record_length(self.rest)) is not None:
            if length < 0:
                self.broken = _what_is_wrong(self.rest)
            elif len(self.rest) < length:
                break
            else:
                done.append(Record(self.rest[0], self.rest[:HEADER], self.rest[HEADER:length]))
                self.rest = self.rest[length:]
        return done


def record_length(data: bytes) -> int | None:
    """Bytes of the record that `data` begins with, header included.

    None while too little is there to say; -1 when it is not a record.
    """
    if not data:
        return None
    if data[0] not in names.CONTENT_TYPES or (len(data) > 1 and data[1] != 3):
        return -1
    if len(data) < HEADER:
        return None
    length = int.from_bytes(data[3:5], "big")
    return -1 if length > LARGEST else HEADER + length


def _what_is_wrong(data: bytes) -> str:
    if data[0] not in names.CONTENT_TYPES:
        return f"byte 0x{data[0]:02x} begins no TLS record"
    if data[1] != 3:
        return f"record claims protocol version {data[1]}.{data[2] if len(data) > 2 else '?'}"
    return f"record claims {int.from_bytes(data[3:5], 'big')} bytes, more than the {LARGEST} that TLS allows"
