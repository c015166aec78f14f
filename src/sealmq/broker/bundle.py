"""The topic `$ca/bundle`: the roots that devices are to trust, retained, for devices that have MQTT and nothing else.

It refuses to know when the bundle changes. The payload is PEM with a line above it that says the version; PEM readers
skip that line, so `mosquitto_sub -C 1 -t '$ca/bundle' >ca.pem` is all that a device needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealmq.broker.handle import Broker
    from sealmq.pki.authority import Authority

TOPIC = "$ca/bundle"

RULE = {"name": "CA bundle", "effect": "allow", "who": "*", "publish": False, "subscribe": True, "filter": TOPIC}
"""As `rules` of a `NodeConfig` has them; stands behind those of the rule file, since what is public needs none."""


class BundleTopic:
    """Keeps the retained message up to date; `look` publishes when there is another version than at the last look."""

    def __init__(self, broker: Broker, authority: Authority) -> None:
        self._broker = broker
        self._authority = authority
        self._published = 0

    def look(self) -> bool:
        """Publish the bundle if its version is new; whether it was published."""
        pem, version = self._authority.bundle()
        if version == self._published:
            return False
        self._broker.publish(TOPIC, payload(pem, version), retain=True)
        self._published = version
        return True


def payload(pem: bytes, version: int) -> bytes:
    """The message: the version in a line of its own, then the roots."""
    return b"# sealmq CA bundle, version %d\n" % version + pem
