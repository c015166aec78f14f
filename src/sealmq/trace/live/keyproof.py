"""What a recording may hold of a pre-shared key: lines that prove its use in a handshake and do not give it away.

It refuses to keep the key: once the lines are made, nothing here has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.recording import Event
from sealmq.trace.tls import keylog, keys12, keys13, names
from sealmq.trace.tls.decode import RECEIVED, SENT, Decoder

if TYPE_CHECKING:
    from sealmq.trace.tls.decode import Facts

_BEFORE_SECRET = 16
"""ClientKeyExchange: the last message that an extended master secret covers (RFC 7627, section 3)."""


def add(events: list[Event], key: bytes) -> None:
    """Put the lines among the `events` of one connection that was made with `key`, before the last of them.

    They are the key of its binder, from which the pre-shared key cannot be had, and with plain PSK of TLS 1.2 the
    master secret as it follows from the key: the one in use, when both sides have the same key.
    """
    decoder = Decoder(keylog.Secrets(b"\n".join(event.data for event in events if event.kind == "secret")))
    handshake = b""
    lines: dict[str, bytes] = {}
    for event in events:
        if event.kind not in ("sent", "received"):
            continue
        for message in decoder.feed(SENT if event.kind == "sent" else RECEIVED, event.data):
            if message.malformed or message.name in ("ChangeCipherSpec", "Alert", "ApplicationData"):
                continue
            handshake += message.raw
            lines |= _lines(decoder.facts, key, handshake, message.raw[:1])
    at = events[-1].t_ms if events else 0.0
    events[-1:-1] = [Event(at, "secret", line) for line in lines.values()]


def _lines(facts: Facts, key: bytes, handshake: bytes, kind: bytes) -> dict[str, bytes]:
    hello, suite = facts.client_hello, facts.suite
    if hello is None:
        return {}
    offered = hello.external_key
    made: dict[str, bytes] = {}
    if offered is not None and offered.algorithm:
        made[keylog.BINDER] = keys13.binder_key(key, offered.algorithm)
    chosen = facts.server_hello
    if kind == bytes([_BEFORE_SECRET]) and suite is not None and suite.exchange == "PSK" and chosen is not None:
        made[keylog.PSK_MASTER] = keys12.master(
            keys12.premaster_of_key(key),
            suite,
            randoms=hello.random + chosen.random,
            session=handshake if chosen.extended_master_secret else None,
            version=facts.version or names.TLS12,
        )
    return {label: f"{label} {hello.random.hex()} {value.hex()}".encode() for label, value in made.items()}
