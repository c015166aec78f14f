"""How long a client waits before it connects again.

It refuses to wait; a length of time is what it gives.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Full jitter: anything from nothing to a ceiling that doubles from `first` up to `longest`, in seconds.

    A fleet that lost its broker at one moment comes back spread over the ceiling. Where the server has said when, it is
    that, and up to `first` more: a server that says so spreads its clients itself.
    """

    first: float = 1.0
    longest: float = 120.0
    chance: Callable[[], float] = random.random

    def delay(self, failures: int, *, hint: float | None = None) -> float:
        """Seconds before the next try, after so many that failed in a row."""
        if hint is not None:
            return hint + self.chance() * self.first
        ceiling = min(self.longest, self.first * 2.0 ** min(failures, 32))
        return self.chance() * ceiling
