"""A batch of what has happened, in order, sorted by a few fields; whoever wants a fact whole reads it, and only then.

It refuses to know what anybody does with a fact.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Event = dict[str, Any]

Outline = tuple[str, str, str, str, str, str]
"""As `Node.poll_events` has it: `event`, `client_id`, `device`, `peer`, `sha256` of a certificate, whole as JSON."""


class Facts:
    """Facts of the data plane, or one of ours. `outlines` are all of them, `counts` how many there are of each kind.

    In a storm of connections thousands come in a second, and few are written to the log: a fact is decoded when
    somebody asks for it, and once only. A batch is handed on by one thread.
    """

    def __init__(self, outlines: Sequence[Outline]) -> None:
        """`outlines` as `Node.poll_events` gives them."""
        self.outlines = outlines
        self.counts = Counter([outline[0] for outline in outlines])
        self._read: dict[int, Event] = {}

    @classmethod
    def told(cls, event: Event) -> Facts:
        """A batch of one fact that the data plane does not know."""
        made = cls([(str(event["event"]), "", "", "", "", "")])
        made._read[0] = event
        return made

    def __len__(self) -> int:
        return len(self.outlines)

    def read(self, index: int) -> Event:
        """One of them, decoded."""
        event = self._read.get(index)
        if event is None:
            event = self._read[index] = json.loads(self.outlines[index][5])
        return event

    def of(self, *kinds: str) -> list[Event]:
        """Those of some kinds, decoded."""
        if not any(kind in self.counts for kind in kinds):
            return []
        return [self.read(index) for index, outline in enumerate(self.outlines) if outline[0] in kinds]

    def whole(self) -> list[Event]:
        """All of them, decoded."""
        return [self.read(index) for index in range(len(self.outlines))]
