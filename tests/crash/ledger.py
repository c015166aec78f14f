"""What was sent, acknowledged and delivered, and the judgement: who broke which promise.

It refuses to know sockets and brokers. Every fact gets a number as it happens, in one order for all threads, so that
"acknowledged before the UNSUBSCRIBE went out" is a comparison of two numbers.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field

_MOST = 20  # violations told in words; all are counted
_STORE_FAILED = 0x83  # implementation specific error: a broker that has lost its disk, and says so until it ends


@dataclass
class Message:
    """One message of a publisher: its place on its topic and the moments of its life."""

    topic: str
    number: int
    qos: int
    sent: int
    acknowledged: int | None = None
    is_refused: bool = False

    def payload(self) -> bytes:
        """Self-describing, of a length and content that follow from topic and number."""
        seed = hashlib.sha256(f"{self.topic} {self.number}".encode()).digest()
        filler = (seed.hex() * 16)[: seed[0] * 4] if seed[1] < 64 else ""
        return f"{self.number} {filler}".encode()


@dataclass
class Interest:
    """A subscription of a receiver: certain from SUBACK to UNSUBSCRIBE, not there from UNSUBACK to SUBSCRIBE."""

    topics: frozenset[str]
    qos: int
    since: int | None = None  # SUBACK came; None: not certain
    gone: int | None = 0  # UNSUBACK came, or there never was one; None: not certain
    ended: tuple[int, int] | None = None  # the last stretch in which it was not there


@dataclass
class Receiver:
    """What one session got and what it is owed."""

    interests: dict[str, Interest] = field(default_factory=dict)
    got: dict[str, set[int]] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    owed: set[tuple[str, int]] = field(default_factory=set)

    def is_sure_of(self, message: Message) -> bool:
        """Whether the message went out, for the first time, under a subscription that was acknowledged before.

        Of others nothing is promised: sent again after a crash, they may meet a subscription that they did not meet
        before, and then they come after later ones.
        """
        return any(
            message.topic in interest.topics and interest.since is not None and interest.since < message.sent
            for interest in self.interests.values()
        )


class Ledger:
    """All facts of a run. Any thread may tell one; `changed` is notified of each that somebody may wait for."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._now = 0
        self._messages: dict[str, dict[int, Message]] = {}
        self._receivers: dict[str, Receiver] = {}
        self._kept: dict[str, Kept] = {}

    # what happens

    def publishing(self, topic: str, qos: int) -> Message:
        """The next message of a topic, which goes out now for the first time."""
        with self.changed:
            of_topic = self._messages.setdefault(topic, {})
            message = Message(topic, len(of_topic) + 1, qos, self._tick())
            of_topic[message.number] = message
            return message

    def settled(self, message: Message, code: int) -> None:
        """PUBACK or PUBREC came."""
        with self.changed:
            if code >= 0x80:
                message.is_refused = True
                self.counts["refused"] += 1
                return
            message.acknowledged = self._tick()
            self.counts[f"acknowledged at QoS {message.qos}"] += 1
            for receiver in self._receivers.values():
                if receiver.is_sure_of(message) and message.number not in receiver.got.get(message.topic, ()):
                    receiver.owed.add((message.topic, message.number))
            self.changed.notify_all()

    def subscribing(self, who: str, name: str, topics: frozenset[str], qos: int) -> None:
        """SUBSCRIBE goes out."""
        with self.changed:
            receiver = self._receivers.setdefault(who, Receiver())
            interest = receiver.interests.setdefault(name, Interest(topics, qos))
            now = self._tick()
            if interest.gone is not None:
                interest.ended, interest.gone = (interest.gone, now), None

    def subscribed(self, who: str, name: str) -> None:
        """SUBACK came."""
        with self.changed:
            self._receivers[who].interests[name].since = self._tick()
            self.counts["subscriptions"] += 1
            self.changed.notify_all()

    def unsubscribing(self, who: str, name: str) -> None:
        """UNSUBSCRIBE goes out: from here on nothing more is owed."""
        with self.changed:
            self._receivers[who].interests[name].since = None

    def unsubscribed(self, who: str, name: str) -> None:
        """UNSUBACK came."""
        with self.changed:
            self._receivers[who].interests[name].gone = self._tick()
            self.counts["subscriptions ended"] += 1

    def delivered(self, who: str, topic: str, payload: bytes, qos: int) -> None:
        """A receiver got a message."""
        with self.changed:
            self.counts["delivered"] += 1
            message = self._known(topic, payload)
            if message is None or message.payload() != payload:
                return self._violated(f"{who} got what nobody sent on {topic}: {payload[:60]!r}")
            receiver, number = self._receivers[who], message.number
            got = receiver.got.setdefault(topic, set())
            if number in got:
                self.counts["delivered again at QoS 1"] += 1
                if qos == 2:
                    self._violated(f"{who} got {topic} {number} twice at QoS 2")
                return None
            self._judge_stretch(who, receiver, message)
            if number < receiver.highest.get(topic, 0) and receiver.is_sure_of(message):
                self._violated(f"{who} got {topic} {number} after {receiver.highest[topic]}")
            receiver.highest[topic] = max(number, receiver.highest.get(topic, 0))
            got.add(number)
            receiver.owed.discard((topic, number))
            if not receiver.owed:
                self.changed.notify_all()
            return None

    def joined(self, who: str, *, present: bool, expected: bool) -> None:
        """CONNACK came."""
        with self.changed:
            self.counts["connections"] += 1
            self.counts["sessions resumed"] += present
            if expected and not present:
                self._violated(f"session of {who} is forgotten")

    def broken(self, sentence: str) -> None:
        """A promise that is not about messages was not kept."""
        with self.changed:
            self._violated(sentence)

    # retained messages

    def keeping(self, topic: str, *, removal: bool) -> tuple[int, bytes]:
        """The next retained message of a topic, or its removal: its number, and the payload that goes out now."""
        with self.changed:
            kept = self._kept.setdefault(topic, Kept())
            kept.payloads.append(b"" if removal else f"{len(kept.payloads) + 1}".encode())
            return len(kept.payloads), kept.payloads[-1]

    def kept(self, topic: str, number: int, code: int) -> None:
        """PUBACK or PUBREC of a retained message came."""
        with self.changed:
            if code == _STORE_FAILED:
                self.counts["refused"] += 1
                return None
            if code >= 0x80:
                return self._violated(f"retained message {number} of {topic} was refused with {code:#x}")
            self._kept[topic].acknowledged = max(number, self._kept[topic].acknowledged)
            self.counts["retained acknowledged"] += 1
            return None

    def found(self, retained: dict[str, bytes]) -> None:
        """What a new subscriber is given: none may be older than the last one acknowledged."""
        with self.changed:
            for topic, kept in self._kept.items():
                self.counts["retained looked at"] += 1
                allowed = kept.payloads[max(kept.acknowledged - 1, 0) :]
                if kept.acknowledged == 0:
                    allowed = [b"", *allowed]
                payload = retained.get(topic, b"")
                if payload not in allowed:
                    newest = kept.payloads[kept.acknowledged - 1]
                    self._violated(f"retained message of {topic} is {payload!r}, acknowledged was {newest!r}")
            for topic in retained.keys() - self._kept.keys():
                self._violated(f"retained message of {topic} that nobody sent")

    def wanted(self) -> set[str]:
        """Topics of which a new subscriber must be given something."""
        with self.changed:
            return {
                topic
                for topic, kept in self._kept.items()
                if kept.acknowledged and all(kept.payloads[kept.acknowledged - 1 :])
            }

    # the judgement

    def wait_paid(self, debtors: set[str], seconds: float) -> None:
        """Wait until nobody of `debtors` is owed anything; what is left after `seconds` is lost."""

        def owed() -> set[str]:
            return {who for who in debtors if who in self._receivers and self._receivers[who].owed}

        with self.changed:
            if self.changed.wait_for(lambda: not owed() or self.violations, seconds) and not owed():
                return
            if self.violations:
                return
            for who in sorted(owed()):
                lost = sorted(self._receivers[who].owed)
                self._violated(
                    f"{who} never got {len(lost)} acknowledged messages, {lost[0][0]} {lost[0][1]} the first"
                )

    def _judge_stretch(self, who: str, receiver: Receiver, message: Message) -> None:
        for interest in receiver.interests.values():
            if message.topic not in interest.topics:
                continue
            if interest.gone is not None and message.sent > interest.gone:
                self._violated(f"{who} got {message.topic} {message.number}, sent after the end of its subscription")
            if interest.ended is None or message.acknowledged is None:
                continue
            left, returned = interest.ended
            if left < message.sent and message.acknowledged < returned:
                self._violated(f"{who} got {message.topic} {message.number}, acknowledged before it subscribed")

    def _known(self, topic: str, payload: bytes) -> Message | None:
        number = payload.split(b" ", 1)[0]
        return self._messages.get(topic, {}).get(int(number)) if number.isdigit() else None

    def _violated(self, sentence: str) -> None:
        self.counts["VIOLATIONS"] += 1
        if len(self.violations) < _MOST:
            self.violations.append(sentence)
        self.changed.notify_all()

    def _tick(self) -> int:
        self._now += 1
        return self._now


@dataclass
class Kept:
    """The history of one retained topic; an empty payload removes."""

    payloads: list[bytes] = field(default_factory=list)
    acknowledged: int = 0
