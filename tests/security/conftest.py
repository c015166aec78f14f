"""What the security tests share: a broker whose CA can also issue faulty certificates, and the eye on its records.

Knows nothing of a single cause.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import raw_mqtt

from sealmq.testing import EphemeralBroker, ThrowawayCA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def ca() -> ThrowawayCA:
    """The CA that the broker trusts."""
    return ThrowawayCA()


@pytest.fixture
def broker(ca: ThrowawayCA) -> Iterator[EphemeralBroker]:
    """A broker with default rules and limits."""
    with EphemeralBroker(ca=ca) as running:
        yield running


@pytest.fixture
def start(ca: ThrowawayCA) -> Iterator[Callable[..., EphemeralBroker]]:
    """`start(rules=…, limits=…)`: a broker that ends with the test, after every connection of `join`."""
    with ExitStack() as stack:

        def run(**options: Any) -> EphemeralBroker:
            return stack.enter_context(EphemeralBroker(ca=ca, **options))

        yield run


@pytest.fixture
def join(start: Callable[..., EphemeralBroker], broker: EphemeralBroker) -> Iterator[Callable[..., raw_mqtt.Wire]]:
    """`join(client_id)`: a connection of the device whose id stands before the first colon."""
    assert start
    with ExitStack() as stack:

        def connect(client_id: str, *, version: int = raw_mqtt.V5, to: EphemeralBroker = broker) -> raw_mqtt.Wire:
            files = to.device(client_id.partition(":")[0])
            return stack.enter_context(raw_mqtt.Wire.join(to.port, files, client_id, version=version))

        yield connect


def serves(broker: EphemeralBroker) -> None:
    """A well-behaved client gets in and has its own message delivered."""
    with raw_mqtt.Wire.join(broker.port, broker.device("witness"), "witness") as witness:
        witness.send(raw_mqtt.subscribe("devices/witness/#"))
        assert witness.packet().body[-1] == 0
        witness.send(raw_mqtt.publish("devices/witness/x", b"still here"))
        assert witness.packet().body.endswith(b"still here")
        witness.send(raw_mqtt.packet(0xE0))
        assert witness.rest() == []


@pytest.fixture
def refusal() -> Callable[..., dict[str, Any]]:
    """`refusal(broker, cause, stage=…)`: the one record there is, looked through as far as all records are alike.

    Another client is served before the count, so that a second record would have had its time.
    """

    def look(
        broker: EphemeralBroker, cause: str, *, stage: str, listener: str = "mqtts", witnessed: bool = True
    ) -> dict[str, Any]:
        record = broker.wait_event("refused", cause=cause)
        if witnessed:
            serves(broker)
        assert [event["cause"] for event in broker.refusals()] == [cause]
        assert broker.broker.stats()["refused"] == {cause: 1}
        assert record["stage"] == stage
        assert record["peer"].startswith("127.0.0.1:")
        assert record["listener"] == f"{listener} 127.0.0.1:{broker.port_of(listener)}"
        for sentence in (record["summary"], record["mend"]):
            assert sentence
            assert not sentence.endswith(".")
        assert f"[{cause}]" in broker.log_text
        assert record["mend"] in broker.log_text
        return record

    return look
