"""Stock clients as tests want them: paho with queues in place of callbacks, and the options of the mosquitto clients.

Knows nothing of what is tested. Every wait is on something the broker did.
"""

from __future__ import annotations

import queue
import socket
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from programs import PATIENCE, Program, finished
from sealmq.tls import client_context

V5, V311 = 5, 4


@dataclass(frozen=True)
class Received:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[str, Any] = field(default_factory=dict)


def properties(packet: int, values: dict[str, Any]) -> Properties:
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def values_of(found: Properties | None) -> dict[str, Any]:
    """Properties by name; empty for MQTT 3.1.1."""
    if found is None:
        return {}
    return {name: getattr(found, name) for name in (n.replace(" ", "") for n in found.names) if hasattr(found, name)}


class Paho:
    """A connected paho client; a context manager. MQTT 5 properties are given and found by paho's names."""

    def __init__(
        self,
        broker,
        files,
        *,
        client_id: str,
        version: int = V5,
        clean: bool = True,
        keep_alive: int = 60,
        manual_ack: bool = False,
        transport: str = "tcp",
        will: tuple[str, bytes, int, bool] | None = None,
        will_properties: dict[str, Any] | None = None,
        host: str | None = None,
        port: int | None = None,
        **connect: Any,
    ) -> None:
        options = {} if version == V5 else {"clean_session": clean}
        self.version = version
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            protocol=version,
            transport=transport,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
            **options,
        )
        self.messages: queue.Queue[Received] = queue.Queue()
        self._raw: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._connected: queue.Queue[tuple] = queue.Queue()
        self._gone: queue.Queue[tuple] = queue.Queue()
        self._answers: queue.Queue[tuple] = queue.Queue()
        self._published: queue.Queue[tuple] = queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, code, props: self._connected.put((flags, code, props))
        self.client.on_disconnect = lambda _c, _u, _flags, code, props: self._gone.put((code, props))
        self.client.on_subscribe = lambda _c, _u, mid, codes, props: self._answers.put((mid, codes, props))
        self.client.on_unsubscribe = lambda _c, _u, mid, codes, props: self._answers.put((mid, codes, props))
        self.client.on_publish = lambda _c, _u, mid, code, props: self._published.put((mid, code, props))
        self.client.on_message = self._note
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        self.client.tls_set_context(client_context(ca=files.ca, certificate=files.cert, key=files.key))
        if will is not None:
            extra = properties(PacketTypes.WILLMESSAGE, will_properties or {}) if version == V5 else None
            topic, payload, qos, retain = will
            self.client.will_set(topic, payload, qos=qos, retain=retain, properties=extra)
        more = {}
        if version == V5:
            more = {"clean_start": clean, "properties": properties(PacketTypes.CONNECT, connect)}
        where = broker.port_of("wss" if transport == "websockets" else "mqtts") if port is None else port
        self.client.connect(host or broker.host, where, keep_alive, **more)
        self.client.loop_start()
        self.flags, self.code, found = self._connected.get(timeout=PATIENCE)
        self.connack = values_of(found)

    @property
    def session_present(self) -> bool:
        return bool(self.flags.session_present)

    def subscribe(self, topic_filter: str, *, qos: int = 0, identifier: int | None = None, **options: Any) -> int:
        """Subscribe and wait for the SUBACK; its reason code. `options` are those of paho's SubscribeOptions."""
        if self.version == V5:
            extra = properties(
                PacketTypes.SUBSCRIBE, {} if identifier is None else {"SubscriptionIdentifier": identifier}
            )
            wanted = mqtt.SubscribeOptions(qos=qos, **options)
            _, mid = self.client.subscribe(topic_filter, options=wanted, properties=extra)
        else:
            _, mid = self.client.subscribe(topic_filter, qos)
        return self._answer(mid)

    def unsubscribe(self, topic_filter: str) -> int | None:
        """Unsubscribe and wait for the UNSUBACK; its reason code, which MQTT 3.1.1 does not have."""
        _, mid = self.client.unsubscribe(topic_filter)
        return self._answer(mid)

    def publish(
        self, topic: str, payload: bytes | str = b"", *, qos: int = 0, retain: bool = False, **props: Any
    ) -> int:
        """Publish and wait until the exchange is over; the reason code, 0 where there is none."""
        extra = properties(PacketTypes.PUBLISH, props) if self.version == V5 else None
        info = self.client.publish(topic, payload, qos=qos, retain=retain, properties=extra)
        while True:
            mid, code, _ = self._published.get(timeout=PATIENCE)
            if mid == info.mid:
                return code.value

    def next(self, timeout: float = PATIENCE) -> Received:
        """The next message."""
        return self.messages.get(timeout=timeout)

    def acknowledge(self) -> None:
        """Acknowledge the oldest message of those that `manual_ack` left."""
        message = self._raw.get(timeout=PATIENCE)
        self.client.ack(message.mid, message.qos)

    def gone(self, timeout: float = PATIENCE):
        """Wait for the end of the connection; the reason code, as paho names it."""
        return self._gone.get(timeout=timeout)[0]

    def silent(self) -> None:
        """Stop reading and pinging; the connection stays open."""
        self.client.loop_stop()

    def read_to_the_end(self):
        """After `silent`, once the broker has closed: read what it said; the reason code as `gone` gives it."""
        while self.client.loop(PATIENCE) == mqtt.MQTT_ERR_SUCCESS:
            pass
        return self.gone()

    def die(self) -> None:
        """Break off without a DISCONNECT, as a device does that loses power."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.gone()

    def leave(self, **props: Any) -> None:
        """DISCONNECT, and wait until the connection is closed."""
        extra = {"properties": properties(PacketTypes.DISCONNECT, props)} if props else {}
        self.client.disconnect(**extra)
        self.gone()

    def __enter__(self) -> Paho:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _answer(self, wanted: int) -> int | None:
        while True:
            mid, codes, _ = self._answers.get(timeout=PATIENCE)
            if mid == wanted:
                return codes[0].value if codes else None

    def _note(self, _client, _user, message: mqtt.MQTTMessage) -> None:
        props = values_of(getattr(message, "properties", None))
        self.messages.put(Received(message.topic, message.payload, message.qos, message.retain, props))
        if message.qos:
            self._raw.put(message)


class Mosquitto:
    """The options that both mosquitto clients take to reach a broker as a device."""

    def __init__(self, broker, files, device: str, version: int) -> None:
        self._device = device
        self._broker = broker
        self._base = [
            "-h",
            broker.host,
            "-p",
            broker.port,
            "--cafile",
            files.ca,
            "--cert",
            files.cert,
            "--key",
            files.key,
        ]
        self._base += ["-V", "5" if version == V5 else "mqttv311"]

    def sub(self, *options: object, role: str = "sub", subscribed: bool = True) -> Program:
        """mosquitto_sub, subscribed; it prints `message TOPIC QOS RETAIN PAYLOAD` unless -F says otherwise."""
        form = () if "-F" in options else ("-F", "message %t %q %r %p")
        words = ("mosquitto_sub", *self._base, "-i", f"{self._device}:{role}", "-d", *form, *options)
        program = Program(*words)
        try:
            if subscribed:
                program.expect("^Subscribed ")
        except BaseException:
            program.close()
            raise
        return program

    def pub(self, *options: object, role: str = "pub", **more: Any):
        """mosquitto_pub, run to its end."""
        return finished("mosquitto_pub", *self._base, "-i", f"{self._device}:{role}", *options, **more)
