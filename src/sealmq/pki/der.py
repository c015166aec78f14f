"""Just enough of DER (X.690) to take a sequence apart and to put it together again, for repairs of what others write.

It knows nothing of what an element means.
"""

from __future__ import annotations

from typing import NamedTuple

SEQUENCE, OCTETS, OID = 0x30, 0x04, 0x06


class Element(NamedTuple):
    """One element inside a larger encoding: its `tag`, and where it starts, its content begins and it ends."""

    tag: int
    start: int
    begin: int
    end: int


def element(der: bytes, start: int) -> Element | None:
    """The element at `start`; None when there is none that fits into `der`."""
    if start + 2 > len(der):
        return None
    length, begin = der[start + 1], start + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or begin + count > len(der):
            return None
        length = int.from_bytes(der[begin : begin + count], "big")
        begin += count
    return Element(der[start], start, begin, begin + length) if begin + length <= len(der) else None


def children(der: bytes, parent: Element) -> list[Element]:
    """The elements in the content of `parent`; none at all when they do not fill it exactly."""
    found: list[Element] = []
    at = parent.begin
    while at < parent.end:
        child = element(der[: parent.end], at)
        if child is None:
            return []
        found.append(child)
        at = child.end
    return found


def wrap(tag: int, content: bytes) -> bytes:
    """`content` as an element of that tag."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
