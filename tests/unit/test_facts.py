"""Facts in batches: read by those who ask, in their order, none lost. Knows nothing of where they come from."""

import io
import json
import threading

import pytest

from sealmq.broker import log, sightings
from sealmq.broker.facts import Facts
from sealmq.broker.newkeys import NewKeys
from sealmq.broker.sightings import Sightings

UNREADABLE = "a fact that nobody was to read"


def fact(event, *, certificate="", text=None, **fields):
    return event, "", "", "", certificate, json.dumps({"event": event, **fields}) if text is None else text


def test_who_asks_for_some_kinds_reads_no_others():
    facts = Facts([fact("connected", text=UNREADABLE), fact("refused", n=1), fact("denied", n=2), fact("refused", n=3)])
    assert [event["n"] for event in facts.of("refused", "denied")] == [1, 2, 3]
    assert facts.of("store") == []
    assert (len(facts), facts.counts) == (4, {"connected": 1, "refused": 2, "denied": 1})
    with pytest.raises(ValueError, match="Expecting value"):
        facts.whole()


def test_a_fact_is_read_once():
    facts = Facts([fact("refused", n=1)])
    assert facts.of("refused")[0] is facts.whole()[0]


def test_a_fact_of_ours_is_a_batch_of_one():
    event = {"event": "issued", "device": "sensor-1"}
    assert Facts.told(event).whole() == [event]


def written(batches, *, level="info"):
    """The records of a log to which a batch is given each second."""
    stream = io.StringIO()
    clock = iter(range(len(batches) + 1))
    sink = log.EventLog(log.make(level=level, form="json", stream=stream), now=lambda: next(clock))
    for batch in batches:
        sink.note(Facts(batch))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_of_a_storm_the_log_reads_what_it_writes_and_counts_the_rest():
    storm = [fact("connected", n=n) for n in range(50)]
    storm[20:20] = [fact("refused", n="first")]
    storm += [fact("connected", text=UNREADABLE)] * 70 + [fact("refused", n="second")]
    records = written([storm, [fact("connected", n="next")]])
    expected = [*range(20), "first", *range(20, 50), "second"]
    assert [record["n"] for record in records[:52]] == expected
    assert [(record["event"], record.get("count")) for record in records[52:]] == [
        ("suppressed", 70),
        ("connected", None),
    ]


def test_the_budget_of_a_second_is_shared_by_its_batches():
    stream = io.StringIO()
    sink = log.EventLog(log.make(level="info", form="json", stream=stream), now=lambda: 0.0)
    for first in range(0, 60, 20):
        sink.note(Facts([fact("connected", n=n) for n in range(first, first + 20)]))
    assert [json.loads(line)["n"] for line in stream.getvalue().splitlines()] == list(range(50))


def test_what_the_level_leaves_out_is_neither_read_nor_counted():
    storm = [fact("connected", text=UNREADABLE)] * 70 + [fact("refused", n=1), fact("store", health="failed")]
    records = written([storm, [fact("store", health="good")]], level="warning")
    assert [(record["event"], record["level"]) for record in records] == [("refused", "warning"), ("store", "error")]


def test_an_awaited_key_is_looked_for_where_there_is_no_certificate():
    seen = []
    keys = NewKeys(seen.append)
    facts = Facts(
        [
            fact("connected", text=UNREADABLE, certificate="aa" * 32),
            fact("connected", tls=None),
            fact("connected", tls={"psk": "sensor-1#2"}),
            fact("connected", tls={"psk": "sensor-1#2"}),
        ]
    )
    keys.expect({"sensor-1#2"})
    keys.note(facts)
    keys.stop()
    assert seen == ["sensor-1#2"]


def test_nothing_is_read_while_no_key_is_awaited():
    NewKeys(pytest.fail).note(Facts([fact("connected", text=UNREADABLE)]))


def test_sightings_are_written_whenever_there_are_some(monkeypatch):
    """A thread that sleeps until something is noted is to wake each time, also for what comes while it writes."""
    monkeypatch.setattr(sightings, "_WRITE_SECONDS", 0.001)
    written, came, noted = [], threading.Event(), threading.Event()

    class Registry:
        def certificate(self, _sha256):
            return None

        def certificates_seen(self, seen):
            written.extend(seen)
            came.set()
            assert noted.wait(10)
            return []

    seen = Sightings(Registry(), tell=pytest.fail, close=lambda _device: 0, closes_clones=lambda: False)
    seen.start()
    try:
        for sha256 in ("aa", "bb", "cc"):
            noted.clear()
            seen.note(Facts([("connected", sha256, "sensor-1", "192.0.2.1:1", sha256, "")]))
            assert came.wait(10)
            came.clear()
            seen.note(Facts([("connected", sha256 + "2", "sensor-1", "192.0.2.1:2", sha256 + "2", "")]))
            noted.set()
            assert came.wait(10)
            came.clear()
    finally:
        noted.set()
        seen.stop()
    assert written == ["aa", "aa2", "bb", "bb2", "cc", "cc2"]
