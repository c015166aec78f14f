"""What a trace says over MQTT: connect, subscribe to a topic of its own, publish to it, hear it, disconnect.

It refuses to judge the answers; a broker that says no is recorded as one that says no.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, Protocol

from sealmq.trace import mqtt

if TYPE_CHECKING:
    from sealmq.trace.request import Bounds, MqttVersion

PAYLOAD = "traced by sealmq"
REFUSED = 0x80  # MQTT 5.0, section 2.4, and 3.1.1, section 3.9.3: from here on a code says no
LARGEST = 256 * 1024  # bytes of one packet; nobody sends a trace more than a few hundred


class Channel(Protocol):
    """What a conversation is held over: a TLS connection, or a WebSocket on one. Any of these may raise `Stopped`."""

    def write(self, data: bytes) -> None:
        """Send."""
        ...

    def read(self, seconds: float) -> bytes | None:
        """What came next, None when nothing did within `seconds`."""
        ...

    def give_up(self, seconds: float) -> NoReturn:
        """End it, since what was waited for did not come within `seconds`."""
        ...


class Conversation:
    """One MQTT session over an established channel."""

    def __init__(self, channel: Channel, version: MqttVersion, bounds: Bounds) -> None:
        """Nothing is sent yet."""
        self._channel = channel
        self._version: MqttVersion = version
        self._bounds = bounds
        self._unread = b""
        self._broken = False
        self._heard = False
        self._arrived: list[mqtt.Packet] = []

    def hold(self, *, client_id: str, topic: str) -> None:
        """Go through it as far as the broker lets it come. Raises `Stopped` when the connection ends before."""
        self._channel.write(mqtt.connect(self._version, client_id=client_id))
        connack = self._need("CONNACK")
        if connack is None or connack.code != 0:
            return
        self._channel.write(mqtt.subscribe(self._version, topic))
        suback = self._need("SUBACK")
        codes = suback.facts.get("codes") if suback is not None else None
        heard = isinstance(codes, list) and all(isinstance(code, int) and code < REFUSED for code in codes)
        self._channel.write(mqtt.publish(self._version, topic, PAYLOAD))
        puback = self._need("PUBACK")
        if heard and puback is not None and puback.code < REFUSED:
            self._await("PUBLISH")
        self._channel.write(mqtt.disconnect(self._version))

    def _need(self, kind: str) -> mqtt.Packet | None:
        """The packet that the protocol owes; None when something else than MQTT comes."""
        packet = self._await(kind)
        if packet is None and not self._broken:
            self._channel.give_up(self._bounds.mqtt)
        return packet

    def _await(self, kind: str) -> mqtt.Packet | None:
        """The next packet of a kind; None when it does not come in time or something else than MQTT comes."""
        deadline = time.monotonic() + self._bounds.mqtt
        while True:
            for packet in self._arrived:
                if packet.kind == kind:
                    self._arrived.remove(packet)
                    return packet
            left = deadline - time.monotonic()
            if left <= 0 or self._broken:
                return None
            data = self._channel.read(left)
            if data is None:
                return None
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._unread += data
        if not self._heard and not mqtt.can_begin(data):
            self._broken = True
            return
        self._heard = True
        packets, used, fault = mqtt.decode(self._version, self._unread)
        self._unread = self._unread[used:]
        self._arrived += packets
        self._broken = bool(fault) or len(self._unread) > LARGEST
