"""The clients of a crash run: publishers, subscribers and subscriptions that come and go, retained counters.

Each is a thread with one session that it resumes for as long as the run lasts. They refuse to judge: every fact goes to
the `Ledger`.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crash.session import Lost, Session
from security import raw_mqtt as raw

if TYPE_CHECKING:
    from crash.ledger import Ledger, Message
    from security.raw_mqtt import Credentials

_TURN = 0.005  # seconds that a client listens before it looks what else there is to do
_WINDOW = 10  # messages on their way at once
_LONGEST_AWAY = 0.3  # seconds
_STORE_FAILED = {raw.V5: 0x83, raw.V311: 0x80}  # in SUBACK: the broker has lost its disk, and says so until it ends


class World:
    """What all clients look at: where the broker is, and what is to be done now."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.seed = seed
        self.changed = threading.Condition()
        self.port: int | None = None
        self.is_loading = False
        self.is_over = False
        self.asleep: frozenset[str] = frozenset()

    def set(self, **values: object) -> None:
        """Change some of it and wake everybody."""
        with self.changed:
            for name, value in values.items():
                setattr(self, name, value)
            self.changed.notify_all()


class Actor(threading.Thread):
    """A client that joins whenever there is a broker and it is awake; `work` is one turn of what it does then."""

    def __init__(self, world: World, name: str, files: Credentials, *, version: int = raw.V5) -> None:
        super().__init__(name=name, daemon=True)
        self.world = world
        self.ledger = world.ledger
        self.chance = random.Random(f"{world.seed} {name}")  # noqa: S311  repeatable, not secret
        self.session = Session(name, files, self, version=version)
        self.is_quiet = False  # nothing of its own is on its way
        self.fault: BaseException | None = None

    def work(self) -> None:
        """One turn on a live connection."""
        raise AssertionError("each client says what it does")

    def run(self) -> None:
        """Join, work, and again, until the run is over."""
        try:
            while (port := self._wait_for_broker()) is not None:
                try:
                    self.session.join(port)
                    while self._may_stay(port):
                        self.work()
                    self.session.leave(politely=self.chance.random() < 0.5)
                except Lost:
                    self.session.leave()
                    self._pause(_TURN)
        except BaseException as fault:  # noqa: BLE001  a fault of this program must end the run, not a thread
            self.fault = fault
        finally:
            self.session.leave()

    def away(self) -> None:
        """Leave, one way or the other, and stay away for a moment."""
        self.session.leave(politely=self.chance.random() < 0.5)
        self._pause(self.chance.uniform(0, _LONGEST_AWAY))
        raise Lost("by own will")

    def _wait_for_broker(self) -> int | None:
        world = self.world
        with world.changed:
            world.changed.wait_for(lambda: world.is_over or (world.port is not None and self.name not in world.asleep))
            return None if world.is_over else world.port

    def _may_stay(self, port: int) -> bool:
        world = self.world
        return not world.is_over and world.port == port and self.name not in world.asleep

    def _pause(self, seconds: float) -> None:
        with self.world.changed:
            self.world.changed.wait_for(lambda: self.world.is_over, seconds)

    # what the session tells

    def joined(self, *, present: bool, expected: bool) -> None:
        self.ledger.joined(self.name, present=present, expected=expected)

    def came(self, topic: str, payload: bytes, qos: int) -> None:
        self.ledger.delivered(self.name, topic, payload, qos)

    def settled(self, tag: object, code: int) -> None:
        raise AssertionError(f"{self.name} publishes nothing: {tag} {code}")

    def granted(self, tag: object, code: int) -> None:
        raise AssertionError(f"{self.name} asked for nothing: {tag} {code}")


class Publisher(Actor):
    """Numbers its messages on each of its topics."""

    def __init__(
        self, world: World, name: str, files: Credentials, *, topics: list[str], qos: int, version: int
    ) -> None:
        super().__init__(world, name, files, version=version)
        self._topics = topics
        self._qos = qos

    def work(self) -> None:
        if self.world.is_loading:
            self.is_quiet = False
            while self.session.unsettled < _WINDOW and self.chance.random() < 0.8:
                self._publish()
            if self.chance.random() < 0.002:
                self.away()
        self.session.turn(_TURN)
        self.is_quiet = not self.world.is_loading and self.session.unsettled == 0

    def settled(self, tag: Message, code: int) -> None:
        self.ledger.settled(tag, code)

    def _publish(self) -> None:
        message = self.ledger.publishing(self.chance.choice(self._topics), self._qos)
        self.session.publish(message.topic, message.payload(), qos=self._qos, retain=False, tag=message)


class Keeper(Actor):
    """Counts up in retained messages, and now and then removes one."""

    def __init__(self, world: World, name: str, files: Credentials, *, topics: list[str], qos: int) -> None:
        super().__init__(world, name, files)
        self._topics = topics
        self._qos = qos

    def work(self) -> None:
        if self.world.is_loading:
            self.is_quiet = False
            if self.session.unsettled < _WINDOW // 2:
                topic = self.chance.choice(self._topics)
                number, payload = self.ledger.keeping(topic, removal=self.chance.random() < 0.1)
                self.session.publish(topic, payload, qos=self._qos, retain=True, tag=(topic, number))
        self.session.turn(_TURN)
        self.is_quiet = not self.world.is_loading and self.session.unsettled == 0

    def settled(self, tag: tuple[str, int], code: int) -> None:
        self.ledger.kept(*tag, code)


@dataclass(frozen=True)
class Wish:
    """A subscription that a client wants: its filter, and the topics of this run that it matches."""

    topic_filter: str
    topics: frozenset[str]


class Subscriber(Actor):
    """Wants its subscriptions from the first moment on, and comes and goes; slow at times to acknowledge."""

    def __init__(
        self, world: World, name: str, files: Credentials, *, wishes: list[Wish], qos: int, version: int
    ) -> None:
        super().__init__(world, name, files, version=version)
        self._wishes = wishes
        self._qos = qos
        self._granted: set[Wish] = set()
        self._asked: set[Wish] = set()

    def work(self) -> None:
        for wish in self._wishes:
            if wish not in self._granted | self._asked:
                self._asked.add(wish)
                self.ledger.subscribing(self.name, wish.topic_filter, wish.topics, self._qos)
                self.session.subscribe(wish.topic_filter, qos=self._qos, tag=wish)
        self.session.turn(_TURN, hold=self.world.is_loading and self.chance.random() < 0.3)
        self.is_quiet = len(self._granted) == len(self._wishes)
        if self.is_quiet and self.world.is_loading and self.chance.random() < 0.01:
            self.away()

    def joined(self, *, present: bool, expected: bool) -> None:
        self._asked.clear()
        super().joined(present=present, expected=expected)

    def granted(self, tag: Wish, code: int) -> None:
        if code == _STORE_FAILED[self.session.version]:
            self._asked.discard(tag)
            return
        assert code < 0x80, (tag, code)
        self._granted.add(tag)
        self.ledger.subscribed(self.name, tag.topic_filter)


class Wanderer(Actor):
    """Adds and ends subscriptions all the time; one question at a time, asked again until it is answered."""

    def __init__(self, world: World, name: str, files: Credentials, *, wishes: list[Wish], qos: int) -> None:
        super().__init__(world, name, files)
        self._wishes = wishes
        self._qos = qos
        self._held: set[Wish] = set()
        self._asking: tuple[Wish, bool] | None = None  # what, and whether it is to begin
        self._is_asked = False

    def work(self) -> None:
        if self._asking is None and self.world.is_loading and self.chance.random() < 0.1:
            wish = self.chance.choice(self._wishes)
            self._asking = (wish, wish not in self._held)
        if self._asking is not None and not self._is_asked:
            self._ask(*self._asking)
        self.session.turn(_TURN)
        self.is_quiet = self._asking is None

    def joined(self, *, present: bool, expected: bool) -> None:
        self._is_asked = False
        super().joined(present=present, expected=expected)

    def granted(self, tag: Wish, code: int) -> None:
        if code == _STORE_FAILED[self.session.version]:
            self._is_asked = False
            return
        assert code < 0x80, (tag, code)
        assert self._asking is not None
        _, begins = self._asking
        self._asking, self._is_asked = None, False
        if begins:
            self._held.add(tag)
            self.ledger.subscribed(self.name, tag.topic_filter)
        else:
            self._held.discard(tag)
            self.ledger.unsubscribed(self.name, tag.topic_filter)

    def _ask(self, wish: Wish, begins: bool) -> None:
        self._is_asked = True
        if begins:
            self.ledger.subscribing(self.name, wish.topic_filter, wish.topics, self._qos)
            self.session.subscribe(wish.topic_filter, qos=self._qos, tag=wish)
        else:
            self.ledger.unsubscribing(self.name, wish.topic_filter)
            self.session.unsubscribe(wish.topic_filter, tag=wish)


def look_at_retained(port: int, files: Credentials, ledger: Ledger, topic_filter: str, *, seconds: float) -> None:
    """Tell the ledger what a new subscriber is given; it waits for all that must come, and for one round trip."""
    found: dict[str, bytes] = {}
    wanted = ledger.wanted()
    with raw.Wire.join(port, files, "looker") as wire:
        wire.socket.settimeout(seconds)
        wire.send(raw.subscribe(topic_filter, qos=1) + raw.PINGREQ)
        is_answered = False
        try:
            while not is_answered or wanted - found.keys():
                packet = wire.packet()
                if packet.kind == raw.PUBLISH:
                    end = 2 + int.from_bytes(packet.body[:2])
                    at = end + (2 if packet.first & 6 else 0)
                    found[packet.body[2:end].decode()] = packet.body[at + 1 + packet.body[at] :]
                is_answered |= packet.kind == raw.PINGRESP
        except TimeoutError:
            pass  # what is missing is the ledger's to tell
    ledger.found(found)
