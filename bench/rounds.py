"""Owns the comparison itself: every broker under every load, interleaved, several rounds.

It refuses to judge: what comes out is the list of all figures of all rounds.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import generator
from bench.generator import LoadError
from bench.loads import Load
from bench.peers import Broker, NotHereError, Peer

Figures = dict[str, list[dict[str, Any]]]  # by broker, one entry a round
WARM = 1500  # milliseconds of each quality of service, where a compiler has to see the load first


def run(
    brokers: Sequence[Broker], loads: Sequence[Load], rounds: int
) -> tuple[dict[str, Figures], dict[str, dict[str, str]]]:
    """The figures, and why there are none: by load and broker. Every round starts all brokers afresh and takes them in
    turn for each load, so that a minute in which the machine is slow is slow for all.
    """
    found: dict[str, Figures] = {load.name: {} for load in loads}
    failed: dict[str, dict[str, str]] = {load.name: {} for load in loads}
    for turn in range(min(rounds, max((load.rounds for load in loads), default=0))):
        present = [one for one in brokers if turn < one.rounds]
        due = [one for one in loads if turn < one.rounds]
        # What a crowd has left free is there for the next: memory is that of a process which has seen nobody yet.
        for load in (one for one in due if one.mode == "idle"):
            for broker in (one for one in present if _is_possible(one, load, failed[load.name])):
                with ExitStack() as stack:
                    _take_turns(_start([broker], stack, failed), load, found[load.name], failed[load.name])
        with ExitStack() as stack:
            running = _start(present, stack, failed)
            _warm(running)
            for load in (one for one in due if one.mode != "idle"):
                _take_turns(running if turn % 2 == 0 else running[::-1], load, found[load.name], failed[load.name])
        print(f"round {turn + 1} of {rounds} is done", file=sys.stderr, flush=True)
    return found, failed


def _take_turns(running: list[tuple[Broker, Peer]], load: Load, found: Figures, reasons: dict[str, str]) -> None:
    for broker, peer in running:
        if _is_possible(broker, load, reasons):
            figures = _measure(peer, load, reasons)
            if figures is not None:
                found.setdefault(broker.name, []).append({**figures, "start_s": peer.start_s})


def _start(brokers: list[Broker], stack: ExitStack, failed: dict[str, dict[str, str]]) -> list[tuple[Broker, Peer]]:
    running = []
    for broker in brokers:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealmq-bench-")))
        try:
            running.append((broker, stack.enter_context(broker.run(folder))))
        except NotHereError as error:
            for reasons in failed.values():
                reasons[broker.name] = str(error).splitlines()[-1]
    return running


def _is_possible(broker: Broker, load: Load, reasons: dict[str, str]) -> bool:
    if load.name in broker.cannot:
        reasons[broker.name] = broker.cannot[load.name]
    return broker.name not in reasons


def _measure(peer: Peer, load: Load, reasons: dict[str, str]) -> dict[str, Any] | None:
    """One run; where it fails, that broker is left out of this load from now on."""
    try:
        figures = generator.load(peer, load.mode, {**load.options, **load.lighter.get(peer.name, {})})
    except LoadError as error:
        reasons[peer.name] = str(error)
        return None
    if load.options.get("resume") and figures["resumed"] < figures["count"] * 0.95:
        reasons[peer.name] = f"resumed {figures['resumed']} of {figures['count']} only"
        return None
    return figures


def _warm(running: list[tuple[Broker, Peer]]) -> None:
    for broker, peer in running:
        for qos in (0, 1, 2) if broker.is_compiled_late else ():
            generator.load(peer, "pairs", {"qos": qos, "ms": WARM})
