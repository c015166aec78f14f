"""Where the log goes: a reader that stands still costs records, which are counted, and never holds up the broker.

It refuses to know what a record says.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 1.0  # for a reader that is late; one that was waited for in vain is not waited for again
_PIECE = select.PIPE_BUF  # what a pipe takes whole when it says that it takes something


class LogStream:
    """`write` and `flush` as structlog asks for, over a file descriptor that stays the caller's.

    What would wait for a reader longer than `patience` seconds is lost: a terminal that was stopped, a pipe into a
    program that hangs. Every thread that logs would wait with it, and the one that ends the broker too.
    """

    def __init__(self, descriptor: int, *, told: Callable[[int], str], patience: float = PATIENCE_SECONDS) -> None:
        """`told` makes the record, without a line's end, which says how many there are missing before it."""
        self._descriptor = descriptor
        self._told = told
        self._patience = patience
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost = 0
        self._is_cut = False

    def write(self, text: str) -> None:
        """Raises `OSError` when there is no reader any more."""
        patience = self._patience
        if self._lost:
            told = "\n" * self._is_cut + self._told(self._lost) + "\n"
            if not self._put(told, 0.0):
                self._lost += 1
                return
            self._lost, self._is_cut, patience = 0, False, 0.0
        if not self._put(text, patience):
            self._lost += 1

    def flush(self) -> None:
        """Nothing is kept here."""

    def _put(self, text: str, patience: float) -> bool:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        begun = False
        while rest:
            if not self._poll.poll(patience * 1000):
                self._is_cut |= begun
                return False
            try:
                rest = rest[os.write(self._descriptor, rest[:_PIECE]) :]
                begun = True
            except BlockingIOError:
                continue
        return True
