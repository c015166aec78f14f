"""Real connections with bytes changed, cut and moved, on the wire and below the encryption: a trace reads what it can,
and nothing that shows it raises.

`SEALMQ_MUTATIONS=4000 pytest tests/trace/test_mutations.py` tries more than the few that every run tries.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import servers

from sealmq import trace
from sealmq.errors import UsageError
from sealmq.testing import EphemeralBroker
from sealmq.tls.presharedkey import Psk
from sealmq.trace import compare, page, pcapng, render
from sealmq.trace.build import trace_of
from sealmq.trace.causes.table import CAUSES, OF_CLIENT
from sealmq.trace.live import recorder
from sealmq.trace.model import Trace, from_json, to_json
from sealmq.trace.recording import Event, Recording
from sealmq.trace.request import Identity, Request
from sealmq.trace.story import MOST_STEPS
from sealmq.trace.target import Target
from sealmq.trace.tls import protect

COUNT = int(os.environ.get("SEALMQ_MUTATIONS", "40"))
ODD = (None, [], {}, "\x1b[2J", -1, 1e300, "x" * 10_000, True, {"cause": []}, {"stage": {}, "certificate": 7})
FORMS = ["mqtts-1.3", "mqtts-1.2", "wss", "key-transport", "resumed", "broker", "psk-1.3", "psk-1.2", "hybrid"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """One whole connection of each form."""
    made = {}
    with EphemeralBroker(wss=True, psk=True) as broker:
        files = broker.device("sensor-1")
        mine = Identity(files.ca, files.cert, files.key)
        for name, url, tls in (
            ("mqtts-1.3", broker.url, "1.3"),
            ("mqtts-1.2", broker.url, "1.2"),
            ("wss", f"wss://127.0.0.1:{broker.port_of('wss')}", ""),
        ):
            made[name] = recorder.run(Request(Target.parse(url), mine, tls=tls))
        keys = f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}"
        broker.device_psk("small-1")
        shared = Identity(psk=Psk.read(broker.folder.devices_dir / "small-1" / "psk.txt"))
        made["psk-1.3"] = recorder.run(Request(Target.parse(keys), shared, tls="1.3"))
        made["psk-1.2"] = recorder.run(
            Request(Target.parse(keys), shared, tls="1.2", ciphers="PSK-AES128-CCM8:@SECLEVEL=0")
        )
        made["hybrid"] = recorder.run(Request(Target.parse(broker.url), mine, post_quantum=True))
        made["resumed"] = recorder.run(Request(Target.parse(broker.url), mine, resume=True))
    certified = servers.rsa_2048(tmp_path_factory.mktemp("server"))
    with servers.s_server(certified, "-tls1_2", "-cipher", "AES128-SHA") as (url, _):
        made["key-transport"] = recorder.run(Request(Target.parse(url), Identity(certified.ca), legacy=True))
    made["broker"] = _as_the_broker_saw_it(made["mqtts-1.3"])
    for name, recording in made.items():
        assert trace_of(recording).outcome == "ok", name
    return made


def _as_the_broker_saw_it(whole: Recording) -> Recording:
    from dataclasses import replace

    (events,) = whole.connections
    connack = [index for index, event in enumerate(events) if event.kind == "received"][-4]
    facts = {"how": "recorded", "peer": "127.0.0.1:1", "device": "sensor-1", "refusal": {}, "cut": False}
    kept = [
        event for event in events[: connack + 1] if event.kind in ("connected", "phase", "sent", "received", "secret")
    ]
    return Recording(replace(whole.conditions, seat="broker"), ((*kept, Event(9.0, "ended", facts=facts)),))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes with a bit, a byte, a length or an end that is another."""
    changed = bytearray(data)
    match chance.randint(0, 5):
        case 0 if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        case 1:
            del changed[chance.randrange(len(changed) + 1) :]
        case 2 if len(changed) > 12:
            changed[chance.randrange(12)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 3 if len(changed) > 2:
            at = chance.randrange(len(changed) - 1)
            changed[at : at + 2] = chance.choice((b"\xff\xff", b"\x00\x00", b"\x40\x00", b"\x00\x01"))
        case 4:
            at = chance.randrange(len(changed) + 1)
            changed[at:at] = changed[: chance.randint(0, 80)]
        case _:
            changed = bytearray(chance.randbytes(chance.randint(0, 200)))
    return bytes(changed)


def mutated(whole: Recording, chance: random.Random) -> Recording:
    """The same recording with a few events damaged, forged, or in another order."""
    connections = []
    for original in whole.connections:
        events = list(original)
        carrying = [index for index, event in enumerate(events) if event.kind in ("sent", "received", "secret")]
        for at in chance.choices(carrying, k=chance.randint(0, 3)):
            event = events[at]
            events[at] = Event(event.t_ms, event.kind, damaged(event.data, chance), event.facts)
        if chance.random() < 0.3:
            events = [
                Event(event.t_ms, event.kind, event.data, {name: chance.choice(ODD) for name in event.facts})
                if chance.random() < 0.5
                else event
                for event in events
            ]
        if chance.random() < 0.15:
            chance.shuffle(events)
        connections.append(tuple(events))
    return Recording(whole.conditions, tuple(connections))


def looked_at(seen: Trace, recording: Recording, everything: bool) -> None:
    """It is whole, its words are in the table, and whatever shows it does."""
    assert from_json(json.loads(json.dumps(to_json(seen)))) == seen
    assert len(seen.steps) <= MOST_STEPS
    if seen.seat == "client":
        assert seen.cause is None or seen.cause in CAUSES or seen.cause in OF_CLIENT
    if everything:
        render.show(seen, verbose=True, explain=True)
        page.html(seen)
        page.svg(seen)
        pcapng.to_bytes(recording)
        compare.compare(seen, seen)


@pytest.mark.timeout(3600 if COUNT > 1000 else 60)
@pytest.mark.parametrize("form", FORMS)
def test_on_the_wire(recordings: dict[str, Recording], form: str, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(f"wire {form}")  # noqa: S311 - the same in every run
    causes: dict[str, int] = {}
    for number in range(COUNT):
        changed = mutated(recordings[form], chance)
        seen = trace_of(changed)
        looked_at(seen, changed, everything=number % 10 == 0)
        causes[str(seen.cause)] = causes.get(str(seen.cause), 0) + 1
        assert "\x1b[2J" not in capsys.readouterr().out
    sys.stderr.write(f"{form}: {COUNT} on the wire: {dict(sorted(causes.items()))}\n")
    assert form == "broker" or len(causes) > 2  # a broker says itself what became of it


@pytest.mark.timeout(3600 if COUNT > 1000 else 60)
@pytest.mark.parametrize("form", FORMS)
def test_below_the_encryption(
    recordings: dict[str, Recording], form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a peer may say that holds the keys: damage that no tag gives away."""
    chance = random.Random(f"below {form}")  # noqa: S311

    def hit(opened: Callable[..., tuple[int, bytes]]) -> Callable[..., tuple[int, bytes]]:
        def open_record(self: object, record: object) -> tuple[int, bytes]:
            kind, plain = opened(self, record)
            return kind, damaged(plain, chance) if chance.random() < 0.2 else plain

        return open_record

    for cls in (protect.Aead13, protect.Aead12, protect.Block):
        monkeypatch.setattr(cls, "open", hit(cls.open))
    causes: dict[str, int] = {}
    for number in range(COUNT):
        seen = trace_of(recordings[form])
        looked_at(seen, recordings[form], everything=number % 10 == 0)
        causes[str(seen.cause)] = causes.get(str(seen.cause), 0) + 1
    capsys.readouterr()
    sys.stderr.write(f"{form}: {COUNT} below the encryption: {dict(sorted(causes.items()))}\n")
    assert form == "broker" or len(causes) > 1


@pytest.mark.timeout(3600 if COUNT > 1000 else 60)
def test_in_the_file(recordings: dict[str, Recording], tmp_path: Path) -> None:
    """A kept recording that was damaged is read, or refused with a word; nothing else."""
    chance = random.Random("file")  # noqa: S311
    kept = recordings["mqtts-1.3"].to_bytes()
    read = 0
    for _ in range(COUNT):
        path = tmp_path / "kept.json"
        path.write_bytes(damaged(kept, chance) if chance.random() < 0.7 else _forged(kept, chance))
        try:
            seen = trace.replay(path)
        except UsageError:
            continue
        read += 1
        assert from_json(to_json(seen)) == seen
    sys.stderr.write(f"file: {COUNT}, of which {read} could be read\n")
    assert 0 < read < COUNT


def _forged(kept: bytes, chance: random.Random) -> bytes:
    """The file with a value of another type or size somewhere."""
    whole = json.loads(kept)
    place = chance.choice(["conditions", "connections", "event"])
    if place == "conditions":
        whole["conditions"][chance.choice(list(whole["conditions"]))] = chance.choice(ODD)
    elif place == "connections":
        whole["connections"] = chance.choice([*ODD, [], [[]], [[[]]]])
    else:
        event = chance.choice(whole["connections"][0])
        event[chance.randrange(4)] = chance.choice(ODD)
    return json.dumps(whole).encode()
