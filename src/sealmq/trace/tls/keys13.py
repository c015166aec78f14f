"""The key schedule of TLS 1.3 from a traffic secret downwards (RFC 8446, sections 7.1 to 7.3 and 4.4.4), and binders.

It refuses to know where a secret comes from.
"""

from __future__ import annotations

import hashlib
import hmac


def expand_label(secret: bytes, label: bytes, context: bytes, length: int, algorithm: str) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1: `length` bytes."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context
    made, block, counter = b"", b"", 1
    while len(made) < length:  # HKDF-Expand, RFC 5869, section 2.3
        block = hmac.digest(secret, block + info + bytes([counter]), algorithm)
        made += block
        counter += 1
    return made[:length]


def traffic_key(secret: bytes, key: int, algorithm: str) -> tuple[bytes, bytes]:
    """The write key of `key` bytes and the write IV of 12 (section 7.3)."""
    return expand_label(secret, b"key", b"", key, algorithm), expand_label(secret, b"iv", b"", 12, algorithm)


def next_secret(secret: bytes, algorithm: str) -> bytes:
    """The traffic secret after a KeyUpdate (section 7.2)."""
    return expand_label(secret, b"traffic upd", b"", hashlib.new(algorithm).digest_size, algorithm)


def verify_data(secret: bytes, transcript: bytes, algorithm: str) -> bytes:
    """What a Finished must hold after the handshake messages `transcript` (section 4.4.4)."""
    return mac(finished_key(secret, algorithm), transcript, algorithm)


def finished_key(secret: bytes, algorithm: str) -> bytes:
    """The key of a Finished or of a binder (section 4.4.4)."""
    return expand_label(secret, b"finished", b"", hashlib.new(algorithm).digest_size, algorithm)


def mac(key: bytes, transcript: bytes, algorithm: str) -> bytes:
    """The MAC over handshake messages that stands in a Finished and in a binder (sections 4.4.4 and 4.2.11.2)."""
    return hmac.digest(key, hashlib.new(algorithm, transcript).digest(), algorithm)


def binder_key(shared: bytes, algorithm: str) -> bytes:
    """The key that a binder of the pre-shared key `shared` is made with, under the label of external ones: `ext binder`
    (section 7.1). It opens nothing, and does not give the pre-shared key away."""
    empty = hashlib.new(algorithm).digest()
    early = hmac.digest(bytes(len(empty)), shared, algorithm)
    return finished_key(expand_label(early, b"ext binder", empty, len(empty), algorithm), algorithm)


def message_hash(transcript: bytes, algorithm: str) -> bytes:
    """What stands for the first ClientHello in the transcript after a HelloRetryRequest (section 4.4.1)."""
    digest = hashlib.new(algorithm, transcript).digest()
    return b"\xfe\x00\x00" + bytes([len(digest)]) + digest
