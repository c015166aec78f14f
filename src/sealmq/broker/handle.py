"""The handle on one node of the data plane: start, reload, ask, stop; and the thread that hands its events on.

It refuses to know sockets, files and people: configuration comes in ready-made, events go out in batches.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from sealmq.broker.facts import Facts
from sealmq.enginefaults import from_engine
from sealmq.errors import NotSo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sealmq._engine import Node

_POLL_MS = 3_600_000  # a fact, and the end of the node, end the wait at once: an idle broker does not wake for it
_SCHEMES = {
    "mqtts": ("mqtts://", ""),
    "wss": ("wss://", "/mqtt"),
    "psk": ("mqtts+psk://", ""),
    "plaintext": ("mqtt://", ""),
}


class Broker:
    """A running node. `start` makes one; `stop` ends it; in between any thread may call the rest.

    Every event of the node (shapes in `_engine.pyi`, `Node.poll_events`) goes to every sink, in order, on one thread;
    what came together goes as one batch, to one sink after the other.
    """

    def __init__(self, node: Node, sinks: Sequence[Callable[[Facts], None]]) -> None:
        """For `start` only."""
        self._node = node
        self._sinks = list(sinks)
        self._stopping = threading.Event()
        self._handed_on = 0
        self._progress = threading.Condition()
        self.started_at = time.time()
        self._thread = threading.Thread(target=self._hand_on_events, name="sealmq-events", daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, config: str, *, sinks: Sequence[Callable[[Facts], None]] = ()) -> Broker:
        """Start a node from a JSON `NodeConfig`; it accepts on every listener when this returns.

        Raises `ConfigError` or `Environment` with the code of the data plane (`address-in-use`, `key-mismatch`, …).
        """
        from sealmq import _engine

        try:
            node = _engine.Node.start(config)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        return cls(node, sinks)

    def addresses(self) -> list[tuple[str, str]]:
        """`(kind, "HOST:PORT")` per listener with real ports; kinds are `mqtts`, `wss`, `psk`, `plaintext`."""
        return self._node.addresses()

    def urls(self) -> list[str]:
        """One URL per listener, as clients write it."""
        return [f"{_SCHEMES[kind][0]}{address}{_SCHEMES[kind][1]}" for kind, address in self.addresses()]

    def stats(self) -> dict[str, Any]:
        """Counters and gauges of the node since its start."""
        found: dict[str, Any] = json.loads(self._node.stats())
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """One dictionary per session; fields as in `_engine.pyi`, `Node.sessions`."""
        found: list[dict[str, Any]] = json.loads(self._node.sessions())
        return found

    def disconnect_device(self, device: str, *, reason_code: int, reason: str) -> int:
        """Close every live connection of a device with an MQTT 5 reason code; how many were closed."""
        return self._node.disconnect_device(device, reason_code, reason)

    def revoke(self, revoked: dict[str, list[str]]) -> dict[str, int]:
        """Refuse more devices and certificates from now on, and close their connections (MQTT 5: DISCONNECT 0x98).

        `revoked` is `devices` (ids) and `certificates` (SHA-256 of the DER form, hex); returns `closed` and `micros`
        once all that has happened. Raises `NotSo` with code `stopped` when the node has ended.
        """
        from sealmq import _engine

        try:
            found: dict[str, int] = json.loads(self._node.revoke(json.dumps(revoked)))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        return found

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """A message of the broker itself; no rule is asked. Raises `ConfigError` for a topic that is none."""
        from sealmq import _engine

        try:
            self._node.publish(topic, payload, retain)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def purge_device(self, device: str) -> dict[str, int]:
        """Drop the sessions of a device and the retained messages it left: how many `sessions` and `retained`."""
        found: dict[str, int] = json.loads(self._node.purge_device(device))
        return found

    def store_backup(self, to: Path) -> dict[str, Any]:
        """Copy the store to the new file `to`; shape and codes as in `_engine.pyi`, `Node.store_backup`."""
        from sealmq import _engine

        try:
            found: dict[str, Any] = json.loads(self._node.store_backup(to))
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None
        return found

    def store_check(self) -> list[str]:
        """What is wrong with the store, a sentence each. Raises `NotSo` with code `store-none`."""
        from sealmq import _engine

        try:
            return self._node.store_check()
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def store_stats(self) -> dict[str, Any]:
        """What the store holds and has cost; shape as `store` of `Node.stats`. Raises `NotSo`, code `store-none`."""
        found: dict[str, Any] | None = self.stats().get("store")
        if found is None:
            raise from_engine(
                "store-none",
                "broker keeps everything in memory",
                "set durability.default to sync or os, and restart it",
            )
        return found

    def record_next(self, device: str | None, *, timeout_ms: int) -> dict[str, Any] | None:
        """The handshake of the next connection of `device` (None: of anyone); None when nobody came in time.

        Shape as in `_engine.pyi`, `Node.record_next`; it holds secrets. Raises `NotSo` with code `recorder-busy`.
        """
        from sealmq import _engine

        try:
            found = self._node.record_next(device, timeout_ms)
        except _engine.EngineError as error:
            if error.args[0] == "recorder-busy":
                raise NotSo(
                    "another recording is waiting for its handshake in this broker",
                    mend="let it end, or end that command",
                    code="recorder-busy",
                ) from None
            raise from_engine(*error.args) from None
        return None if found is None else json.loads(found)

    def settle(self, timeout: float = 5.0) -> bool:
        """Wait until every event that the node knows of now was handed on; False when that took `timeout` seconds."""
        known: int = self.stats().get("events", 0)
        with self._progress:
            return self._progress.wait_for(lambda: self._handed_on >= known, timeout)

    def reload(self, config: str) -> None:
        """Take certificates, rules and limits from a new `NodeConfig`. Raises `ConfigError`; then nothing changed."""
        from sealmq import _engine

        try:
            self._node.reload(config)
        except _engine.EngineError as error:
            raise from_engine(*error.args) from None

    def stop(self, *, grace: float = 2.0) -> None:
        """Say goodbye to every client and close within `grace` seconds; the last events are handed on. Idempotent."""
        self._node.stop(int(grace * 1000))
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _hand_on_events(self) -> None:
        while not self._stopping.is_set():
            self._deliver(Facts(self._node.poll_events(_POLL_MS)))
        self._deliver(Facts(self._node.poll_events(0)))

    def _deliver(self, facts: Facts) -> None:
        if not facts:
            return
        batches = [facts]
        for batch in batches:
            for sink in tuple(self._sinks):
                try:
                    sink(batch)
                except Exception as error:  # noqa: BLE001 - whatever it is, the others are to hear of it
                    # It hears no more, and the broker must not live on as a half of itself.
                    self._sinks.remove(sink)
                    batches.append(_failure(error))
        with self._progress:
            self._handed_on += len(facts)
            self._progress.notify_all()


def _failure(error: Exception) -> Facts:
    """What the other watchers are told when one fails."""
    traceback.print_exception(error)
    return Facts.told(
        {
            "event": "failure",
            "at": int(time.time() * 1000),
            "summary": f"what watches the broker has failed: {type(error).__name__}: {error}",
            "mend": "restart the broker, and report this as a defect with what stands above it",
            "fatal": True,
        }
    )
