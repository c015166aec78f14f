"""The log and the memory of refusals: plain words, no forged lines, bounded."""

import io
import json

from sealmq.broker import log
from sealmq.broker.facts import Facts
from sealmq.broker.refusals import KEPT, Refusals

REFUSED = {
    "event": "refused",
    "at": 1_700_000_000_000,
    "peer": "192.0.2.7:51234",
    "listener": "mqtts",
    "stage": "certificate",
    "cause": "certificate-expired",
    "summary": "certificate of sensor-9 expired 3 days ago",
    "mend": "sealmq device renew sensor-9",
    "certificate": {"subject": "CN=sensor-9", "serial": "4f2a", "not_after": "2026-11-17T20:00:00Z", "issuer": None},
}


def written(events, *, form="text", level="info", now=lambda: 0.0):
    stream = io.StringIO()
    sink = log.EventLog(log.make(level=level, form=form, stream=stream), now=now)
    for event in events:
        sink.note(Facts.told(event))
    return stream.getvalue()


def test_a_refusal_for_people():
    first, certificate, mend = written([REFUSED]).splitlines()
    words = "certificate of sensor-9 expired 3 days ago [certificate-expired]"
    assert first.endswith(f"warning refused 192.0.2.7:51234 (mqtts certificate): {words}")
    assert certificate.strip() == "certificate: subject CN=sensor-9, serial 4f2a, not after 2026-11-17T20:00:00Z"
    assert mend == "    mend: sealmq device renew sensor-9"


def test_a_refusal_for_machines_keeps_every_field():
    (line,) = written([REFUSED], form="json").splitlines()
    record = json.loads(line)
    assert record["at"] == "2023-11-14T22:13:20.000Z"
    assert record["level"] == "warning"
    assert {key: record[key] for key in REFUSED if key != "at"} == {k: v for k, v in REFUSED.items() if k != "at"}


def test_a_peer_cannot_forge_a_line():
    evil = {
        **REFUSED,
        "summary": "x\n2026-01-01 00:00:00 connected admin\x1b[2J\u2028",
        "certificate": {"subject": "a\nb"},
    }
    lines = written([evil]).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_every_event_has_a_sentence():
    lines = written(
        [
            {
                "event": "connected",
                "peer": "p",
                "client_id": "c",
                "protocol": "5.0",
                "tls": {"version": "TLSv1.3", "group": "X25519MLKEM768", "resumed": False},
            },
            {"event": "connected", "peer": "p", "client_id": "c", "protocol": "3.1.1", "tls": None},
            {
                "event": "disconnected",
                "peer": "p",
                "client_id": "c",
                "cause": "keep-alive",
                "summary": "silent for 90 s",
            },
            {
                "event": "denied",
                "client_id": "c",
                "action": "publish",
                "topic": "t",
                "rule": "no rule allows it",
                "mend": "m",
            },
            {"event": "dropped", "client_id": "c", "cause": "queue-full", "count": 4},
            {"event": "lost", "count": 7},
            {"event": "failure", "summary": "cannot accept connections"},
            {"event": "new-kind", "field": 1},
        ]
    ).splitlines()
    assert lines.pop(4) == "    mend: m"
    texts = [line[20:] for line in lines]
    assert texts == [
        "connected c from p (MQTT 5.0, TLSv1.3 X25519MLKEM768)",
        "connected c from p (MQTT 3.1.1, no TLS)",
        "disconnected c from p: silent for 90 s",
        "warning denied c: publish t: no rule allows it",
        "warning dropped 4 messages for c: queue-full",
        "warning lost 7 events that came faster than they could be handed on",
        "error failure: cannot accept connections",
        "new-kind field=1",
    ]


def test_the_level_leaves_out_what_is_less_important():
    assert written([{"event": "connected", "client_id": "c"}], level="warning") == ""
    assert "refused" in written([REFUSED], level="warning")
    assert "no descriptors" in written([{"event": "failure", "summary": "no descriptors"}], level="error")


def test_a_flood_is_counted_not_written():
    clock = iter([0.0, *([0.5] * 80), 1.5])
    lines = written([REFUSED] * 81, form="json", now=lambda: next(clock)).splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["event"] for record in records].count("refused") == 51
    (summary,) = [record for record in records if record["event"] == "suppressed"]
    assert (summary["kind"], summary["count"]) == ("refused", 30)


def test_refusals_are_bounded_and_counted():
    refusals = Refusals()
    for number in range(KEPT + 5):
        refusals.note(Facts.told({**REFUSED, "number": number}))
    refusals.note(Facts.told({"event": "connected"}))
    refusals.note(Facts.told({**REFUSED, "cause": "plaintext-mqtt", "number": -1}))
    assert len(refusals.last()) == KEPT
    assert [event["number"] for event in refusals.last(2)] == [KEPT + 4, -1]
    assert refusals.last(0) == []
    assert refusals.by_cause() == {"certificate-expired": KEPT + 5, "plaintext-mqtt": 1}
