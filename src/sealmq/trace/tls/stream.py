"""A run of bytes that came in records, taken out again in messages: which took how many bytes on the wire.

It refuses to know what a message is; its user says how long the next one is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """A message: its bytes, and the bytes on the wire and records that carried it."""

    data: bytes
    wire: int
    records: int


@dataclass(slots=True)
class _Segment:
    start: int
    length: int
    overhead: int  # header, nonce, tag, padding; charged to the first message that the record carries


class Stream:
    """Bytes of one direction. The `wire` of all messages taken adds up to that of all records added."""

    def __init__(self) -> None:
        """Empty."""
        self._data = bytearray()
        self._base = 0
        self._segments: deque[_Segment] = deque()

    def __len__(self) -> int:
        return len(self._data)

    def add(self, plain: bytes, wire: int) -> None:
        """The content of one record that took `wire` bytes."""
        self._segments.append(_Segment(self._base + len(self._data), len(plain), wire - len(plain)))
        self._data += plain

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from the front, which stay."""
        return bytes(self._data[:count])

    def take(self, count: int) -> Taken:
        """The next `count` bytes, all there are when fewer."""
        data = bytes(self._data[:count])
        end = self._base + len(data)
        wire, records = len(data), 0
        for segment in self._segments:
            if segment.start >= end and segment.start != self._base:
                break
            wire += segment.overhead
            segment.overhead = 0
            records += 1
        while self._segments and self._segments[0].start + self._segments[0].length <= end:
            self._segments.popleft()
        del self._data[: len(data)]
        self._base = end
        return Taken(data, wire, records)
