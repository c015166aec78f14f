"""Waits for pre-shared keys that are to replace others: the first connection with such a key ends the old one.

It refuses to know where keys are kept; it takes the data plane's `connected` events.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.broker.facts import Facts


class NewKeys:
    """A sink for events. Calling order: `expect` whenever keys were made, `note` as often as wanted, `stop`."""

    def __init__(self, settle: Callable[[str], None]) -> None:
        """`settle` is called with an identity that was seen, on a thread of its own: events wait for no disk."""
        self._settle = settle
        self._lock = threading.Lock()
        self._awaited: set[str] = set()
        self._threads: list[threading.Thread] = []

    def expect(self, identities: set[str]) -> None:
        """Wait for these, and no others."""
        with self._lock:
            self._awaited = set(identities)

    def note(self, facts: Facts) -> None:
        """Take events; they are looked at while something is awaited."""
        with self._lock:
            if not self._awaited:
                return
        for index, (event, _client_id, _device, _peer, certificate, _text) in enumerate(facts.outlines):
            if event == "connected" and not certificate:
                self._look_at((facts.read(index).get("tls") or {}).get("psk"))

    def _look_at(self, identity: str | None) -> None:
        with self._lock:
            if identity not in self._awaited:
                return
            self._awaited.discard(identity)
            thread = threading.Thread(target=self._settle, args=(identity,), name="sealmq-new-key")
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            thread.start()

    def stop(self) -> None:
        """Wait for what is under way."""
        self.expect(set())
        with self._lock:
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()
