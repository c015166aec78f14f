"""The events of one connection turned into steps, each with the state after it, and into evidence of what went wrong.

It refuses to name causes and to make summaries; it says what happened, in order.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sealmq.trace import brokerside, endings, packets, says
from sealmq.trace.carrier import Carrier
from sealmq.trace.own import OwnSteps
from sealmq.trace.story import Story
from sealmq.trace.target import Target
from sealmq.trace.tls import names
from sealmq.trace.tls.decode import RECEIVED, SENT, Decoder, Message
from sealmq.trace.tls.prove import Outcome

if TYPE_CHECKING:
    from sealmq.trace.model import Who
    from sealmq.trace.recording import Conditions, Event
    from sealmq.trace.tls.decode import Direction, Facts
    from sealmq.trace.tls.keylog import Secrets


class Teller:
    """Goes through the events of one connection once; `story` and `facts` hold what came out."""

    def __init__(self, conditions: Conditions, events: tuple[Event, ...], secrets: Secrets) -> None:
        """`secrets` of the whole recording."""
        self._is_broker = conditions.seat == "broker"
        self._target = Target.parse(conditions.url, seat="broker" if self._is_broker else "client")
        self.story = Story(self._is_broker, self._target.scheme != "mqtt")
        self._own = OwnSteps(conditions, events, self.story)
        self._events = events
        self._decoder = Decoder(secrets)
        self.session = packets.Session(conditions.mqtt) if self._target.speaks_mqtt else None
        is_framed = self.session is not None and self._target.scheme == "wss"
        self.carrier = Carrier(self.session) if self.session is not None and is_framed else None
        self._at = 0

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
                case "probe" if event.text("part") == "identity":
                    self._to_stranger(event)
                case "probe" if event.text("part") == "clock":
                    self.story.server_time, self.story.server_time_by = event.text("time"), event.text("by")
                case "probe" if event.facts.get("answered"):
                    self.story.missed, self.story.would_speak = event.text("part"), event.text("version")
                    self.story.would_choose = event.number("suite")
                case "ended":
                    self._ended(event)
        return self

    # --- below TLS ----------------------------------------------------------------------------------------------

    def _resolved(self, event: Event) -> None:
        listed = event.facts.get("addresses")
        found = [str(address) for address in listed][:8] if isinstance(listed, list) else []
        self.story.here(
            event,
            "resolve",
            f"{self._target.host} is {', '.join(found)}",
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
            following = "the ClientHello" if story.has_tls else "the CONNECT, in clear"
            story.here(event, "accept", words, "a stream of bytes, unprotected", following)
            return
        rtt = event.number("rtt_us")
        took = f", round trip {rtt / 1000:.2f} ms" if rtt else ""
        self.story.here(
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
            self.story.add(event, who, "close" if orderly else story.how, told, is_bad=not orderly)

    def _to_stranger(self, event: Event) -> None:
        number = event.number("alert")
        if event.facts.get("answered"):
            self.story.to_stranger = "a ServerHello"
        elif number > 0:
            self.story.to_stranger = f"alert {number} {names.alert(number)}"

    def _verdict(self, event: Event) -> None:
        story, said = self.story, brokerside.verdict(event.facts)
        refused = bool(brokerside.refusal_of(event.facts))
        if refused:
            story.tracker.end()
        is_first = not any(step.is_bad for step in story.steps)
        self.story.add(event, "here", "verdict", said, is_bad=refused and is_first)

    # --- TLS ----------------------------------------------------------------------------------------------------

    def _bytes(self, event: Event, direction: Direction) -> None:
        story = self.story
        if direction == self._peer and not story.first_bytes:
            story.first_bytes = event.data[:64]
        if not story.has_tls and self.session is not None:
            plain = Message(direction, "ApplicationData", event.data, len(event.data), 0, "plain")
            self.session.tell(story, event, plain)
            return
        for message in self._decoder.feed(direction, event.data):
            self._message(event, message)

    def _message(self, event: Event, message: Message) -> None:
        story, facts = self.story, self.facts
        if message.name == "ChangeCipherSpec" and (facts.is_tls13 or facts.version is None):
            return  # means nothing in TLS 1.3 (RFC 8446, appendix D.4)
        if message.name == "ApplicationData" and self.session is not None and not message.malformed:
            (self.carrier or self.session).tell(story, event, message)
            return
        if self._is_passed_over(message):
            said = says.message(message, facts, after_handshake=False)
            unread = said._replace(result="not looked at: this side has refused already", next="")
            story.message(event, message.name, unread, message, fields=message.fields)
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
        story.message(event, message.name, said, message, is_bad=bad, fields=message.fields)
        if not message.malformed:
            self._own.after(self._at, message, facts)

    @property
    def _peer(self) -> Direction:
        return SENT if self._is_broker else RECEIVED

    def _is_passed_over(self, message: Message) -> bool:
        if message.direction != self._peer or self._own.refused_at < 0:
            return False
        return self._is_broker or self._own.refused_at == self._at

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


def started_at(conditions: Conditions) -> datetime:
    """When a recording was begun; the epoch when it does not say."""
    return moment(conditions.started) or datetime.fromtimestamp(0, UTC)


def moment(text: str) -> datetime | None:
    """A time of ISO 8601, by UTC unless it says otherwise; None when it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
