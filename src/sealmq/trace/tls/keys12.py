"""The key schedule of TLS 1.2 and before, from the premaster secret downwards (RFC 5246, sections 5, 6.3, 7.4.9, 8.1).

It refuses to know how that was agreed: sent under RSA, agreed by Diffie-Hellman, shared beforehand.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple

from sealmq.trace.tls import names

if TYPE_CHECKING:
    from sealmq.trace.tls.suites import Suite


class Keys(NamedTuple):
    """What one direction is protected with."""

    mac: bytes
    key: bytes
    iv: bytes


def prf(secret: bytes, label: bytes, seed: bytes, length: int, algorithm: str) -> bytes:
    """The PRF: of RFC 5246 with `algorithm`, of RFC 2246 (MD5 and SHA-1 combined) when `algorithm` is `md5-sha1`."""
    if algorithm != "md5-sha1":
        return _p_hash(secret, label + seed, length, algorithm)
    half = (len(secret) + 1) // 2
    left = _p_hash(secret[:half], label + seed, length, "md5")
    right = _p_hash(secret[-half:], label + seed, length, "sha1")
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def _p_hash(secret: bytes, seed: bytes, length: int, algorithm: str) -> bytes:
    made, step = b"", seed
    while len(made) < length:
        step = hmac.digest(secret, step, algorithm)
        made += hmac.digest(secret, step + seed, algorithm)
    return made[:length]


def prf_hash(suite: Suite, version: int) -> str:
    """Which PRF a connection uses."""
    return suite.hash if version >= names.TLS12 else "md5-sha1"


def key_block(
    master: bytes, suite: Suite, *, client_random: bytes, server_random: bytes, version: int
) -> tuple[Keys, Keys]:
    """The keys of the client's direction and of the server's (section 6.3)."""
    # TLS 1.0 takes the first IV of a CBC cipher from the key block, later versions send it (RFC 2246, section 6.3)
    iv = 16 if suite.kind == "cbc" and version < names.TLS11 else suite.fixed_iv
    total = 2 * (suite.mac + suite.key + iv)
    block = prf(master, b"key expansion", server_random + client_random, total, prf_hash(suite, version))
    parts: list[bytes] = []
    at = 0
    for length in (suite.mac, suite.mac, suite.key, suite.key, iv, iv):
        parts.append(block[at : at + length])
        at += length
    return Keys(parts[0], parts[2], parts[4]), Keys(parts[1], parts[3], parts[5])


def premaster_of_key(key: bytes) -> bytes:
    """The premaster secret of plain PSK (RFC 4279, section 2): as many zeros as the key is long, and the key."""
    size = len(key).to_bytes(2, "big")
    return size + bytes(len(key)) + size + key


def master(premaster: bytes, suite: Suite, *, randoms: bytes, session: bytes | None, version: int) -> bytes:
    """The master secret, 48 bytes (section 8.1); `randoms` is the client's and the server's.

    `session` are the handshake messages up to ClientKeyExchange when it is an extended one (RFC 7627, section 4),
    else None. TLS 1.2 alone.
    """
    algorithm = prf_hash(suite, version)
    if session is None:
        return prf(premaster, b"master secret", randoms, 48, algorithm)
    digest = hashlib.new(algorithm, session).digest()
    return prf(premaster, b"extended master secret", digest, 48, algorithm)


def verify_data(master: bytes, transcript: bytes, suite: Suite, *, label: bytes, version: int) -> bytes:
    """What a Finished must hold, `label` being `client finished` or `server finished` (section 7.4.9)."""
    algorithm = prf_hash(suite, version)
    if algorithm == "md5-sha1":
        digest = hashlib.md5(transcript).digest() + hashlib.sha1(transcript).digest()  # noqa: S324 - RFC 2246 says so
    else:
        digest = hashlib.new(algorithm, transcript).digest()
    return prf(master, label, digest, 12, algorithm)
