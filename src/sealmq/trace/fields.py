"""The tree of names and values that a decoded message is shown as, and the reader that cannot run past its end.

It refuses to know any protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_VALUE = 64
"""Bytes of a value that are written out; of more, the beginning and the length are."""
MOST_ITEMS = 64
"""Items of one list that are written out: a peer may send ten thousand extensions, a person reads none of them."""


@dataclass(frozen=True, slots=True)
class Field:
    """A named value, and what it consists of. `value` is text for people; `children` are in wire order."""

    name: str
    value: str = ""
    children: tuple[Field, ...] = ()

    def find(self, *path: str) -> Field | None:
        """The first descendant along `path`, None when there is none."""
        at: Field | None = self
        for name in path:
            at = next((child for child in at.children if child.name == name), None) if at else None
        return at


class Malformed(ValueError):  # noqa: N818 - said of the bytes, as everywhere in this package
    """Bytes that do not have the form they claim; the text says where, for the one who reads the trace."""


class Cursor:
    """Reads big-endian numbers and length-prefixed vectors (RFC 8446, section 3) from `data`.

    Every read raises `Malformed` when the bytes end before it; nothing is copied beyond what is asked for.
    """

    def __init__(self, data: bytes, what: str) -> None:
        """`what` names the structure in the sentence of a `Malformed`."""
        self._data = data
        self._at = 0
        self._what = what

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

    def take(self, count: int, name: str) -> bytes:
        """The next `count` bytes."""
        if count > self.left:
            raise Malformed(f"{self._what}: {name} takes {count} bytes and {self.left} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int, name: str) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size, name), "big")

    def vector(self, size: int, name: str) -> bytes:
        """A vector whose length stands before it in `size` bytes."""
        return self.take(self.number(size, f"length of {name}"), name)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left, "rest")

    def end(self) -> None:
        """Raise `Malformed` when bytes are left that belong to nothing."""
        if self.left:
            raise Malformed(f"{self._what}: {self.left} bytes follow its end")


def hexed(data: bytes) -> str:
    """Bytes as hexadecimal text, cut after `LONGEST_VALUE` with the length said."""
    if len(data) <= LONGEST_VALUE:
        return data.hex() or "(empty)"
    return f"{data[:LONGEST_VALUE].hex()}… ({len(data)} bytes)"


def printable(data: bytes) -> str:
    """Bytes of a name from a peer as text that cannot steer a terminal, cut as `hexed` is."""
    cut = data[: 4 * LONGEST_VALUE]
    text = "".join(character if character.isprintable() else "\ufffd" for character in cut.decode("utf-8", "replace"))
    return text if cut == data else f"{text}… ({len(data)} bytes)"
