"""What became of one connection: its steps in order, the state after each, and the facts that a cause is found by.

It refuses to know events and messages beyond what a step is made of; `steps` goes through them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sealmq.trace import explain, says
from sealmq.trace.model import Step
from sealmq.trace.tls.decode import SENT
from sealmq.trace.tracker import Tracker

if TYPE_CHECKING:
    from sealmq.trace.fields import Field
    from sealmq.trace.model import Protection, Who
    from sealmq.trace.recording import Event
    from sealmq.trace.tls.decode import Message

MOST_STEPS = 300
"""Steps that are told; a peer that makes more of them has stopped making sense long before."""


@dataclass(slots=True)
class Story:
    """Add steps with `message` for what crossed, with `here` and `add` for the rest."""

    is_broker: bool = False
    has_tls: bool = True
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
    missed: str = ""  # what a server that refused the offer found missing in it
    would_speak: str = ""  # and the version it goes on in once it has that
    would_choose: int = 0  # with which cipher suite
    server_time: str = ""  # what time the server has, ISO 8601, and what told it
    server_time_by: str = ""
    to_stranger: str = ""  # what an identity that nobody has gets from it, in place of the one that was refused

    def here(self, event: Event, name: str, words: str, result: str, following: str) -> None:
        """A step of this side, with nothing on the wire."""
        self.add(event, "here", name, says.Said(words, result, following))

    def message(
        self,
        event: Event,
        name: str,
        said: says.Said,
        message: Message,
        *,
        is_bad: bool = False,
        fields: tuple[Field, ...] = (),
    ) -> None:
        """A step that crossed in `message`, which has its bytes, records and protection."""
        direction: Literal["sent", "received"] = message.direction
        if self.is_broker:
            direction = "received" if direction == SENT else "sent"
        told = says.from_seat(said, message, is_broker=self.is_broker)
        size = (message.wire, message.records)
        self._append(
            event, who_of(message), name, told, direction, size, message.epoch, fields, explain.why(name), is_bad=is_bad
        )

    def add(self, event: Event, who: Who, name: str, said: says.Said, *, is_bad: bool = False) -> None:
        """A step with nothing on the wire: of this side, or the end that another made."""
        why = (explain.why(name) if who == "here" else "") or explain.why("ended")
        self._append(event, who, name, said, "none", (0, 0), "none", (), why, is_bad=is_bad)

    def _append(
        self,
        event: Event,
        who: Who,
        name: str,
        said: says.Said,
        direction: Literal["sent", "received", "none"],
        size: tuple[int, int],
        protection: Protection,
        fields: tuple[Field, ...],
        why: str,
        *,
        is_bad: bool,
    ) -> None:
        if len(self.steps) >= MOST_STEPS:
            self.untold += 1
            return
        self.steps.append(
            Step(
                len(self.steps) + 1,
                round(event.t_ms, 3),
                who,
                name,
                direction,
                *size,
                protection,
                said.says,
                said.result,
                said.next,
                why,
                self.tracker.state,
                fields,
                is_bad,
            )
        )


def who_of(message: Message) -> Who:
    """Who sent a message."""
    return "client" if message.direction == SENT else "server"
