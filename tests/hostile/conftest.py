"""What the hostile tests share: a broker and a witness that has to be served whatever the others do.

It knows nothing of a single attack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sealmq.testing import EphemeralBroker, ThrowawayCA
from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def ca() -> ThrowawayCA:
    """The CA that the broker trusts."""
    return ThrowawayCA()


@pytest.fixture
def broker(ca: ThrowawayCA) -> Iterator[EphemeralBroker]:
    """A broker with default rules and limits, MQTT over WebSocket too."""
    with EphemeralBroker(ca=ca, wss=True) as running:
        yield running


@pytest.fixture
def witness(broker: EphemeralBroker) -> Iterator[Callable[[], None]]:
    """Call it: somebody who was there before and somebody new are both served. Raises when one of them is not."""
    old = raw_mqtt.Wire.join(broker.port, broker.device("witness"), "witness")

    def is_served() -> None:
        old.send(raw_mqtt.PINGREQ)
        assert old.packet().kind == raw_mqtt.PINGRESP
        raw_mqtt.Wire.join(broker.port, broker.device("witness"), "witness:new").close()

    with old:
        is_served()
        yield is_served
