"""The MQTT packets in the channel, turned into steps.

It refuses to know TLS beyond which record carried a packet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sealmq.trace import mqtt
from sealmq.trace.causes.evidence import REFUSED
from sealmq.trace.causes.mqtt import reason
from sealmq.trace.fields import Field
from sealmq.trace.says import Said
from sealmq.trace.tls.decode import RECEIVED, SENT, Direction, Message
from sealmq.trace.tls.stream import Stream

if TYPE_CHECKING:
    from sealmq.trace.recording import Event
    from sealmq.trace.request import MqttVersion
    from sealmq.trace.story import Story

LARGEST = 256 * 1024  # bytes waiting for the rest of a packet


@dataclass(frozen=True, slots=True)
class Carried:
    """A packet, or what is none (`packet` None), and the message with its share of bytes on the wire."""

    packet: mqtt.Packet | None
    message: Message
    fault: str = ""


class Session:
    """Both directions of the channel, cut into packets."""

    def __init__(self, version: str) -> None:
        """`version` is `5.0` or `3.1.1`; anything else counts as `5.0`."""
        self.version: MqttVersion = "3.1.1" if version == "3.1.1" else "5.0"
        self.connect_sent = False
        self.connack = -1
        self.disconnect = -1
        self.reason_string = ""
        self.not_mqtt = b""
        self._streams: dict[Direction, Stream] = {SENT: Stream(), RECEIVED: Stream()}
        self._broken: set[Direction] = set()

    def feed(self, message: Message) -> list[Carried]:
        """The packets that a record of application data completes."""
        if message.direction in self._broken:
            return [Carried(None, message, "what follows is not read")]
        stream = self._streams[message.direction]
        stream.add(message.raw, message.wire)
        waiting = stream.peek(len(stream))
        version: MqttVersion = self.version
        if message.direction == RECEIVED and self.connack < 0 and waiting[:2] == b"\x20\x02" and len(waiting) >= 4:
            version = "3.1.1"  # a broker of 3.1.1 alone answers a CONNECT of 5.0 in its own form
        found, _, fault = mqtt.decode(version, waiting)
        if message.direction == RECEIVED and self.connack < 0 and not mqtt.can_begin(waiting):
            found, fault = [], "no server begins like that"
        done = []
        for packet in found:
            taken = stream.take(packet.size)
            done.append(Carried(packet, replace(message, raw=taken.data, wire=taken.wire, records=taken.records)))
            self._note(packet, message.direction)
        if fault or len(stream) > LARGEST:
            self._broken.add(message.direction)
            rest = stream.take(len(stream))
            if message.direction == RECEIVED:
                self.not_mqtt = rest.data[:64]
            done.append(
                Carried(
                    None, replace(message, raw=rest.data, wire=rest.wire, records=rest.records), fault or "too long"
                )
            )
        return done

    def tell(self, story: Story, event: Event, message: Message, *, frame: str = "") -> None:
        """Add the steps of the packets that `message` completes; `frame` is what carried them inside the channel."""
        for carried in self.feed(message):
            self._told(story, event, carried, frame)

    def _told(self, story: Story, event: Event, carried: Carried, frame: str) -> None:
        tracker, message, packet = story.tracker, carried.message, carried.packet
        if packet is None:
            begins = message.raw[:24]
            is_text = begins.isascii() and begins.decode("ascii").isprintable()
            shown = begins.decode("ascii") if is_text else begins.hex(" ")
            is_tls = message.epoch == "plain" and message.raw[:2] == b"\x16\x03"
            why = "a ClientHello, and this listener has no TLS" if is_tls else carried.fault
            words = f"not MQTT: {why}; it begins {shown!r}"
            said = Said(words, "cannot be read", "nothing that can be relied on")
            story.message(event, "not MQTT", said, message, is_bad=True)
            return
        said = _says(packet, received=message.direction == RECEIVED, version=self.version)
        if packet.kind == "CONNECT" and message.epoch == "plain":
            said = said._replace(result="without TLS: anyone on the way can read and change it")
        bad = False
        match packet.kind:
            case "CONNECT":
                tracker.mqtt = "CONNECT sent"
            case "CONNACK":
                bad = packet.code != 0
                tracker.mqtt = "refused" if bad else "connected"
                if not bad and tracker.client_certificate == "sent":
                    tracker.client_certificate = "accepted"
            case "SUBACK" if not _refused_codes(packet):
                tracker.mqtt = "subscribed"
            case "PUBACK" if packet.code < REFUSED:
                tracker.mqtt = "published"
            case "PUBLISH" if message.direction == RECEIVED:
                tracker.mqtt = "received"
            case "DISCONNECT":
                tracker.mqtt = "ended"
                bad = message.direction == RECEIVED and packet.code >= REFUSED
            case "SUBACK" | "PUBACK":
                bad = True
        fields = (Field("frame", frame), *packet.fields) if frame else packet.fields
        story.message(event, packet.kind, said, message, is_bad=bad, fields=fields)

    def _note(self, packet: mqtt.Packet, direction: Direction) -> None:
        if direction == SENT:
            if packet.kind == "CONNECT":
                self.connect_sent = True
                self.version = "3.1.1" if packet.facts.get("version") == "3.1.1" else "5.0"
        elif packet.kind == "CONNACK" and self.connack < 0:
            self.connack, self.reason_string = packet.code, packet.reason_string
        elif packet.kind == "DISCONNECT":
            self.disconnect, self.reason_string = packet.code, packet.reason_string


def _refused_codes(packet: mqtt.Packet) -> list[int]:
    codes = packet.facts.get("codes")
    return [code for code in codes if isinstance(code, int) and code >= REFUSED] if isinstance(codes, list) else []


def _says(packet: mqtt.Packet, *, received: bool, version: str) -> Said:
    facts = packet.facts
    shown = {name: mqtt.shown(facts.get(name)) for name in ("client_id", "topic", "keep_alive", "version", "qos")}
    match packet.kind:
        case "CONNECT":
            says = f"MQTT {shown['version']}, client id {shown['client_id']}, keep-alive {shown['keep_alive']} s"
            return Said(says, "first byte of MQTT, and it is encrypted", "the broker's yes or no")
        case "CONNACK" if packet.code == 0:
            present = "session found" if facts.get("session_present") else "new session"
            return Said(f"accepted, {present}", "the broker has let this client in", "anything it may do")
        case "CONNACK":
            words, _ = reason(packet.code, version)
            return Said(
                f"refused: {words} ({packet.code if packet.code < REFUSED else hex(packet.code)})",
                f"no session: {packet.reason_string}" if packet.reason_string else "no session",
                "nothing",
            )
        case "SUBSCRIBE":
            return Said(f"wants {_filters(packet)}", "", "granted or refused, for each")
        case "SUBACK":
            refused = _refused_codes(packet)
            if refused:
                return Said(
                    f"refused: {reason(refused[0], '5.0')[0]} ({hex(refused[0])})",
                    "this topic is not allowed",
                    "a publish all the same",
                )
            return Said("granted", "messages on that topic will come", "a message to send")
        case "PUBLISH" if received:
            return Said(f"{shown['topic']}, QoS {shown['qos']}", "the message came back: the path works both ways", "")
        case "PUBLISH":
            return Said(f"{shown['topic']}, QoS {shown['qos']}", "", "an acknowledgement")
        case "PUBACK" if packet.code >= REFUSED:
            return Said(f"refused: {reason(packet.code, '5.0')[0]} ({hex(packet.code)})", "not delivered to anyone", "")
        case "PUBACK":
            nobody = " (no subscriber matched)" if packet.code == 0x10 else ""
            return Said(f"taken{nobody}", "the broker answers for it now", "")
        case "DISCONNECT" if received:
            words = "normal" if packet.code == 0 else reason(packet.code, "5.0")[0]
            return Said(f"broker ends the session: {words} ({hex(packet.code)})", "session over", "")
        case "DISCONNECT":
            return Said("client leaves in order", "no will is sent", "close_notify")
    return Said("", "", "")


def _filters(packet: mqtt.Packet) -> str:
    filters = packet.facts.get("filters")
    if not isinstance(filters, list):
        return "a topic"
    texts = [str(one.get("filter", one)) if isinstance(one, dict) else mqtt.shown(one) for one in filters]
    return mqtt.shown(", ".join(texts)) if texts else json.dumps(filters)[:80]
