"""The ledger of a crash run notices each broken promise, and nothing else. Knows nothing of brokers."""

from __future__ import annotations

import pytest

from crash.ledger import Ledger

TOPIC = "t/a"
BOTH = frozenset({TOPIC})


@pytest.fixture
def ledger() -> Ledger:
    """With a subscriber at QoS 2 whose subscription is acknowledged."""
    made = Ledger()
    made.subscribing("sub", "t/#", BOTH, 2)
    made.subscribed("sub", "t/#")
    return made


def published(ledger: Ledger):
    message = ledger.publishing(TOPIC, 2)
    ledger.settled(message, 0)
    return message


def deliver(ledger: Ledger, message, qos: int = 2) -> None:
    ledger.delivered("sub", TOPIC, message.payload(), qos)


def verdict(ledger: Ledger) -> list[str]:
    ledger.wait_paid({"sub"}, 0)
    return ledger.violations


def test_all_is_well(ledger):
    for _ in range(3):
        deliver(ledger, published(ledger))
    assert verdict(ledger) == []


def test_a_lost_message(ledger):
    first, second = published(ledger), published(ledger)
    del first
    deliver(ledger, second)
    assert verdict(ledger) == ["sub never got 1 acknowledged messages, t/a 1 the first"]


def test_what_was_not_acknowledged_may_be_lost(ledger):
    ledger.publishing(TOPIC, 2)
    ledger.settled(ledger.publishing(TOPIC, 2), 0x97)
    assert verdict(ledger) == []


def test_what_came_before_its_acknowledgement_is_not_owed_again(ledger):
    message = ledger.publishing(TOPIC, 2)
    deliver(ledger, message)
    ledger.settled(message, 0)
    assert verdict(ledger) == []


@pytest.mark.parametrize(("qos", "violations"), [(1, []), (2, ["sub got t/a 1 twice at QoS 2"])])
def test_a_message_that_comes_twice(ledger, qos, violations):
    message = published(ledger)
    deliver(ledger, message, qos)
    deliver(ledger, message, qos)
    assert verdict(ledger) == violations


def test_order(ledger):
    first, second = published(ledger), published(ledger)
    deliver(ledger, second)
    deliver(ledger, first)
    assert verdict(ledger) == ["sub got t/a 1 after 2"]


def test_a_message_from_before_the_subscription_may_come_late(ledger):
    early = ledger.publishing(TOPIC, 1)
    ledger.subscribing("late", "t/#", BOTH, 1)
    ledger.subscribed("late", "t/#")
    for message in (published(ledger), early):
        ledger.delivered("late", TOPIC, message.payload(), 1)
    assert ledger.violations == []


def test_a_payload_that_nobody_sent(ledger):
    message = published(ledger)
    ledger.delivered("sub", TOPIC, message.payload() + b"x", 2)
    assert "got what nobody sent" in ledger.violations[0]


def test_a_forgotten_session(ledger):
    ledger.joined("sub", present=False, expected=False)
    ledger.joined("sub", present=True, expected=True)
    assert ledger.violations == []
    ledger.joined("sub", present=False, expected=True)
    assert ledger.violations == ["session of sub is forgotten"]


def test_a_subscription_that_comes_back(ledger):
    ledger.unsubscribing("sub", "t/#")
    between = published(ledger)
    ledger.unsubscribed("sub", "t/#")
    deliver(ledger, between)  # nobody knows whether it came before the end
    assert ledger.violations == []
    deliver(ledger, published(ledger))
    assert ledger.violations == ["sub got t/a 2, sent after the end of its subscription"]


def test_a_message_from_the_time_between_two_subscriptions(ledger):
    ledger.unsubscribing("sub", "t/#")
    ledger.unsubscribed("sub", "t/#")
    message = published(ledger)
    ledger.subscribing("sub", "t/#", BOTH, 2)
    ledger.subscribed("sub", "t/#")
    deliver(ledger, message)
    assert ledger.violations == ["sub got t/a 1, acknowledged before it subscribed"]


@pytest.mark.parametrize(("found", "is_well"), [(b"1", False), (b"2", True), (b"3", True), (b"", False), (b"4", False)])
def test_retained_messages(ledger, found, is_well):
    """The second is acknowledged, the third on its way."""
    for _ in range(3):
        ledger.keeping(TOPIC, removal=False)
    ledger.kept(TOPIC, 2, 0)
    ledger.found({TOPIC: found} if found else {})
    assert (ledger.violations == []) is is_well


def test_a_retained_message_that_was_removed(ledger):
    ledger.keeping(TOPIC, removal=False)
    ledger.keeping(TOPIC, removal=True)
    ledger.kept(TOPIC, 2, 0)
    ledger.found({})
    assert ledger.violations == []
    assert ledger.wanted() == set()
    ledger.found({TOPIC: b"1"})
    assert len(ledger.violations) == 1
