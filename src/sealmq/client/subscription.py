"""How a subscription is asked for: the options of MQTT 5.0 section 3.8.3.1, and its identifier.

It refuses to know topic filters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class SubscribeOptions:
    """MQTT 3.1.1 knows none of them, and a server of it is sent none.

    `retain_handling`: 0 sends retained messages, 1 only when the subscription is new, 2 never.
    """

    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: Literal[0, 1, 2] = 0
    identifier: int | None = None
    user: tuple[tuple[str, str], ...] = ()

    def of(self, topic_filter: str, qos: int) -> tuple[str, int, bool, bool, int]:
        """One filter in the shape of `_engine.Client.subscribe`."""
        return (topic_filter, qos, self.no_local, self.retain_as_published, self.retain_handling)

    def as_json(self) -> str | None:
        """The properties of the SUBSCRIBE; None when there are none."""
        found: dict[str, Any] = {}
        if self.identifier is not None:
            found["subscription_identifier"] = self.identifier
        if self.user:
            found["user"] = [list(pair) for pair in self.user]
        return json.dumps(found) if found else None
