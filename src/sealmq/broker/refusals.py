"""The refusals of late: a bounded memory of who was turned away and why, and how often each cause occurred.

It refuses to know how a refusal came about; the data plane says so.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealmq.broker.facts import Facts

KEPT = 1000


class Refusals:
    """The last `KEPT` refusals and the count of each cause since the start. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._causes: Counter[str] = Counter()
        self._noted = 0

    def note(self, facts: Facts) -> None:
        """Remember the `refused` events; every other event is passed over."""
        if not (refused := facts.of("refused")):
            return
        with self._lock:
            self._last.extend(refused)
            self._causes.update(str(event.get("cause", "unknown")) for event in refused)
            self._noted += len(refused)
            self._lock.notify_all()

    def last(self, count: int = KEPT) -> list[dict[str, Any]]:
        """The latest `count` refusals, oldest first."""
        with self._lock:
            return list(self._last)[-count:] if count > 0 else []

    def after(self, number: int, *, wait: float = 0.0) -> tuple[int, list[dict[str, Any]]]:
        """The refusals since the one with that number, oldest first, and the number of the latest; the first is 1.

        Waits up to `wait` seconds for one. Those that are not kept any more are left out; a `number` that was never
        reached, as of the broker before this one, counts as 0.
        """
        with self._lock:
            if number > self._noted:
                number = 0
            self._lock.wait_for(lambda: self._noted > number, wait)
            return self._noted, list(self._last)[-(self._noted - number) :] if self._noted > number else []

    def by_cause(self) -> dict[str, int]:
        """Cause to number of refusals since the start, the most frequent first."""
        with self._lock:
            return dict(self._causes.most_common())
