"""The refusals of late: a bounded memory of who was turned away and why, and how often each cause occurred.

It refuses to know how a refusal came about; the data plane says so.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

KEPT = 1000


class Refusals:
    """The last `KEPT` refusals and the count of each cause since the start. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._causes: Counter[str] = Counter()

    def note(self, event: dict[str, Any]) -> None:
        """Remember a `refused` event; every other event is passed over."""
        if event.get("event") != "refused":
            return
        with self._lock:
            self._last.append(event)
            self._causes[str(event.get("cause", "unknown"))] += 1

    def last(self, count: int = KEPT) -> list[dict[str, Any]]:
        """The latest `count` refusals, oldest first."""
        with self._lock:
            return list(self._last)[-count:] if count > 0 else []

    def by_cause(self) -> dict[str, int]:
        """Cause to number of refusals since the start, the most frequent first."""
        with self._lock:
            return dict(self._causes.most_common())
