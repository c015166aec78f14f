"""What connections tell about certificates: when each was seen, which it replaces, and whether it is in two places.

It refuses to know what a connection does; it takes the data plane's `connected` and `disconnected` events, writes to
the registry in batches, and says what it finds as events of its own:

* `superseded` {`device`, `sha256`}: a later certificate of the device was seen for the first time
* `fell-back` {`device`, `sha256`}: a device shows a certificate again whose successor it has shown before
* `cloned` {`device`, `sha256`, `addresses`, `client_ids`, `closed`}: one certificate from two places at once
"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.errors import SealmqError
from sealmq.pki.registry import CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.broker.facts import Event, Facts
    from sealmq.pki.registry import Registry

_WRITE_SECONDS = 1.0  # how long a sighting may wait to be written; one transaction takes all that came meanwhile
_AGAIN_SECONDS = (
    3600.0  # how exact `last_seen_at` is: a device that reconnects all the time is not written all the time
)
_SWEEP_SECONDS = 60.0  # between two looks at all that was noted: of a large fleet that is much
_REPORT_SECONDS = 60.0  # between two reports of the same clone
_BACK_AND_FORTH = 3  # moves between two addresses by which a client id, taken over and over, gives two holders away
_CLIENT_IDS = 20  # named in a report
_MOVES_SECONDS = 600.0  # in which they happen; a device that roams does not come back and go again so fast


class Sightings:
    """A sink for events. Calling order: `start`, `note` as often as wanted, `stop`; or `note` and `flush` in a test."""

    def __init__(
        self,
        registry: Registry,
        *,
        tell: Callable[[Event], None],
        close: Callable[[str], int],
        closes_clones: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`close` ends the connections of a device and says how many; `closes_clones` is the setting.

        `clock` gives seconds since the Unix epoch.
        """
        self._registry = registry
        self._tell = tell
        self._close = close
        self._closes_clones = closes_clones
        self._clock = clock
        self._lock = threading.Lock()
        self._live: dict[str, tuple[str, str, str]] = {}  # certificate, peer and its address of a client id
        self._addresses: dict[str, dict[str, int]] = {}  # of a certificate, with the number of connections from each
        self._moves: dict[str, deque[tuple[float, frozenset[str]]]] = {}
        self._unwritten: dict[str, datetime] = {}
        self._written: dict[str, float] = {}
        self._cloned: dict[str, Event] = {}
        self._reported: dict[str, float] = {}
        self._swept = 0.0
        self._wake = threading.Event()  # something was noted that is to be written, reported or, one day, forgotten
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="sealmq-sightings", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left. Idempotent."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._flush_or_say_why_not()

    def note(self, facts: Facts) -> None:
        """Take events; nothing is written here, so that the next event does not wait for a disk."""
        now = self._clock()
        with self._lock:
            if facts.counts["lost"]:
                self._forget_who_is_there()
            for event, client_id, device, peer, certificate, _ in facts.outlines:
                if event == "disconnected":
                    found = self._live.get(client_id)
                    # after a takeover the old connection's end comes behind the new one's beginning
                    if found is not None and found[1] == peer:
                        self._forget(client_id)
                elif event == "connected" and certificate and device:
                    self._connected(client_id, device, peer, certificate, now)

    def flush(self) -> None:
        """Write the sightings there are and report what they show."""
        with self._lock:
            seen, self._unwritten = self._unwritten, {}
            cloned, self._cloned = self._cloned, {}
            self._let_go_of_the_old()
        for event in cloned.values():
            closed = self._close(event["device"]) if self._closes_clones() else 0
            self._report("cloned", closed=closed, **event)
        if not seen:
            return
        fallen = [found for sha256 in seen if (found := self._registry.certificate(sha256)) is not None]
        for record in self._registry.certificates_seen(seen):
            with self._lock:
                self._written.pop(record.sha256, None)  # whoever shows it from here on is looked at, however soon
            self._report("superseded", device=record.device_id, sha256=record.sha256)
        for record in fallen:
            if record.status == CertificateStatus.SUPERSEDED:
                self._report(
                    "fell-back",
                    device=record.device_id,
                    sha256=record.sha256,
                    summary=f"device {record.device_id} shows a certificate again that it had replaced",
                    mend="look at the device: its renewal was undone, or somebody has a copy of its old key",
                )

    def _connected(self, client_id: str, device: str, peer: str, sha256: str, now: float) -> None:
        before = self._forget(client_id) if client_id in self._live else None
        address = _address(peer)
        self._live[client_id] = sha256, peer, address
        places = self._addresses.get(sha256)
        if places is None:
            places = self._addresses[sha256] = {}
        places[address] = places.get(address, 0) + 1
        if before is not None and before[0] == sha256 and before[2] != address:
            moves = self._moves.setdefault(client_id, deque(maxlen=_BACK_AND_FORTH))
            moves.append((now, frozenset({before[2], address})))
            self._wake.set()
        if len(places) > 1 or client_id in self._moves:
            self._look_for_clones(client_id, device, sha256, now)
        if not 0 <= now - self._written.get(sha256, 0.0) < _AGAIN_SECONDS:  # the clock may be set back
            self._written[sha256] = now
            self._unwritten[sha256] = datetime.fromtimestamp(now, UTC)
            self._wake.set()

    def _forget_who_is_there(self) -> None:
        """Some of them have left without our hearing of it: a device that moved meanwhile must not pass for two."""
        self._live.clear()
        self._addresses.clear()
        self._moves.clear()

    def _forget(self, client_id: str) -> tuple[str, str, str]:
        sha256, _, address = found = self._live.pop(client_id)
        places = self._addresses[sha256]
        places[address] -= 1
        if not places[address]:
            del places[address]
            if not places:
                del self._addresses[sha256]
        return found

    def _back_and_forth(self, client_id: str, now: float) -> set[str]:
        """The two addresses between which a client id is taken over and over, or nothing."""
        moves = self._moves.get(client_id)
        if moves is None or len(moves) < _BACK_AND_FORTH or now - moves[0][0] > _MOVES_SECONDS:
            return set()
        between = {pair for _, pair in moves}
        return set(*between) if len(between) == 1 else set()

    def _look_for_clones(self, client_id: str, device: str, sha256: str, now: float) -> None:
        if 0 <= now - self._reported.get(sha256, 0.0) < _REPORT_SECONDS and not self._closes_clones():
            return
        addresses = sorted(self._addresses[sha256].keys() | self._back_and_forth(client_id, now))
        if len(addresses) < 2:
            return
        self._reported[sha256] = now
        self._wake.set()
        self._cloned[sha256] = {
            "device": device,
            "sha256": sha256,
            "addresses": addresses,
            "client_ids": sorted(one for one, (shown, *_) in self._live.items() if shown == sha256)[:_CLIENT_IDS],
            "summary": f"certificate of {device} is used from {' and '.join(addresses)} at once",
            "mend": f"find out which is the device; a copied key ends with: sealmq device revoke {device}"
            " --reason key-compromise",
        }

    def _let_go_of_the_old(self) -> None:
        """What was noted of certificates that have been quiet is of no use any more."""
        now = self._clock()
        if 0 <= now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for noted, seconds in ((self._written, _AGAIN_SECONDS), (self._reported, _REPORT_SECONDS)):
            for sha256 in [sha256 for sha256, at in noted.items() if now - at >= seconds]:
                del noted[sha256]
        for client_id in [one for one, moves in self._moves.items() if now - moves[-1][0] > _MOVES_SECONDS]:
            del self._moves[client_id]

    def _report(self, event: str, **fields: object) -> None:
        self._tell({"event": event, "at": int(self._clock() * 1000), **fields})

    def _write_now_and_then(self) -> None:
        while self._wake.wait() and not self._stopping.wait(_WRITE_SECONDS):
            self._wake.clear()
            self._flush_or_say_why_not()

    def _flush_or_say_why_not(self) -> None:
        try:
            self.flush()
        except SealmqError as error:  # a full disk: sightings are lost, connections are not
            self._report("sightings-lost", summary=error.message, mend=error.mend)


def _address(peer: str) -> str:
    """The address in `HOST:PORT`."""
    return peer.rpartition(":")[0]
