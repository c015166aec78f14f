"""What the side that was traced does by itself after a message: derive keys, check a certificate; told as steps.

It refuses to check and derive anything: the TLS library or the broker did, and what they made of it is in the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace import brokerside, says
from sealmq.trace.fields import printable
from sealmq.trace.tls import keylog
from sealmq.trace.tls.decode import RECEIVED, SENT
from sealmq.trace.tracker import APPLICATION_SECRETS, HANDSHAKE_SECRETS, MASTER_SECRET, key_origin

if TYPE_CHECKING:
    from sealmq.trace.recording import Conditions, Event
    from sealmq.trace.story import Story
    from sealmq.trace.tls.decode import Facts, Message

_HANDSHAKE_SECRET = {keylog.SERVER_HANDSHAKE, keylog.CLIENT_HANDSHAKE}
_APPLICATION_SECRET = {keylog.SERVER_APPLICATION, keylog.CLIENT_APPLICATION}


class OwnSteps:
    """Call `after` with every message that could be read, in order."""

    def __init__(self, conditions: Conditions, events: tuple[Event, ...], story: Story) -> None:
        """`events` of the connection that `story` is of."""
        self._conditions = conditions
        self._events = events
        self._story = story
        self.refused_at = -1
        """Index of the event with the certificate that this side refused, -1 while it has refused none."""

    def after(self, at: int, message: Message, facts: Facts) -> None:
        """Tell what follows from `message`, which came with the event number `at`."""
        story, event = self._story, self._events[at]
        if story.is_broker and message.direction == SENT:
            self._check_client(at, message, facts)
        tracker, origin = story.tracker, key_origin(facts)
        if message.direction == RECEIVED and message.name == "Finished" and tracker.shared_key == "proven":
            self._check_key(event, facts)
        if message.direction == RECEIVED and message.name == self._checked_at(facts) and not story.is_broker:
            self._check_server(at, facts)
        match message.direction, message.name:
            case "received", "ServerHello" if facts.is_tls13 and self._logged(at, _HANDSHAKE_SECRET):
                tracker.derive(HANDSHAKE_SECRETS, origin)
                exist = "handshake traffic secrets exist"
                story.here(event, "handshake keys", f"secret {origin}", exist, "messages under these keys")
            case "received", "ServerHello" if facts.resumed and not facts.is_tls13:
                tracker.derive(MASTER_SECRET, origin)
                words = f"master secret {origin}, new keys from it and both randoms"
                story.here(event, "session keys", words, "session keys exist, unused so far", "both change to them")
            case "received", "Finished" if facts.is_tls13 and self._logged(at, _APPLICATION_SECRET):
                tracker.derive(APPLICATION_SECRETS, origin)
                words = "application traffic secrets derived, one for each direction"
                answer = "the client's answer" if story.is_broker else "this side's answer"
                story.here(event, "session keys", words, "session keys exist, unused so far", answer)
            case "sent", "ClientKeyExchange":
                tracker.derive(MASTER_SECRET, origin)
                words, following = f"master secret {origin}", "ChangeCipherSpec and Finished"
                story.here(event, "session keys", words, "session keys exist, unused so far", following)

    def _checked_at(self, facts: Facts) -> str:
        """The message with which a client looks at the certificate: OpenSSL as soon as it is there, rustls when it has
        been proven too, in TLS 1.2 with the end of the flight."""
        if not self._conditions.post_quantum or not facts.server_chain:
            return "Certificate"
        return "CertificateVerify" if facts.is_tls13 else "ServerHelloDone"

    def _check_server(self, at: int, facts: Facts) -> None:
        """A client looks at the certificate it was shown: what came of the record is the next event of it."""
        story, event = self._story, self._events[at]
        reaction = next((event for event in self._events[at + 1 :] if event.kind in ("tls", "ended")), None)
        failed = reaction is None or reaction.facts.get("state") == "failed"
        code = reaction.number("verify_code") if failed and reaction is not None else 0
        if facts.identity and not facts.has_shared_key:
            told = says.Said("not looked at: the key was to show who it is", "REFUSED: no proof of the key", "an alert")
            self.refused_at = at
            story.add(event, "here", "certificate check", told, is_bad=True)
        elif failed and reaction is not None and code:
            said = f"verify code {code}: {reaction.text('said')[:200]}"
            told = says.Said(said, "REFUSED: this server is not believed", "an alert to the server")
            self.refused_at = at
            story.add(event, "here", "certificate check", told, is_bad=True)
        elif failed:
            told = says.Said("the connection ended before it", "not done", "nothing")
            story.add(event, "here", "certificate check", told, is_bad=True)
        else:
            story.tracker.accepted = True
            words = f"chain leads to a trusted CA, dates are right, {self._conditions.server_name} is in it"
            following = "" if self._conditions.post_quantum else "proof that the server holds the key"
            story.here(event, "certificate check", words, "accepted", following)

    def _check_key(self, event: Event, facts: Facts) -> None:
        """Nobody showed a certificate: what shows each side to the other is the key."""
        who = printable(facts.identity)
        by = "binder" if facts.is_tls13 else "Finished"
        words = f"no certificate: it took the key of {who} to make this Finished, and the client's {by} before"
        result = "both are proven by the key, and by nothing else"
        following = "the client's Finished" if facts.is_tls13 else ""
        self._story.here(event, "shared key check", words, result, following)

    def _check_client(self, at: int, message: Message, facts: Facts) -> None:
        """A broker looks at the client's, once the client has shown that it holds the key."""
        story, ending = self._story, self._events[-1]
        empty = message.name == "Certificate" and not facts.client_chain
        refused = brokerside.refusal_of(ending.facts).get("stage") == "certificate"
        if message.name != "CertificateVerify" and not (empty and refused):
            return
        said, is_bad = brokerside.check(ending.facts)
        story.tracker.client_certificate = "refused" if is_bad else "accepted"
        if is_bad:
            self.refused_at = at
        story.add(self._events[at], "here", "client certificate check", said, is_bad=is_bad)

    def _logged(self, at: int, labels: set[str]) -> bool:
        """Whether one of these secrets appeared in answer to the record at hand; a broker does not say when."""
        if self._story.is_broker:
            return any(event.kind == "secret" and keylog.label_of(event.data) in labels for event in self._events)
        for event in self._events[at + 1 :]:
            if event.kind == "secret" and keylog.label_of(event.data) in labels:
                return True
            if event.kind in ("sent", "received", "ended"):
                return False
        return False
