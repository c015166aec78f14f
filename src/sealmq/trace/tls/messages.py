"""The handshake messages after the two hellos, field by field (RFC 8446, section 4; RFC 5246, section 7.4).

It refuses to verify anything: signatures and Finished are proven in `prove`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.trace.fields import Cursor, Field, hexed, printable
from sealmq.trace.tls import extensions, names

if TYPE_CHECKING:
    from sealmq.trace.tls.suites import Exchange

Fields = tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature: `scheme` as in signature_algorithms, 0 when the version has no such field; `over` are the signed
    parameters of a ServerKeyExchange, empty for a CertificateVerify."""

    scheme: int
    signature: bytes
    over: bytes = b""


@dataclass(frozen=True, slots=True)
class ServerParameters:
    """What a ServerKeyExchange has: the group of a key agreement on a curve, and who signed it; with a pre-shared key
    nobody does."""

    group: int | None
    signed: Signed | None


def encrypted_extensions(body: bytes) -> tuple[extensions.Extensions, Fields]:
    """RFC 8446, section 4.3.1. Raises `Malformed`."""
    cursor = Cursor(body, "EncryptedExtensions")
    found = extensions.read(cursor)
    cursor.end()
    return found, (extensions.fields(found, "EncryptedExtensions"),)


def certificate_request(body: bytes, *, tls13: bool) -> Fields:
    """RFC 8446, section 4.3.2; RFC 5246, section 7.4.4. Raises `Malformed`."""
    cursor = Cursor(body, "CertificateRequest")
    if tls13:
        context = cursor.vector(1, "certificate_request_context")
        found = extensions.read(cursor)
        return (Field("certificate_request_context", hexed(context)), extensions.fields(found, "CertificateRequest"))
    kinds = cursor.vector(1, "certificate_types")
    schemes = cursor.vector(2, "supported_signature_algorithms")
    authorities = extensions.distinguished_names(Cursor(cursor.vector(2, "certificate_authorities"), "authorities"))
    shown = [names.signature(int.from_bytes(schemes[at : at + 2], "big")) for at in range(0, len(schemes) - 1, 2)]
    return (
        Field("certificate_types", ", ".join(names.CERTIFICATE_TYPES.get(kind, str(kind)) for kind in kinds)),
        Field("supported_signature_algorithms", ", ".join(shown)),
        Field("certificate_authorities", ", ".join(authorities) or "(any)"),
    )


def wanted_issuers(request: Fields) -> str:
    """The issuers that a CertificateRequest names, as text; empty when it names none."""
    listed = (
        field if field.name == "certificate_authorities" else field.find("certificate_authorities") for field in request
    )
    return next((field.value for field in listed if field is not None and field.value != "(any)"), "")


def certificate_verify(body: bytes, *, has_scheme: bool) -> tuple[Signed, Fields]:
    """RFC 8446, section 4.4.3; RFC 5246, section 7.4.8; without a scheme up to TLS 1.1. Raises `Malformed`."""
    cursor = Cursor(body, "CertificateVerify")
    scheme = cursor.number(2, "algorithm") if has_scheme else 0
    signature = cursor.vector(2, "signature")
    cursor.end()
    shown = (Field("algorithm", names.signature(scheme)),) if has_scheme else ()
    return Signed(scheme, signature), (*shown, Field("signature", hexed(signature)))


def server_key_exchange(body: bytes, exchange: Exchange, *, has_scheme: bool) -> tuple[ServerParameters, Fields]:
    """RFC 8422, section 5.4 (ECDHE), RFC 5246, section 7.4.3 (DHE), RFC 4279 and RFC 5489 (PSK). Raises `Malformed`."""
    cursor = Cursor(body, "ServerKeyExchange")
    shown: list[Field] = []
    group: int | None = None
    if "PSK" in exchange:
        shown.append(Field("psk_identity_hint", printable(cursor.vector(2, "psk_identity_hint")) or "(empty)"))
    if exchange.startswith("ECDHE"):
        kind = cursor.number(1, "curve_type")
        group = cursor.number(2, "named_curve") if kind == 3 else None
        key = cursor.vector(1, "public key")
        shown.append(Field("named_curve", names.group(group) if group is not None else f"curve type {kind}"))
        shown.append(Field("public_key", f"{len(key)} bytes {hexed(key)}"))
    elif exchange.startswith("DHE"):
        for name in ("dh_p", "dh_g", "dh_Ys"):
            value = cursor.vector(2, name)
            shown.append(Field(name, f"{8 * len(value.lstrip(bytes(1)))} bits {hexed(value)}"))
    if "PSK" in exchange:
        cursor.end()
        return ServerParameters(group, None), tuple(shown)
    if exchange not in ("ECDHE", "DHE"):
        return ServerParameters(group, None), (*shown, Field("rest", hexed(cursor.rest())))
    over = body[: cursor.position]
    scheme = cursor.number(2, "algorithm") if has_scheme else 0
    signature = cursor.vector(2, "signature")
    cursor.end()
    if has_scheme:
        shown.append(Field("algorithm", names.signature(scheme)))
    return ServerParameters(group, Signed(scheme, signature, over)), (*shown, Field("signature", hexed(signature)))


def client_key_exchange(body: bytes, exchange: Exchange) -> tuple[bytes, Fields]:
    """The identity of a pre-shared key, empty without one, and the fields (RFC 5246, section 7.4.7; RFC 4279, section
    2; RFC 5489, section 2). Raises `Malformed`."""
    cursor = Cursor(body, "ClientKeyExchange")
    shown: list[Field] = []
    identity = b""
    if "PSK" in exchange:
        identity = cursor.vector(2, "psk_identity")
        shown.append(Field("psk_identity", printable(identity) or "(empty)"))
    if exchange.startswith("RSA"):
        encrypted = cursor.vector(2, "encrypted_premaster_secret")
        shown.append(Field("encrypted_premaster_secret", f"{len(encrypted)} bytes {hexed(encrypted)}"))
    elif exchange.startswith("ECDHE"):
        shown.append(Field("public_key", hexed(cursor.vector(1, "public key"))))
    elif exchange.startswith("DHE"):
        shown.append(Field("dh_Yc", hexed(cursor.vector(2, "dh_Yc"))))
    elif exchange != "PSK":
        shown.append(Field("rest", hexed(cursor.rest())))
    cursor.end()
    return identity, tuple(shown)


def new_session_ticket(body: bytes, *, tls13: bool) -> tuple[int, Fields]:
    """The lifetime in seconds, and the fields (RFC 8446, section 4.6.1; RFC 5077, section 3.3). Raises `Malformed`."""
    cursor = Cursor(body, "NewSessionTicket")
    lifetime = cursor.number(4, "ticket_lifetime")
    shown = [Field("ticket_lifetime", f"{lifetime} s")]
    if tls13:
        cursor.take(4, "ticket_age_add")
        shown.append(Field("ticket_nonce", hexed(cursor.vector(1, "ticket_nonce"))))
    ticket = cursor.vector(2, "ticket")
    shown.append(Field("ticket", f"{len(ticket)} bytes {hexed(ticket[:16])}…"))
    if tls13:
        shown.append(extensions.fields(extensions.read(cursor), "NewSessionTicket"))
    cursor.end()
    return lifetime, tuple(shown)


def key_update(body: bytes) -> Fields:
    """RFC 8446, section 4.6.3. Raises `Malformed`."""
    cursor = Cursor(body, "KeyUpdate")
    wanted = cursor.number(1, "request_update")
    cursor.end()
    return (Field("request_update", "the peer is to do the same" if wanted == 1 else "nothing is asked of the peer"),)


def alert(fragment: bytes) -> tuple[int, int, Fields]:
    """Level, description, and the fields (RFC 8446, section 6). Raises `Malformed`."""
    cursor = Cursor(fragment, "Alert")
    level = cursor.number(1, "level")
    description = cursor.number(1, "description")
    cursor.end()
    return (
        level,
        description,
        (
            Field("level", {1: "warning", 2: "fatal"}.get(level, str(level))),
            Field("description", f"{names.alert(description)} ({description})"),
        ),
    )
