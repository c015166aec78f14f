"""A crash run: load over TLS, a broker killed at a random moment, started again on its folder, round after round.

It refuses to know MQTT and to forgive: the first broken promise ends the run with status 1 and the command that repeats
it. The seed fixes the plan (what is killed when, who sleeps, what is sent); threads and disks keep some chance.

usage: make crash [ROUNDS=200] [SEED=1]
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crash.broker import BrokerFault, BrokerProcess, prepare
from crash.clients import Actor, Keeper, Publisher, Subscriber, Wanderer, Wish, World, look_at_retained
from crash.fleet import Fleet
from crash.ledger import Ledger
from sealmq.datafolder import DataFolder
from security.raw_mqtt import V5, V311

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sealmq.pki.operations import DeviceFiles

# when the kill comes, in a hundred; `end` is a clean stop
_KINDS = {"load": 40, "start": 15, "resume": 20, "stop": 15, "end": 10}
_KILLED = {
    "load": "killed under load",
    "start": "killed under load and while starting",
    "resume": "killed under load and while sessions resume",
    "stop": "killed while stopping",
    "end": "stopped cleanly",
}
_LOAD = (0.05, 0.6)  # seconds of load before the kill
_STARTING = 0.45  # seconds within which a start is killed; it takes about that long to accept
_RESUMING = 0.2
_STOPPING = 0.3
_PATIENCE = 30.0  # seconds in which everything owed must have come
_GLANCE = 5.0  # seconds in which a new subscriber must have been given what is retained
_WAKE_ALL = 5  # rounds after which those who slept come back, too
_TOPICS = {"pub-1": 1, "pub-2": 2, "pub-3": 1, "pub-4": 2}  # publisher to QoS
NAMES = (*_TOPICS, "keep-1", "keep-2", "sub-1", "sub-2", "sub-3", "sub-4", "wander-1", "wander-2", "looker")
KEPT = (
    "nothing acknowledged was lost, nothing came twice at QoS 2, order held,"
    " no session, device or revocation was forgotten"
)
_SLEEPERS = ("sub-1", "sub-4", "wander-1")


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    rounds: int = 0
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    restart_ms: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


# A sleeper's full queue would turn the publishers of 3.1.1 away for as long as it sleeps: another test's matter.
_ROOM = "\n[limits]\nmax_queued_messages = 10000000\nmax_queued_bytes = 10000000000\n"


def run(
    folder: Path,
    *,
    rounds: int,
    seed: int,
    settings: str = "",
    broker_on: Callable[[Path], BrokerProcess] = BrokerProcess,
) -> Outcome:
    """Play `rounds` rounds in `folder`, which is kept; `settings` is the text of the broker's configuration.

    `broker_on` makes the broker of a data folder: what it does beyond a `kill` is its own matter.
    """
    outcome = Outcome(seed)
    plan = random.Random(seed)  # noqa: S311  repeatable, not secret
    ledger = Ledger()
    world = World(ledger, seed)
    files = prepare(folder / "data", NAMES, settings + _ROOM)
    broker = broker_on(folder / "data")
    fleet = Fleet(world, DataFolder.open(folder / "data"))
    try:
        port = broker.start()
        actors = cast(world, files)
        with playing(world, [*actors, fleet]):
            world.set(port=port)
            _settle(world, actors, ledger)
            for number in range(1, rounds + 1):
                _round(number, plan, broker, world, actors, fleet, outcome, files)
                if ledger.violations:
                    break
                outcome.rounds = number
        broker.end()
    except BrokerFault as failure:
        ledger.violations.append(str(failure))
    finally:
        world.set(is_over=True)
        broker.kill()
    outcome.counts, outcome.violations = dict(ledger.counts), ledger.violations
    return outcome


def cast(world: World, files: dict[str, DeviceFiles]) -> list[Actor]:
    """All clients of a run, not started yet."""
    topics = {name: [f"shared/crash/{name}/{lane}" for lane in ("a", "b")] for name in _TOPICS}
    of = {name: Wish(f"shared/crash/{name}/#", frozenset(topics[name])) for name in _TOPICS}
    everything = Wish("shared/crash/+/+", frozenset(topic for lanes in topics.values() for topic in lanes))
    actors: list[Actor] = [
        Publisher(world, name, files[name], topics=topics[name], qos=qos, version=V311 if name == "pub-3" else V5)
        for name, qos in _TOPICS.items()
    ]
    actors += [
        Keeper(world, name, files[name], topics=[f"shared/kept/{name}/{lane}" for lane in range(4)], qos=qos)
        for name, qos in (("keep-1", 1), ("keep-2", 2))
    ]
    subscribers = {
        "sub-1": (everything, 2, V5),
        "sub-2": (everything, 1, V5),
        "sub-3": (of["pub-2"], 2, V311),
        "sub-4": (everything, 2, V5),
    }
    actors += [
        Subscriber(world, name, files[name], wishes=[wish], qos=qos, version=version)
        for name, (wish, qos, version) in subscribers.items()
    ]
    actors += [
        Wanderer(world, name, files[name], wishes=list(of.values()), qos=qos)
        for name, qos in (("wander-1", 1), ("wander-2", 2))
    ]
    return actors


def _round(
    number: int,
    plan: random.Random,
    broker: BrokerProcess,
    world: World,
    actors: list[Actor],
    fleet: Fleet,
    outcome: Outcome,
    files: dict[str, DeviceFiles],
) -> None:
    """Load, a kill, a start; then everything acknowledged must be there."""
    ledger = world.ledger
    sleepers = frozenset(name for name in _SLEEPERS if plan.random() < 0.5)
    kind = plan.choices(list(_KINDS), list(_KINDS.values()))[0]
    outcome.kills[kind] += 1
    world.set(is_loading=True, asleep=sleepers)
    _pass(world, plan.uniform(*_LOAD))
    if kind == "stop":
        broker.terminate()
        broker.wait(plan.uniform(0, _STOPPING))
    if kind == "end":
        broker.end()
    broker.kill()
    world.set(port=None, is_loading=False)
    if kind == "start":
        for _ in range(plan.randint(1, 3)):
            broker.launch()
            broker.wait(plan.uniform(0, _STARTING))
            broker.kill()
    if kind == "resume":
        for _ in range(plan.randint(1, 3)):
            world.set(port=broker.start())
            _pass(world, plan.uniform(0, _RESUMING))
            broker.kill()
            world.set(port=None)
    began = time.monotonic()
    port = broker.start()
    outcome.restart_ms.append((time.monotonic() - began) * 1000)
    fleet.look(port)
    look_at_retained(port, files["looker"], ledger, "shared/kept/#", seconds=_GLANCE)
    if number % _WAKE_ALL == 0:
        sleepers = frozenset()
    world.set(port=port, asleep=sleepers)
    _settle(world, actors, ledger)
    if not ledger.violations:
        look_at_retained(port, files["looker"], ledger, "shared/kept/#", seconds=_GLANCE)


def _settle(world: World, actors: list[Actor], ledger: Ledger) -> None:
    """Wait until everybody who is awake has finished, and has got what is owed."""
    awake = [actor for actor in actors if actor.name not in world.asleep]
    deadline = time.monotonic() + _PATIENCE
    while not all(actor.is_quiet for actor in awake) and not ledger.violations:
        for actor in actors:
            if actor.fault is not None:
                raise actor.fault
        if time.monotonic() > deadline:
            busy = ", ".join(f"{actor.name} ({actor.session.unsettled})" for actor in awake if not actor.is_quiet)
            ledger.violations.append(f"no answer within {_PATIENCE:g} s for {busy}")
            return
        _pass(world, 0.01)
    ledger.wait_paid({actor.name for actor in awake}, _PATIENCE)


def _pass(world: World, seconds: float) -> None:
    with world.changed:
        world.changed.wait_for(lambda: world.is_over, seconds)


@contextmanager
def playing(world: World, everybody: Sequence[Actor | Fleet]) -> Iterator[None]:
    """All of them at work in `world`, until the block ends."""
    for one in everybody:
        one.start()
    try:
        yield
    finally:
        world.set(is_over=True)
        for one in everybody:
            one.join(15)


def report(outcome: Outcome) -> str:
    """The run in lines for people."""
    times = sorted(outcome.restart_ms) or [0.0]
    kills = ", ".join(f"{_KILLED[kind]} {count}" for kind, count in outcome.kills.items())
    lines = [
        f"seed {outcome.seed}: {outcome.rounds} rounds whole: {kills}",
        f"restart to ready: median {times[len(times) // 2]:.0f} ms, longest {times[-1]:.0f} ms",
        *(f"  {count:>9}  {what}" for what, count in sorted(outcome.counts.items())),
    ]
    return "\n".join([*lines, *(f"BROKEN: {sentence}" for sentence in outcome.violations)])


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="make crash", description="kill the broker again and again; nothing acknowledged may be lost"
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of a run")
    parser.add_argument("--settings", default="", help="configuration of the broker, TOML")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="sealmq-crash-"))
    outcome = run(folder, rounds=options.rounds, seed=seed, settings=options.settings)
    print(report(outcome))
    if outcome.violations:
        print(f"the broker's folder is kept: {folder}\nrepeat: make crash ROUNDS={options.rounds} SEED={seed}")
        return 1
    shutil.rmtree(folder)
    print(KEPT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
