"""How events are handed on: to everybody, in order, and what happens when one of the watchers fails."""

import queue

import pytest

from sealmq.broker.handle import Broker


class Node:
    """A node that tells what the test tells it."""

    def __init__(self):
        self.batches = queue.SimpleQueue()

    def poll_events(self, _timeout_ms):
        return self.batches.get()

    def stop(self, _grace_ms):
        self.batches.put([])
        self.batches.put([])


def outline(event):
    return event, "", "", "", "", f'{{"event":"{event}"}}'


def test_every_watcher_sees_every_event_in_order():
    node, seen = Node(), ([], [])
    broker = Broker(node, [lambda facts, one=one: one.extend(facts.whole()) for one in seen])
    node.batches.put([outline("first"), outline("second")])
    node.batches.put([outline("third")])
    broker.stop()
    for one in seen:
        assert [event["event"] for event in one] == ["first", "second", "third"]


def test_a_watcher_that_fails_is_told_to_the_others_and_ends_the_broker(capfd):
    node, seen = Node(), []

    def fails(_facts):
        raise OSError(28, "No space left on device")

    broker = Broker(node, [fails, lambda facts: seen.extend(facts.whole())])
    node.batches.put([outline("first")])
    node.batches.put([outline("second")])
    broker.stop()
    assert [event["event"] for event in seen] == ["first", "failure", "second"], "nobody else misses anything"
    failure = seen[1]
    assert failure["fatal"]
    assert failure["summary"] == "what watches the broker has failed: OSError: [Errno 28] No space left on device"
    assert failure["mend"]
    assert capfd.readouterr().err.count("Traceback") == 1, "told once"


def test_all_watchers_may_fail(capfd):
    node = Node()

    def fails(_facts):
        raise ValueError("no")

    broker = Broker(node, [fails, fails])
    node.batches.put([outline("first")])
    broker.stop()
    assert capfd.readouterr().err.count("Traceback") == 2


@pytest.mark.parametrize("count", [0, 3])
def test_what_was_handed_on_is_settled(count):
    node = Node()
    node.stats = lambda: f'{{"events": {count}}}'
    broker = Broker(node, [])
    node.batches.put([outline("one")] * count)
    assert broker.settle()
    broker.stop()
