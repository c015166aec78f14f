"""A trace made of a recording, the same one every time.

It refuses to know how the recording came about: live or read from a file, bytes and secrets are all it goes by.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sealmq.trace import brokerside, causes, summary
from sealmq.trace.causes.evidence import Evidence
from sealmq.trace.fields import printable
from sealmq.trace.model import Certificate, Proofs, Tls, Totals, Trace
from sealmq.trace.steps import Teller, moment, started_at
from sealmq.trace.target import Target
from sealmq.trace.tls import certificates, keylog, names, suites
from sealmq.trace.tls.records import Cutter
from sealmq.trace.tracker import key_exchange

if TYPE_CHECKING:
    from sealmq.trace.model import Seat, Step
    from sealmq.trace.recording import Conditions, Event, Recording

_CHANGE_CIPHER_SPEC = bytes([names.CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1])


def trace_of(recording: Recording) -> Trace:
    """The trace of the last connection of a recording, those before it in `previous`."""
    secrets = keylog.Secrets(recording.key_log)
    made: Trace | None = None
    for events in recording.connections:
        teller = Teller(recording.conditions, events, secrets).tell()
        made = _trace(recording.conditions, events, teller, made)
    if made is None:
        made = _trace(recording.conditions, (), Teller(recording.conditions, (), secrets), None)
    return made


def _trace(conditions: Conditions, events: tuple[Event, ...], teller: Teller, previous: Trace | None) -> Trace:
    story, evidence = teller.story, _evidence(conditions, teller)
    tls, totals = _tls(teller), _totals(events, story.channel_at)
    proofs = Proofs(story.right, story.wrong, story.unchecked)
    seat: Seat = "client"
    if conditions.seat == "broker":
        seat = "broker"
        totals = dataclasses.replace(
            totals,
            sent=totals.received,
            received=totals.sent,
            handshake_sent=totals.handshake_received,
            handshake_received=totals.handshake_sent,
        )
        diagnosis = brokerside.diagnosis(story, connect_read=evidence.connect_sent)
        text = summary.of_broker(story, diagnosis, tls, totals, proofs)
    else:
        diagnosis = causes.classify(evidence)
        text = summary.of(evidence, diagnosis, tls, totals, proofs, tuple(story.steps), previous=previous)
    if diagnosis is None:
        return Trace(
            conditions.url, story.address, conditions.started, "ok", text, tls, tuple(story.steps), totals, proofs,
            previous=previous, seat=seat,
        )  # fmt: skip
    return Trace(
        conditions.url,
        story.address,
        conditions.started,
        "failed",
        text,
        tls,
        tuple(story.steps),
        totals,
        proofs,
        stopped_at=_stopped_at(story.steps, story.stage, diagnosis),
        stopped_by=diagnosis.stopped_by,
        cause=diagnosis.slug,
        evidence=diagnosis.evidence,
        not_done=diagnosis.not_done,
        mend=diagnosis.mend,
        command=diagnosis.command,
        previous=previous,
        seat=seat,
    )


def _stopped_at(steps: list[Step], stage: str, diagnosis: causes.Diagnosis) -> str:
    """The first step that this side found bad, or the last with which the other ended it; else the stage."""
    bad = [step.message for step in steps if step.is_bad]
    if not bad:
        return steps[-1].message if steps else stage
    return bad[0] if diagnosis.stopped_by == "here" else bad[-1]


def _evidence(conditions: Conditions, teller: Teller) -> Evidence:
    story, session = teller.story, teller.session
    target = Target.parse(conditions.url, seat="broker" if conditions.seat == "broker" else "client")
    ending = story.ending
    seconds = ending.get("seconds", 0.0)
    number = ending.get("errno", 0)
    return Evidence(
        stage=story.stage,
        how=story.how,
        url=conditions.url,
        host=target.host,
        address=story.address or str(ending.get("address", "") or f"{target.host}:{target.port}"),
        server_name=conditions.server_name,
        started=started_at(conditions),
        tls=teller.facts,
        wants_mqtt=session is not None,
        mqtt_version=conditions.mqtt,
        client_id=conditions.client_id,
        errno=number if isinstance(number, int) else 0,
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        verify_code=story.verify_code,
        alert_received=story.alert_received,
        alert_sent=story.alert_sent,
        first_bytes=story.first_bytes,
        not_tls=story.not_tls,
        not_mqtt=session.not_mqtt if session is not None else b"",
        malformed=story.malformed,
        over=str(ending.get("over", "")),
        wrong_proof=story.wrong_proof,
        connect_sent=session is not None and session.connect_sent,
        connack=session.connack if session is not None else -1,
        disconnect=session.disconnect if session is not None else -1,
        reason_string=session.reason_string if session is not None else "",
        websocket_fault=teller.carrier.fault if teller.carrier is not None else "",
        websocket_said=teller.carrier.said if teller.carrier is not None else "",
        anchors=conditions.anchors,
        identity=conditions.identity,
        legacy=conditions.legacy,
        missed=story.missed,
        would_speak=story.would_speak,
        would_choose=suites.SUITES.get(story.would_choose),
        to_stranger=story.to_stranger,
        times=tuple((what, when) for what, text in conditions.times if (when := moment(text)) is not None),
        server_time=moment(story.server_time),
        server_time_by=story.server_time_by,
        has_shared_key=target.has_shared_key,
    )


def _tls(teller: Teller) -> Tls:
    facts = teller.facts
    hello = facts.client_hello
    return Tls(
        version=names.version(facts.version) if facts.version is not None else "",
        cipher=suites.name(facts.server_hello.suite) if facts.server_hello is not None else "",
        group=names.group(facts.group) if facts.group is not None else "",
        key_exchange=key_exchange(facts),
        resumed=facts.resumed,
        retried=facts.retried,
        protocol=facts.protocol,
        server_name=hello.server_name if hello is not None else "",
        client_certificate=teller.story.tracker.client_certificate,
        certificates=tuple(_certificate(der) for der in facts.server_chain[: certificates.MOST_CERTIFICATES]),
        psk_identity=printable(facts.identity),
    )


def _certificate(der: bytes) -> Certificate:
    found = certificates.load(der)
    if found is None:
        return Certificate("(unreadable)", "(unreadable)", "", "", (), "")
    key = next((field.value for field in certificates.describe(der) if field.name == "key"), "")
    return Certificate(
        certificates.subject(found),
        certificates.issuer(found),
        found.not_valid_before_utc.isoformat(),
        found.not_valid_after_utc.isoformat(),
        certificates.alternative_names(found),
        key,
    )


def _totals(events: tuple[Event, ...], channel_at: int) -> Totals:
    def counted(part: tuple[Event, ...]) -> tuple[int, int, int]:
        sent = sum(len(event.data) for event in part if event.kind == "sent")
        received = sum(len(event.data) for event in part if event.kind == "received")
        trips, asked = 0, False
        for event in part:
            if event.kind == "sent" and event.data != _CHANGE_CIPHER_SPEC:  # alone, it waits for nothing
                asked = True
            elif event.kind == "connected" or (event.kind == "received" and asked):
                trips, asked = trips + 1, False
        return sent, received, trips

    sent, received, trips = counted(events)
    until = events[: channel_at + 1]
    opened = next((event.t_ms for event in events if event.kind == "connected"), 0.0)
    early = counted(until)
    records = 0
    for kind in ("sent", "received"):
        cutter = Cutter()
        records += sum(len(cutter.feed(event.data)) for event in events if event.kind == kind)
    return Totals(
        sent=sent,
        received=received,
        records=records,
        round_trips=trips,
        duration_ms=round(events[-1].t_ms, 3) if events else 0.0,
        handshake_bytes=early[0] + early[1],
        handshake_ms=round(until[-1].t_ms - opened, 3) if until else 0.0,
        handshake_round_trips=early[2],
        handshake_sent=early[0],
        handshake_received=early[1],
        handshake_cpu_ms=max((event.measure("cpu_ms") for event in events if event.kind == "tls"), default=0.0),
        server_cpu_ms=max((event.measure("server_cpu_ms") for event in events), default=0.0),
    )
