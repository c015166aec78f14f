"""Pre-shared keys as they stand in the messages: who is named, by which binder it is proven (RFC 8446, section 4.2.11).

It refuses to know a key, and to check a binder.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealmq.trace.fields import Cursor

HASHES = {32: "sha256", 48: "sha384"}
"""By the length of a binder: that of the hash which goes with the key."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One identity of a ClientHello: `age` is the obfuscated ticket age, `binder` the proof of its key."""

    identity: bytes
    age: int
    binder: bytes

    @property
    def algorithm(self) -> str:
        """The hash that goes with the key, empty for a binder that is none."""
        return HASHES.get(len(self.binder), "")

    @property
    def is_external(self) -> bool:
        """Whether the key was shared beforehand: it has no age, and a ticket's is 0 once in 2^32 (section 4.2.11)."""
        return self.age == 0


def offered(body: bytes) -> tuple[tuple[Offered, ...], int]:
    """What stands in a pre_shared_key extension of a ClientHello, and how many bytes its binders take at the end.

    Raises `Malformed`.
    """
    cursor = Cursor(body, "pre_shared_key")
    inner = Cursor(cursor.vector(2, "identities"), "identities")
    named: list[tuple[bytes, int]] = []
    while inner.left:
        identity = inner.vector(2, "identity")
        named.append((identity, inner.number(4, "obfuscated ticket age")))
    size = cursor.left
    listed = Cursor(cursor.vector(2, "binders"), "binders")
    cursor.end()
    binders: list[bytes] = []
    while listed.left:
        binders.append(listed.vector(1, "binder"))
    binders += [b""] * (len(named) - len(binders))
    return tuple(Offered(*one, binder) for one, binder in zip(named, binders, strict=False)), size
