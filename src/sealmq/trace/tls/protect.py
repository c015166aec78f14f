"""Takes the protection off one direction's records: AEAD of TLS 1.2 and 1.3, CBC in both MAC orders, NULL.

It refuses to know when keys change; it is given them. A record that does not open raises `Unopened`.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Protocol

from sealmq.trace.tls import names

if TYPE_CHECKING:
    from sealmq.trace.tls.keys12 import Keys
    from sealmq.trace.tls.records import Record
    from sealmq.trace.tls.suites import Suite


class Unopened(ValueError):  # noqa: N818 - said of the record
    """A record that its key does not open: damaged, or of another key."""


class Protection(Protocol):
    """Opens the records of one direction in order."""

    def open(self, record: Record) -> tuple[int, bytes]:
        """The real content type and the plaintext. Raises `Unopened`."""
        ...


class Plain:
    """No protection."""

    def open(self, record: Record) -> tuple[int, bytes]:
        """What is there."""
        return record.content_type, record.fragment


class Aead13:
    """RFC 8446, section 5.2."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        """`iv` has 12 bytes."""
        self._cipher = _aead(suite, key)
        self._iv = iv
        self._sequence = 0

    def open(self, record: Record) -> tuple[int, bytes]:
        """The inner content type and the content without its padding."""
        plain = self._cipher_open(record)
        stripped = plain.rstrip(b"\0")
        if not stripped:
            raise Unopened("record has no content type inside")
        return stripped[-1], stripped[:-1]

    def _cipher_open(self, record: Record) -> bytes:
        nonce = _xor(self._iv, self._sequence)
        self._sequence += 1
        return _decrypt(self._cipher, nonce, record.fragment, record.header)


class Aead12:
    """RFC 5288 and RFC 6655 (explicit nonce), RFC 7905 (ChaCha20, none)."""

    def __init__(self, suite: Suite, keys: Keys) -> None:
        """`keys.iv` has 4 bytes, 12 for ChaCha20."""
        self._cipher = _aead(suite, keys.key)
        self._suite = suite
        self._iv = keys.iv
        self._sequence = 0

    def open(self, record: Record) -> tuple[int, bytes]:
        """The plaintext."""
        data = record.fragment
        if self._suite.kind == "chacha":
            nonce = _xor(self._iv, self._sequence)
        else:
            nonce, data = self._iv + data[:8], data[8:]
        if len(data) < self._suite.tag:
            raise Unopened("record is shorter than its tag")
        length = (len(data) - self._suite.tag).to_bytes(2, "big")
        additional = self._sequence.to_bytes(8, "big") + record.header[:3] + length
        self._sequence += 1
        return record.content_type, _decrypt(self._cipher, nonce, data, additional)


class Block:
    """CBC (RFC 5246, section 6.2.3.2), MACed before or after encryption (RFC 7366), and NULL."""

    def __init__(self, suite: Suite, keys: Keys, *, encrypt_then_mac: bool, version: int) -> None:
        """`keys.iv` is the first IV in TLS 1.0, where each record goes on from the one before."""
        self._suite = suite
        self._keys = keys
        self._mac_last = encrypt_then_mac and suite.kind == "cbc"
        self._chained = keys.iv if version < names.TLS11 and suite.kind == "cbc" else None
        self._sequence = 0

    def open(self, record: Record) -> tuple[int, bytes]:
        """The plaintext, its MAC checked."""
        data = record.fragment
        size = self._suite.mac
        if self._mac_last:
            data, mac = data[:-size], data[-size:]
            self._check(record, data, mac)
        if self._suite.kind == "cbc":
            data = self._decipher(data)
        if not self._mac_last:
            data, mac = data[:-size], data[-size:]
            self._check(record, data, mac)
        self._sequence += 1
        return record.content_type, data

    def _check(self, record: Record, data: bytes, mac: bytes) -> None:
        covered = self._sequence.to_bytes(8, "big") + record.header[:3] + len(data).to_bytes(2, "big") + data
        if not hmac.compare_digest(hmac.digest(self._keys.mac, covered, self._suite.mac_hash), mac):
            raise Unopened("record has a wrong MAC")

    def _decipher(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if self._chained is None:
            iv, data = data[:16], data[16:]
        else:
            iv, self._chained = self._chained, data[-16:]
        if not data or len(data) % 16 or len(iv) != 16:
            raise Unopened("record is no whole number of cipher blocks")
        # AES-CBC is what was spoken; nothing is encrypted here
        opened = Cipher(algorithms.AES(self._keys.key), modes.CBC(iv)).decryptor()
        plain = opened.update(data) + opened.finalize()
        padding = plain[-1] + 1
        if padding > len(plain) or set(plain[-padding:]) != {plain[-1]}:
            raise Unopened("record has wrong padding")
        return plain[:-padding]


def tls12(suite: Suite, keys: Keys, *, encrypt_then_mac: bool, version: int) -> Protection:
    """The protection of a direction of TLS 1.2 or before."""
    if suite.kind in ("cbc", "null"):
        return Block(suite, keys, encrypt_then_mac=encrypt_then_mac, version=version)
    return Aead12(suite, keys)


class _Cipher(Protocol):
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def _aead(suite: Suite, key: bytes) -> _Cipher:
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

    if suite.kind == "gcm":
        return AESGCM(key)
    if suite.kind == "chacha":
        return ChaCha20Poly1305(key)
    return AESCCM(key, suite.tag)


def _decrypt(cipher: _Cipher, nonce: bytes, data: bytes, additional: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, data, additional)
    except InvalidTag:
        raise Unopened("record does not open under its key") from None
    except ValueError as error:
        raise Unopened(f"record is malformed: {error}") from None


def _xor(iv: bytes, sequence: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ sequence).to_bytes(len(iv), "big")
