"""The events of one connection turned into steps, each with the state after it, and into evidence of what went wrong.

It refuses to name causes and to make summaries; it says what happened, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from sealmq.trace import brokerside, endings, explain, packets, says
from sealmq.trace.model import Step
from sealmq.trace.target import Target
from sealmq.trace.tls import keylog
from sealmq.trace.tls.decode import RECEIVED, SENT, Decoder
from sealmq.trace.tls.prove import Outcome
from sealmq.trace.tracker import APPLICATION_SECRETS, HANDSHAKE_SECRETS, MASTER_SECRET, Tracker, key_origin

if TYPE_CHECKING:
    from sealmq.trace.fields import Field
    from sealmq.trace.model import Protection, Who
    from sealmq.trace.recording import Conditions, Event
    from sealmq.trace.tls.decode import Direction, Facts, Message

MOST_STEPS = 300
"""Steps that are told; a peer that makes more of them has stopped making sense long before."""
_HANDSHAKE_SECRET = {keylog.SERVER_HANDSHAKE, keylog.CLIENT_HANDSHAKE}
_APPLICATION_SECRET = {keylog.SERVER_APPLICATION, keylog.CLIENT_APPLICATION}


@dataclass(slots=True)
class Story:
    """What became of one connection: its steps, and the facts that a cause is found by."""

    steps: list[Step] = field(default_factory=list)
    tracker: Tracker = field(default_factory=Tracker)
    stage: str = "resolve"
    how: str = ""
    ending: dict[str, object] = field(default_factory=dict)
    address: str = ""
    verify_code: int = 0
    alert_received: int = -1
    alert_sent: int = -1
    first_bytes: bytes = b""
    not_tls: bool = False
    malformed: str = ""
    wrong_proof: str = ""
    right: int = 0
    wrong: int = 0
    unchecked: int = 0
    channel_at: int = -1  # index of the event with which the channel stood
    untold: int = 0
    missed: str = ""  # what a server that answered handshake_failure found missing in the offer


class Teller:
    """Goes through the events of one connection once; `story` and `facts` hold what came out."""

    def __init__(self, conditions: Conditions, events: tuple[Event, ...], secrets: keylog.Secrets) -> None:
        """`secrets` of the whole recording."""
        self.story = Story()
        self._conditions = conditions
        self._events = events
        self._decoder = Decoder(secrets)
        target = Target.parse(conditions.url)
        self.session = packets.Session(conditions.mqtt) if target.speaks_mqtt else None
        self._at = 0
        self._refused_at = -1  # the event with the certificate that this side refused
        self._is_broker = conditions.seat == "broker"

    @property
    def facts(self) -> Facts:
        """What the messages have settled."""
        return self._decoder.facts

    def tell(self) -> Teller:
        """Go through all events. Call it once."""
        for at, event in enumerate(self._events):
            self._at = at
            match event.kind:
                case "phase":
                    self.story.stage = event.text("name")
                case "resolved":
                    self._resolved(event)
                case "connected":
                    self._connected(event)
                case "sent":
                    self._bytes(event, SENT)
                case "received":
                    self._bytes(event, RECEIVED)
                case "tls" if event.facts.get("state") == "failed":
                    self.story.verify_code = event.number("verify_code")
                case "probe" if event.facts.get("answered"):
                    self.story.missed = event.text("part")
                case "ended":
                    self._ended(event)
        return self

    # --- below TLS ----------------------------------------------------------------------------------------------

    def _resolved(self, event: Event) -> None:
        listed = event.facts.get("addresses")
        found = [str(address) for address in listed][:8] if isinstance(listed, list) else []
        self.here(
            event,
            "resolve",
            f"{Target.parse(self._conditions.url).host} is {', '.join(found)}",
            "an address",
            "a TCP connection",
        )

    def _connected(self, event: Event) -> None:
        story = self.story
        story.address = event.text("address")
        story.tracker.tcp = "open"
        if self._is_broker:
            story.address = f"{event.text('peer')} → {story.address}"
            words = f"TCP from {event.text('peer')}"
            self.here(event, "accept", words, "a stream of bytes, unprotected", "the ClientHello")
            return
        rtt = event.number("rtt_us")
        took = f", round trip {rtt / 1000:.2f} ms" if rtt else ""
        self.here(
            event, "connect", f"TCP to {story.address}{took}", "a stream of bytes, unprotected", "the ClientHello"
        )

    def _ended(self, event: Event) -> None:
        story = self.story
        story.how = event.text("how")
        story.ending = dict(event.facts)
        if self._is_broker:
            self._verdict(event)
            return
        rest = self._decoder.unfinished(RECEIVED)
        if not story.first_bytes:
            story.first_bytes = rest[:64]
        if not story.malformed and story.how in ("eof", "reset", "timeout"):
            story.malformed = endings.cut_short(rest, self._decoder.unfinished_message(RECEIVED), how=story.how)
        story.tracker.end()
        told = endings.words(event.facts, story.stage)
        if told is not None:
            orderly = story.how in ("left", "closed", "failed")
            who: Who = "server" if story.how in ("eof", "reset", "refused") else "here"
            self.add(event, who, "close" if orderly else story.how, told, protection="none", is_bad=not orderly)

    def _verdict(self, event: Event) -> None:
        story, said = self.story, brokerside.verdict(event.facts)
        refused = bool(brokerside.refusal_of(event.facts))
        if refused:
            story.tracker.end()
        is_first = not any(step.is_bad for step in story.steps)
        self.add(event, "here", "verdict", said, protection="none", is_bad=refused and is_first)

    # --- TLS ----------------------------------------------------------------------------------------------------

    def _bytes(self, event: Event, direction: Direction) -> None:
        story = self.story
        if direction == self._peer and not story.first_bytes:
            story.first_bytes = event.data[:64]
        for message in self._decoder.feed(direction, event.data):
            self._message(event, message)

    def _message(self, event: Event, message: Message) -> None:
        story, facts = self.story, self.facts
        if message.name == "ChangeCipherSpec" and (facts.is_tls13 or facts.version is None):
            return  # means nothing in TLS 1.3 (RFC 8446, appendix D.4)
        if message.name == "ApplicationData" and self.session is not None and not message.malformed:
            for packet in self.session.feed(message):
                packets.told(self, event, packet)
            return
        if self._is_passed_over(message):
            said = says.message(message, facts, after_handshake=False)
            unread = said._replace(result="not looked at: this side has refused already", next="")
            self.add(event, _who(message), message.name, unread, message=message, fields=message.fields)
            return
        before = story.tracker.channel
        if self._is_broker and message.direction == SENT and message.name == "Finished":
            story.tracker.accepted = story.tracker.chain_received  # or the client would not have gone on
        story.tracker.message(message, facts)
        if story.tracker.channel == "open" and before != "open":
            story.channel_at = self._at
        self._weigh(message)
        said = says.message(message, facts, after_handshake=story.tracker.channel == "open")
        bad = bool(message.malformed) or (message.alert is not None and message.alert[1] != 0)
        if message.proof is not None and message.proof.outcome is Outcome.WRONG:
            bad = True
        self.add(event, _who(message), message.name, said, message=message, is_bad=bad, fields=message.fields)
        self._own_steps_after(event, message)

    @property
    def _peer(self) -> Direction:
        return SENT if self._is_broker else RECEIVED

    def _is_passed_over(self, message: Message) -> bool:
        if message.direction != self._peer or self._refused_at < 0:
            return False
        return self._is_broker or self._refused_at == self._at

    def _weigh(self, message: Message) -> None:
        story = self.story
        if message.malformed and message.direction == self._peer and not story.malformed:
            story.malformed = message.malformed
            story.not_tls = message.name == "NotTls"
            if story.not_tls:
                story.first_bytes = message.raw[:64]
        if message.alert is not None and message.alert[1] != 0:
            number = message.alert[1]
            # a warning ends nothing, but for user_canceled and no_renegotiation nobody sends one
            if message.direction == RECEIVED and message.alert[0] == 2:
                story.alert_received = number
                story.tracker.alert(number)
            elif message.direction == SENT and message.alert[0] == 2:
                story.alert_sent = number
        if message.proof is None:
            return
        match message.proof.outcome:
            case Outcome.RIGHT:
                story.right += 1
            case Outcome.WRONG:
                story.wrong += 1
                story.wrong_proof = story.wrong_proof or f"{message.name}: {message.proof.words}"
            case Outcome.UNCHECKED:
                story.unchecked += 1

    def _own_steps_after(self, event: Event, message: Message) -> None:
        """What this side does by itself once it has the message."""
        if message.malformed:
            return
        if self._is_broker and message.direction == SENT:
            self._check_client(event, message)
        tls13, tracker = self.facts.is_tls13, self.story.tracker
        match message.direction, message.name:
            case "received", "Certificate" if not self._is_broker:
                self._check_certificate(event)
            case "received", "ServerHello" if tls13 and self._logged(_HANDSHAKE_SECRET):
                tracker.derive(HANDSHAKE_SECRETS, key_origin(self.facts))
                self.here(
                    event,
                    "handshake keys",
                    f"secret {key_origin(self.facts)}",
                    "handshake traffic secrets exist",
                    "messages under these keys",
                )
            case "received", "ServerHello" if self.facts.resumed and not tls13:
                tracker.derive(MASTER_SECRET, key_origin(self.facts))
                words = f"master secret {key_origin(self.facts)}, new keys from it and both randoms"
                self.here(event, "session keys", words, "session keys exist, unused so far", "both change to them")
            case "received", "Finished" if tls13 and self._logged(_APPLICATION_SECRET):
                tracker.derive(APPLICATION_SECRETS, key_origin(self.facts))
                self.here(
                    event,
                    "session keys",
                    "application traffic secrets derived, one for each direction",
                    "session keys exist, unused so far",
                    "the client's answer" if self._is_broker else "this side's answer",
                )
            case "sent", "ClientKeyExchange":
                tracker.derive(MASTER_SECRET, key_origin(self.facts))
                self.here(
                    event,
                    "session keys",
                    f"master secret {key_origin(self.facts)}",
                    "session keys exist, unused so far",
                    "ChangeCipherSpec and Finished",
                )

    def _check_certificate(self, event: Event) -> None:
        reaction = self._reaction()
        failed = reaction is not None and reaction.facts.get("state") == "failed"
        code = reaction.number("verify_code") if failed and reaction is not None else 0
        name = self._conditions.server_name
        if failed and code:
            said = reaction.text("said")[:200] if reaction is not None else ""
            result = says.Said(
                f"OpenSSL verify code {code}: {said}", "REFUSED: this server is not believed", "an alert to the server"
            )
            self._refused_at = self._at
            self.add(event, "here", "certificate check", result, protection="none", is_bad=True)
        elif failed or reaction is None:
            result = says.Said("the connection ended before it", "not done", "nothing")
            self.add(event, "here", "certificate check", result, protection="none", is_bad=True)
        else:
            self.story.tracker.accepted = True
            self.here(
                event,
                "certificate check",
                f"chain leads to a trusted CA, dates are right, {name} is in it",
                "accepted",
                "proof that the server holds the key",
            )

    def _check_client(self, event: Event, message: Message) -> None:
        """What a broker does once the client has shown itself."""
        tracker = self.story.tracker
        ending = self._events[-1]
        empty = message.name == "Certificate" and not self.facts.client_chain
        refused = brokerside.refusal_of(ending.facts).get("stage") == "certificate"
        if message.name == "CertificateVerify" or (empty and refused):
            said, is_bad = brokerside.check(ending.facts)
            if is_bad:
                self._refused_at = self._at
                tracker.client_certificate = "refused"
            else:
                tracker.client_certificate = "accepted"
            self.add(event, "here", "client certificate check", said, protection="none", is_bad=is_bad)

    def _reaction(self) -> Event | None:
        """What OpenSSL made of the record at hand."""
        return next((event for event in self._events[self._at + 1 :] if event.kind in ("tls", "ended")), None)

    def _logged(self, labels: set[str]) -> bool:
        """Whether one of these secrets appeared in answer to the record at hand; a broker does not say when."""
        if self._is_broker:
            return any(event.kind == "secret" and keylog.label_of(event.data) in labels for event in self._events)
        for event in self._events[self._at + 1 :]:
            if event.kind == "secret" and keylog.label_of(event.data) in labels:
                return True
            if event.kind in ("sent", "received", "ended"):
                return False
        return False

    # --- making steps -------------------------------------------------------------------------------------------

    def here(self, event: Event, message: str, words: str, result: str, following: str) -> None:
        """A step of this side, with nothing on the wire."""
        self.add(event, "here", message, says.Said(words, result, following), protection="none")

    def add(
        self,
        event: Event,
        who: Who,
        name: str,
        said: says.Said,
        *,
        message: Message | None = None,
        protection: Protection = "plain",
        is_bad: bool = False,
        fields: tuple[Field, ...] = (),
        carried: tuple[int, int] | None = None,
    ) -> None:
        """One step more; `carried` are bytes and records where they are not those of `message`."""
        story = self.story
        if len(story.steps) >= MOST_STEPS:
            story.untold += 1
            return
        if message is not None:
            said = says.from_seat(said, message, is_broker=self._is_broker)
        wire, records = carried or ((message.wire, message.records) if message is not None else (0, 0))
        direction: Literal["sent", "received", "none"] = message.direction if message is not None else "none"
        if self._is_broker and direction != "none":
            direction = "received" if direction == SENT else "sent"
        kind = name if message is not None or who == "here" else "ended"
        story.steps.append(
            Step(
                len(story.steps) + 1,
                round(event.t_ms, 3),
                who,
                name,
                direction,
                wire,
                records,
                message.epoch if message is not None else protection,
                said.says,
                said.result,
                said.next,
                explain.why(kind) or explain.why("ended"),
                story.tracker.state,
                fields,
                is_bad,
            )
        )


def started_at(conditions: Conditions) -> datetime:
    """When a recording was begun; the epoch when it does not say."""
    try:
        when = datetime.fromisoformat(conditions.started)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _who(message: Message) -> Who:
    return "client" if message.direction == SENT else "server"
