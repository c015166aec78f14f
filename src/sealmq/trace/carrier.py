"""The WebSocket between channel and MQTT, told as steps: the request, the answer, control frames; packets go on.

It refuses to know TLS beyond which record carried what, and MQTT at all: payloads are handed to the session.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sealmq.trace import websocket
from sealmq.trace.fields import Malformed, printable
from sealmq.trace.says import Said
from sealmq.trace.tls.decode import RECEIVED, SENT, Direction, Message
from sealmq.trace.tls.stream import Stream

if TYPE_CHECKING:
    from sealmq.trace.packets import Session
    from sealmq.trace.recording import Event
    from sealmq.trace.story import Story

_END = b"\r\n\r\n"


class Carrier:
    """Both directions of the channel, the heads of the upgrade first, then frames.

    `fault` is the slug of what is wrong with the upgrade or a frame of the server, `said` by what it is known.
    """

    def __init__(self, session: Session) -> None:
        """`session` gets what the frames carry."""
        self.fault = ""
        self.said = ""
        self.asked: websocket.Head | None = None
        self.is_open = False
        self._session = session
        self._streams: dict[Direction, Stream] = {SENT: Stream(), RECEIVED: Stream()}
        self._broken: set[Direction] = set()

    def tell(self, story: Story, event: Event, message: Message) -> None:
        """Add the steps of what a record of application data completes."""
        direction = message.direction
        if direction in self._broken:
            unread = Said(f"{len(message.raw)} bytes more", "not read", "")
            story.message(event, "ApplicationData", unread, message)
            return
        stream = self._streams[direction]
        stream.add(message.raw, message.wire)
        if direction == SENT and self.asked is None:
            self._request(story, event, message)
        elif direction == RECEIVED and not self.is_open:
            self._answer(story, event, message)
        if direction not in self._broken and (self.asked if direction == SENT else self.is_open):
            self._frames(story, event, message)

    # --- the upgrade --------------------------------------------------------------------------------------------

    def _request(self, story: Story, event: Event, message: Message) -> None:
        head = self._head(story, event, message)
        if head is None:
            return
        whole, self.asked = head
        wants = ", ".join(self.asked.values("sec-websocket-protocol")) or "none"
        said = Said(
            f"{self.asked.line}; wants a WebSocket with the subprotocol {wants}",
            "HTTP, for one question and one answer",
            "101 Switching Protocols",
        )
        story.message(event, "upgrade request", said, whole, fields=self.asked.fields)

    def _answer(self, story: Story, event: Event, message: Message) -> None:
        head = self._head(story, event, message)
        if head is None:
            return
        whole, answer = head
        self.fault = websocket.fault_of(answer, self.asked)
        if self.fault:
            self._broken.add(RECEIVED)
            rest = self._rest(message)
            whole = replace(whole, wire=whole.wire + rest.wire, records=max(whole.records, rest.records))
            self.said = answer.line if self.fault == "http-status" else f"answer {answer.line!r}"
            said = Said(f"{answer.line}, {len(rest.raw)} bytes of a body", "no WebSocket was opened", "nothing")
            story.message(event, "upgrade response", said, whole, is_bad=True, fields=answer.fields)
            return
        self.is_open = True
        said = Said(
            f"{answer.line}; Sec-WebSocket-Accept fits the key that was sent",
            "the channel carries WebSocket frames from here on",
            "MQTT, packets in binary frames",
        )
        story.message(event, "upgrade response", said, whole, fields=answer.fields)

    def _head(self, story: Story, event: Event, message: Message) -> tuple[Message, websocket.Head] | None:
        """The head that is whole now; None while it is not, and when what came is none."""
        stream = self._streams[message.direction]
        waiting = stream.peek(websocket.LARGEST_HEAD)
        begins = b"GET " if message.direction == SENT else b"HTTP/1."
        if not begins.startswith(waiting[: len(begins)]):
            self._break(story, event, message, "http-malformed", "no HTTP/1.1")
            return None
        end = waiting.find(_END)
        if end < 0:
            if len(stream) >= websocket.LARGEST_HEAD:
                self._break(story, event, message, "http-too-large", f"no end in {len(stream)} bytes")
            return None
        taken = stream.take(end + len(_END))
        try:
            head = websocket.Head.parse(taken.data)
        except Malformed as error:
            self._break(story, event, message, "http-malformed", str(error))
            return None
        return replace(message, raw=taken.data, wire=taken.wire, records=taken.records), head

    # --- frames -------------------------------------------------------------------------------------------------

    def _frames(self, story: Story, event: Event, message: Message) -> None:
        stream, of_client = self._streams[message.direction], message.direction == SENT
        while True:
            try:
                header = websocket.Header.parse(stream.peek(websocket.LONGEST_HEADER), of_client=of_client)
            except Malformed as error:
                self._break(story, event, message, "websocket-protocol-error", str(error))
                return
            if header is None or len(stream) < header.size:
                return
            taken = stream.take(header.size)
            carried = replace(message, raw=header.payload(taken.data), wire=taken.wire, records=taken.records)
            if header.opcode >= websocket.CLOSE:
                story.message(event, f"WebSocket {websocket.NAMES[header.opcode]}", _control(header, carried), carried)
            else:
                self._session.tell(story, event, carried, frame=header.words)

    def _break(self, story: Story, event: Event, message: Message, slug: str, why: str) -> None:
        self._broken.add(message.direction)
        rest = self._rest(message)
        begins = printable(rest.raw[:24])
        if message.direction == RECEIVED:
            self.fault, self.said = slug, f"{why}; first bytes {rest.raw[:16].hex(' ')}"
        said = Said(f"{why}; it begins {begins!r}", "cannot be read", "nothing that can be relied on")
        story.message(event, "not WebSocket", said, rest, is_bad=True)

    def _rest(self, message: Message) -> Message:
        stream = self._streams[message.direction]
        rest = stream.take(len(stream))
        return replace(message, raw=rest.data, wire=rest.wire, records=rest.records)


def _control(header: websocket.Header, carried: Message) -> Said:
    if header.opcode == websocket.CLOSE:
        code = int.from_bytes(carried.raw[:2], "big") if len(carried.raw) >= 2 else 1005  # section 7.1.5
        reason = printable(carried.raw[2:])
        return Said(f"code {code}{f', {reason!r}' if reason else ''}", "the WebSocket is over", "close_notify")
    asks = header.opcode == websocket.PING
    return Said(f"{len(carried.raw)} bytes", "", "a Pong with the same bytes" if asks else "")
