"""The key schedule of TLS 1.3 from a traffic secret downwards (RFC 8446, sections 7.1 to 7.3 and 4.4.4).

It refuses to know where a traffic secret comes from.
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
    size = hashlib.new(algorithm).digest_size
    key = expand_label(secret, b"finished", b"", size, algorithm)
    return hmac.digest(key, hashlib.new(algorithm, transcript).digest(), algorithm)


def message_hash(transcript: bytes, algorithm: str) -> bytes:
    """What stands for the first ClientHello in the transcript after a HelloRetryRequest (section 4.4.1)."""
    digest = hashlib.new(algorithm, transcript).digest()
    return b"\xfe\x00\x00" + bytes([len(digest)]) + digest
