"""ClientHello, ServerHello and HelloRetryRequest, read into what later messages are understood with.

It refuses to judge: an offer nobody should make is an offer like any other here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sealmq.trace.fields import MOST_ITEMS, Cursor, Field, Malformed, hexed
from sealmq.trace.tls import extensions, names, sharedkey, suites

HELLO_RETRY = hashlib.sha256(b"HelloRetryRequest").digest()
"""The random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3)."""

DOWNGRADES = {
    b"DOWNGRD\x01": "the server could have spoken TLS 1.3",
    b"DOWNGRD\x00": "the server could have spoken TLS 1.2",
}


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offered; numbers as on the wire."""

    version: int
    random: bytes
    session_id: bytes
    suites: tuple[int, ...]
    extensions: extensions.Extensions

    @classmethod
    def parse(cls, body: bytes) -> tuple[ClientHello, tuple[Field, ...]]:
        """The message and its fields. Raises `Malformed`."""
        cursor = Cursor(body, "ClientHello")
        version = cursor.number(2, "legacy_version")
        random = cursor.take(32, "random")
        session_id = cursor.vector(1, "legacy_session_id")
        offered = cursor.vector(2, "cipher_suites")
        compression = cursor.vector(1, "legacy_compression_methods")
        hello = cls(
            version,
            random,
            session_id,
            tuple(int.from_bytes(offered[at : at + 2], "big") for at in range(0, len(offered) - 1, 2)),
            extensions.read(cursor),
        )
        cursor.end()
        shown = tuple(Field(suites.name(number), f"0x{number:04x}") for number in hello.suites[:MOST_ITEMS])
        return hello, (
            Field("legacy_version", names.version(version)),
            Field("random", random.hex()),
            Field("legacy_session_id", hexed(session_id)),
            Field("cipher_suites", f"{len(hello.suites)}", shown),
            Field("legacy_compression_methods", hexed(compression)),
            extensions.fields(hello.extensions, "ClientHello"),
        )

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions offered: those of the extension, else the highest one alone (RFC 8446, section 4.2.1)."""
        return extensions.numbers(extensions.value(self.extensions, 43), prefix=1) or (self.version,)

    @property
    def groups(self) -> tuple[int, ...]:
        """The key exchange groups offered."""
        return extensions.numbers(extensions.value(self.extensions, 10), prefix=2)

    @property
    def server_name(self) -> str:
        """The host name asked for, empty when none was."""
        return extensions.server_name(extensions.value(self.extensions, 0))

    @property
    def protocols(self) -> tuple[str, ...]:
        """The application protocols offered."""
        return extensions.protocols(extensions.value(self.extensions, 16))

    @property
    def pre_shared_keys(self) -> tuple[tuple[sharedkey.Offered, ...], int]:
        """The keys offered the way of TLS 1.3, tickets among them, and the bytes that their binders take at the end."""
        try:
            return sharedkey.offered(extensions.value(self.extensions, 41) or b"")
        except Malformed:
            return (), 0

    @property
    def external_key(self) -> sharedkey.Offered | None:
        """The first key offered that was shared beforehand, None without one."""
        return next((one for one in self.pre_shared_keys[0] if one.is_external), None)

    @property
    def offers_session(self) -> bool:
        """Whether a session of before is offered: a ticket, or in a hello without TLS 1.3 a session id."""
        return (
            any(not one.is_external for one in self.pre_shared_keys[0])
            or bool(extensions.value(self.extensions, 35))
            or (bool(self.session_id) and names.TLS13 not in self.versions)
        )


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What a server chose. `version` is the negotiated one, wherever it stood."""

    version: int
    random: bytes
    session_id: bytes
    suite: int
    is_retry: bool
    extensions: extensions.Extensions

    @classmethod
    def parse(cls, body: bytes) -> tuple[ServerHello, tuple[Field, ...]]:
        """The message and its fields. Raises `Malformed`."""
        cursor = Cursor(body, "ServerHello")
        legacy = cursor.number(2, "legacy_version")
        random = cursor.take(32, "random")
        session_id = cursor.vector(1, "legacy_session_id_echo")
        suite = cursor.number(2, "cipher_suite")
        compression = cursor.number(1, "legacy_compression_method")
        found = extensions.read(cursor)
        cursor.end()
        selected = extensions.value(found, 43)
        version = int.from_bytes(selected, "big") if selected is not None and len(selected) == 2 else legacy
        retry = random == HELLO_RETRY
        hello = cls(version, random, session_id, suite, retry, found)
        notes = [Field("downgrade sentinel", DOWNGRADES[random[24:]])] if random[24:] in DOWNGRADES else []
        return hello, (
            Field("legacy_version", names.version(legacy)),
            Field("random", "the fixed value of a HelloRetryRequest" if retry else random.hex()),
            *notes,
            Field("legacy_session_id_echo", hexed(session_id)),
            Field("cipher_suite", f"{suites.name(suite)} (0x{suite:04x})"),
            Field("legacy_compression_method", str(compression)),
            extensions.fields(found, "HelloRetryRequest" if retry else "ServerHello"),
        )

    @property
    def group(self) -> int | None:
        """The group of the key share (in a retry: the one wanted), None without one."""
        share = extensions.value(self.extensions, 51)
        return int.from_bytes(share[:2], "big") if share is not None and len(share) >= 2 else None

    @property
    def selected_key(self) -> int | None:
        """Which of the keys offered the way of TLS 1.3 is used, None when none is."""
        selected = extensions.value(self.extensions, 41)
        return int.from_bytes(selected, "big") if selected is not None and len(selected) == 2 else None

    @property
    def encrypt_then_mac(self) -> bool:
        """Whether CBC records are MACed after encryption (RFC 7366)."""
        return extensions.value(self.extensions, 22) is not None

    @property
    def extended_master_secret(self) -> bool:
        """Whether the master secret is bound to the whole handshake (RFC 7627)."""
        return extensions.value(self.extensions, 23) is not None

    @property
    def protocol(self) -> str:
        """The application protocol chosen in a TLS 1.2 ServerHello, empty when none was."""
        return next(iter(extensions.protocols(extensions.value(self.extensions, 16))), "")
