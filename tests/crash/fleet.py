"""The operator of a crash run: adds devices and revokes them while the broker lives, and looks whether that held.

It refuses to know how a broker ended. Only what was answered counts: a question that nobody answered may be either.
"""

from __future__ import annotations

import random
import ssl
import threading
from typing import TYPE_CHECKING

from sealmq.broker import control
from sealmq.errors import SealmqError
from sealmq.pki import operations
from security import raw_mqtt as raw

if TYPE_CHECKING:
    from crash.clients import World
    from sealmq.datafolder import DataFolder

_PAUSE = 0.05  # seconds between two questions: the disk is there for messages, too


class Fleet(threading.Thread):
    """Asks the broker of `folder` while there is load; `look` between two loads."""

    def __init__(self, world: World, folder: DataFolder) -> None:
        super().__init__(name="fleet", daemon=True)
        self.world = world
        self._folder = folder
        self._chance = random.Random(f"{world.seed} fleet")  # noqa: S311  repeatable, not secret
        self._asking = threading.Lock()  # held while a question is open
        self._count = 0
        self._good: list[str] = []  # added, the last at the end
        self._revoked: list[str] = []
        self._doubtful: set[str] = set()  # somebody asked to revoke it, and nobody answered

    def run(self) -> None:
        """Add and revoke for as long as the run lasts."""
        world = self.world
        while True:
            with world.changed:
                world.changed.wait_for(lambda: world.is_over or (world.is_loading and world.port is not None))
                if world.is_over:
                    return
            with self._asking:
                if self._good and self._chance.random() < 0.4:
                    self._revoke(self._chance.choice(self._good))
                else:
                    self._add()
            with world.changed:
                world.changed.wait_for(lambda: world.is_over, _PAUSE)

    def look(self, port: int) -> None:
        """Tell the ledger of every device that is not as it was answered, by the registry's word and at the door."""
        with self._asking:
            listed = control.call(self._folder, "device-list")["devices"]
            status = {device["id"]: device["status"] for device in listed}
            for device in self._good:
                if device not in status or (device not in self._doubtful and status[device] != "active"):
                    self._broken(f"device {device}, which was added, is {status.get(device, 'forgotten')}")
            for device in self._revoked:
                if status.get(device) != "revoked":
                    self._broken(f"device {device}, which was revoked, is {status.get(device, 'forgotten')}")
            self.world.ledger.counts["devices looked at"] += len(self._good) + len(self._revoked)
            sure = [device for device in self._good if device not in self._doubtful]
            if sure and not self._is_let_in(port, sure[-1]):
                self._broken(f"device {sure[-1]}, which was added, is turned away")
            if self._revoked and self._is_let_in(port, self._revoked[-1]):
                self._broken(f"device {self._revoked[-1]}, which was revoked, is let in")

    def _add(self) -> None:
        self._count += 1
        device = f"unit-{self._count}"
        if self._ask("device-add", device):
            self._good.append(device)
            self.world.ledger.counts["devices added"] += 1

    def _revoke(self, device: str) -> None:
        if self._ask("device-revoke", device):
            self._good.remove(device)
            self._doubtful.discard(device)
            self._revoked.append(device)
            self.world.ledger.counts["devices revoked"] += 1
        else:
            self._doubtful.add(device)

    def _ask(self, verb: str, device: str) -> bool:
        """Whether the answer said that it is done, and on disk."""
        try:
            done = control.call(self._folder, verb, {"id": device})
        except (SealmqError, OSError):
            return False
        return not done.get("unwritten")

    def _is_let_in(self, port: int, device: str) -> bool:
        try:
            with raw.Wire.join(port, operations.device_files(self._folder, device), device):
                return True
        except (ssl.SSLError, EOFError, ConnectionError):
            return False

    def _broken(self, sentence: str) -> None:
        self.world.ledger.broken(sentence)
