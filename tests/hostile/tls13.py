"""A TLS 1.3 client small enough to misbehave on purpose: X25519, AES-128-GCM, a P-256 client certificate (RFC 8446).

It refuses to verify the broker: it is the attacker, and every record it sends is the caller's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from security.raw_mqtt import Credentials

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
SECONDS = 10.0
_NOTHING = bytes(32)
_EMPTY = hashlib.sha256(b"").digest()


def record(content_type: int, body: bytes, *, version: bytes = b"\x03\x03") -> bytes:
    """A TLS record as it stands on the wire (section 5.1)."""
    return bytes([content_type]) + version + struct.pack(">H", len(body)) + body


def handshake(message_type: int, body: bytes) -> bytes:
    """A handshake message with its header (section 4)."""
    return bytes([message_type]) + len(body).to_bytes(3, "big") + body


def client_hello(extensions: bytes, *, suites: bytes) -> bytes:
    """A ClientHello with the given suites and extensions, two bytes each suite."""
    head = b"\x03\x03" + os.urandom(32) + b"\0"
    return handshake(1, head + struct.pack(">H", len(suites)) + suites + b"\1\0" + _block(extensions))


def extension(number: int, body: bytes) -> bytes:
    """One extension (section 4.2)."""
    return struct.pack(">H", number) + _block(body)


class Attacker:
    """A finished TLS 1.3 handshake as the device of `files`; then `send` any content type."""

    def __init__(self, port: int, files: Credentials) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transcript = b""
        own = x25519.X25519PrivateKey.generate()
        share = own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        extensions = [
            extension(43, b"\x02\x03\x04"),
            extension(10, b"\0\x02\0\x1d"),
            extension(13, b"\0\x04\x04\x03\x08\x04"),
            extension(51, _block(b"\0\x1d" + _block(share))),
        ]
        hello = client_hello(b"".join(extensions), suites=b"\x13\x01")
        self._transcript += hello
        self.socket.sendall(record(HANDSHAKE, hello, version=b"\x03\x01"))
        _, answer, _ = self._record()
        self._transcript += answer
        theirs = x25519.X25519PublicKey.from_public_bytes(_key_share(answer))
        early = _extract(_NOTHING, _NOTHING)
        secret = _extract(_expand(early, b"derived", _EMPTY, 32), own.exchange(theirs))
        client = _expand(secret, b"c hs traffic", self._hash(), 32)
        self._reads, self._writes = _Keys(_expand(secret, b"s hs traffic", self._hash(), 32)), _Keys(client)
        self._read_flight()
        main = _extract(_expand(secret, b"derived", _EMPTY, 32), _NOTHING)
        traffic = [_Keys(_expand(main, label, self._hash(), 32)) for label in (b"c ap traffic", b"s ap traffic")]
        self._authenticate(files, client)
        self._writes, self._reads = traffic

    def send(self, content_type: int, body: bytes) -> None:
        """One encrypted record."""
        self.socket.sendall(self.sealed(content_type, body))

    def sealed(self, content_type: int, body: bytes) -> bytes:
        """One encrypted record that is not sent; the next one has to follow it."""
        return self._writes.seal(content_type, body)

    def changed_keys(self) -> bytes:
        """A record that announces new keys (section 4.6.3), which are in force from here on."""
        announced = self.sealed(HANDSHAKE, handshake(24, b"\0"))
        self._writes = self._writes.next()
        return announced

    def receive(self) -> bytes:
        """The next application data; tickets are passed over. Raises ConnectionError for an alert."""
        while True:
            content_type, body = self._decrypt()
            if content_type == APPLICATION_DATA:
                return body
            if content_type == ALERT:
                raise ConnectionError(f"alert {body.hex()}")

    def close(self) -> None:
        """Close without a word."""
        self.socket.close()

    def _authenticate(self, files: Credentials, client: bytes) -> None:
        chain = x509.load_pem_x509_certificates(files.cert.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        entries = b""
        for certificate in chain:
            der = certificate.public_bytes(serialization.Encoding.DER)
            entries += len(der).to_bytes(3, "big") + der + b"\0\0"
        self._send_handshake(11, b"\0" + len(entries).to_bytes(3, "big") + entries)
        signed = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + self._hash()
        self._send_handshake(15, b"\x04\x03" + _block(key.sign(signed, ec.ECDSA(hashes.SHA256()))))
        finished = _expand(client, b"finished", b"", 32)
        self._send_handshake(20, hmac.new(finished, self._hash(), hashlib.sha256).digest())

    def _send_handshake(self, message_type: int, body: bytes) -> None:
        message = handshake(message_type, body)
        self._transcript += message
        self.send(HANDSHAKE, message)

    def _read_flight(self) -> None:
        """The broker's messages up to its Finished."""
        waiting = b""
        while True:
            content_type, body = self._decrypt()
            assert content_type == HANDSHAKE, (content_type, body)
            waiting += body
            while len(waiting) >= 4 and len(waiting) >= (end := 4 + int.from_bytes(waiting[1:4], "big")):
                message, waiting = waiting[:end], waiting[end:]
                self._transcript += message
                if message[0] == 20:
                    return

    def _hash(self) -> bytes:
        return hashlib.sha256(self._transcript).digest()

    def _take(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = self.socket.recv(count - len(got))
            if not part:
                raise EOFError
            got += part
        return got

    def _record(self) -> tuple[int, bytes, bytes]:
        head = self._take(5)
        return head[0], self._take(int.from_bytes(head[3:], "big")), head

    def _decrypt(self) -> tuple[int, bytes]:
        while True:
            content_type, body, head = self._record()
            if content_type == APPLICATION_DATA:
                inner = self._reads.open(body, head).rstrip(b"\0")
                return inner[-1], inner[:-1]
            if content_type == ALERT:
                return content_type, body


class _Keys:
    """Key, nonce and sequence number of one direction (section 7.3)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._aead = AESGCM(_expand(secret, b"key", b"", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", b"", 12), "big")
        self._sequence = 0

    def next(self) -> _Keys:
        """Those after a change (section 7.2)."""
        return _Keys(_expand(self._secret, b"traffic upd", b"", 32))

    def seal(self, content_type: int, body: bytes) -> bytes:
        head = b"\x17\x03\x03" + struct.pack(">H", len(body) + 17)
        return head + self._aead.encrypt(self._nonce(), body + bytes([content_type]), head)

    def open(self, body: bytes, head: bytes) -> bytes:
        return self._aead.decrypt(self._nonce(), body, head)

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return nonce


def _block(body: bytes) -> bytes:
    return struct.pack(">H", len(body)) + body


def _extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.new(salt, secret, hashlib.sha256).digest()


def _expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (section 7.1) for at most 32 bytes."""
    label = b"tls13 " + label
    info = struct.pack(">H", length) + bytes([len(label)]) + label + bytes([len(context)]) + context
    return hmac.new(secret, info + b"\1", hashlib.sha256).digest()[:length]


def _key_share(server_hello: bytes) -> bytes:
    at = 4 + 2 + 32 + 1 + server_hello[38] + 3 + 2
    while at < len(server_hello):
        number, length = struct.unpack_from(">HH", server_hello, at)
        if number == 51:
            return server_hello[at + 8 : at + 4 + length]
        at += 4 + length
    raise AssertionError("server hello has no key share")
