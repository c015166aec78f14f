"""TLS 1.3 records without data after the handshake: each costs the broker more than the device, and none is MQTT's.

Knows nothing of what TLS does with them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tls13 import APPLICATION_DATA, HANDSHAKE, Attacker

from security import raw_mqtt

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.testing import EphemeralBroker

FLOOD = 2000


def joined(broker: EphemeralBroker) -> Attacker:
    attacker = Attacker(broker.port, broker.device("evil"))
    attacker.send(APPLICATION_DATA, raw_mqtt.connect("evil"))
    assert attacker.receive()[0] >> 4 == raw_mqtt.CONNACK
    return attacker


def test_new_keys_all_the_time_end_the_connection(broker: EphemeralBroker, witness: Callable[[], None]) -> None:
    """With a message now and then: a bound on changes in a row does not meet it."""
    attacker, flood = joined(broker), b""
    for number in range(FLOOD):
        flood += attacker.changed_keys()
        if number % 30 == 0:
            flood += attacker.sealed(APPLICATION_DATA, raw_mqtt.publish("devices/evil/x"))
    attacker.socket.sendall(flood)
    assert "carry nothing" in broker.wait_event("disconnected", client_id="evil")["summary"]
    attacker.close()
    witness()


def test_a_message_of_tls_that_never_ends_is_not_kept(broker: EphemeralBroker, witness: Callable[[], None]) -> None:
    """It would be memory that no bound knows of, for as long as the connection lasts."""
    attacker = joined(broker)
    with contextlib.suppress(OSError):
        attacker.send(HANDSHAKE, b"\x18\0\xff\xff" + bytes(16_000))
        for _ in range(2):
            attacker.send(HANDSHAKE, bytes(16_000))
    assert "carry nothing" in broker.wait_event("disconnected", client_id="evil")["summary"]
    attacker.close()
    witness()


def test_a_device_that_changes_its_keys_now_and_then_is_served(broker: EphemeralBroker) -> None:
    attacker = joined(broker)
    for _ in range(100):
        attacker.socket.sendall(attacker.changed_keys() + attacker.sealed(APPLICATION_DATA, raw_mqtt.PINGREQ))
        assert attacker.receive()[0] >> 4 == raw_mqtt.PINGRESP
    attacker.close()
