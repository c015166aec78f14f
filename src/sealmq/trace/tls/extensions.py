"""What stands in the extensions of TLS messages, by name (RFC 8446, section 4.2, and the RFCs named below).

It refuses to act on them: a body that is malformed is shown as such, and the message goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.fields import MOST_ITEMS, Cursor, Field, Malformed, hexed, printable
from sealmq.trace.tls import names, sharedkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Extensions = tuple[tuple[int, bytes], ...]


def read(cursor: Cursor) -> Extensions:
    """The extensions block, its two bytes of length first; empty when nothing is left, as TLS 1.2 allows."""
    if not cursor.left:
        return ()
    inner = Cursor(cursor.vector(2, "extensions"), "extensions")
    found = []
    while inner.left:
        number = inner.number(2, "extension type")
        found.append((number, inner.vector(2, f"extension {names.extension(number)}")))
    return tuple(found)


def value(extensions: Extensions, number: int) -> bytes | None:
    """The body of an extension, None when it is not there."""
    return next((body for found, body in extensions if found == number), None)


def numbers(body: bytes | None, *, prefix: int, size: int = 2) -> tuple[int, ...]:
    """A list of numbers of `size` bytes behind a length of `prefix` bytes; empty when absent or malformed."""
    if body is None:
        return ()
    try:
        inner = Cursor(body, "list").vector(prefix, "list")
    except Malformed:
        return ()
    return tuple(int.from_bytes(inner[at : at + size], "big") for at in range(0, len(inner) - size + 1, size))


def protocols(body: bytes | None) -> tuple[str, ...]:
    """The protocol names in an ALPN extension (RFC 7301)."""
    found: list[str] = []
    try:
        inner = Cursor(Cursor(body or b"", "ALPN").vector(2, "protocols"), "ALPN")
        while inner.left:
            found.append(printable(inner.vector(1, "protocol")))
    except Malformed:
        pass
    return tuple(found)


def server_name(body: bytes | None) -> str:
    """The host name in a server_name extension (RFC 6066, section 3), empty when there is none."""
    try:
        inner = Cursor(Cursor(body or b"", "server_name").vector(2, "names"), "server_name")
        inner.number(1, "name type")
        return printable(inner.vector(2, "host name"))
    except Malformed:
        return ""


def fields(extensions: Extensions, sender: str) -> Field:
    """All extensions of the message `sender` as one field with a child each."""
    children = [_one(number, body, sender) for number, body in extensions[:MOST_ITEMS]]
    if len(extensions) > MOST_ITEMS:
        children.append(Field("…", f"{len(extensions) - MOST_ITEMS} more"))
    return Field("extensions", f"{len(extensions)}", tuple(children))


def _one(number: int, body: bytes, sender: str) -> Field:
    name = names.extension(number)
    show = _SHOWN.get(number)
    try:
        text = (hexed(body) if body else "present") if show is None else show(body, sender)
    except Malformed as error:
        text = f"malformed: {error}"
    return Field(name, text)


def _joined(words: Iterable[str]) -> str:
    words = list(words)
    more = f", and {len(words) - MOST_ITEMS} more" if len(words) > MOST_ITEMS else ""
    return ", ".join(words[:MOST_ITEMS]) + more


def _list(name: Callable[[int], str], *, prefix: int, size: int = 2) -> Callable[[bytes, str], str]:
    def show(body: bytes, sender: str) -> str:
        del sender
        return _joined(name(number) for number in numbers(body, prefix=prefix, size=size))

    return show


def _server_name(body: bytes, sender: str) -> str:
    return server_name(body) if sender == "ClientHello" else "acknowledged"


def _versions(body: bytes, sender: str) -> str:
    if sender == "ClientHello":
        return _joined(names.version(number) for number in numbers(body, prefix=1))
    return names.version(Cursor(body, "supported_versions").number(2, "selected version"))


def _key_share(body: bytes, sender: str) -> str:
    cursor = Cursor(body, "key_share")
    if sender == "HelloRetryRequest":
        return f"wants {names.group(cursor.number(2, 'group'))}"
    if sender == "ServerHello":
        return _share(cursor)
    inner = Cursor(cursor.vector(2, "shares"), "key_share")
    shares = []
    while inner.left:
        shares.append(_share(inner))
    return _joined(shares)


def _share(cursor: Cursor) -> str:
    group = names.group(cursor.number(2, "group"))
    key = cursor.vector(2, "key")
    return f"{group} {len(key)} bytes {hexed(key[:16])}{'…' if len(key) > 16 else ''}"


def _pre_shared_key(body: bytes, sender: str) -> str:
    cursor = Cursor(body, "pre_shared_key")
    if sender == "ServerHello":
        return f"identity {cursor.number(2, 'selected identity')} accepted"
    found, _ = sharedkey.offered(body)
    return _joined(
        f"key of {printable(one.identity)}, shared beforehand"
        if one.is_external
        else f"ticket of {len(one.identity)} bytes"
        for one in found
    )


def _max_fragment(body: bytes, sender: str) -> str:
    del sender
    code = Cursor(body, "max_fragment_length").number(1, "code")
    return f"{2 ** (8 + code)} bytes" if 1 <= code <= 4 else f"code {code}"


def _record_limit(body: bytes, sender: str) -> str:
    del sender
    return f"{Cursor(body, 'record_size_limit').number(2, 'limit')} bytes"


def _ticket(body: bytes, sender: str) -> str:
    if body:
        return f"ticket of {len(body)} bytes"
    return "ready to take a ticket" if sender == "ClientHello" else "a ticket follows"


def _early_data(body: bytes, sender: str) -> str:
    if sender == "NewSessionTicket":
        return f"up to {Cursor(body, 'early_data').number(4, 'max early data')} bytes"
    return "wanted" if sender == "ClientHello" else "accepted"


def _authorities(body: bytes, sender: str) -> str:
    del sender
    inner = Cursor(Cursor(body, "certificate_authorities").vector(2, "names"), "certificate_authorities")
    return _joined(distinguished_names(inner))


def _renegotiation(body: bytes, sender: str) -> str:
    del sender
    return "first handshake" if body == b"\0" else hexed(body)


def _padding(body: bytes, sender: str) -> str:
    del sender
    return f"{len(body)} bytes"


def _status_request(body: bytes, sender: str) -> str:
    if sender == "ClientHello":
        return "wants the OCSP answer stapled"
    return f"OCSP answer of {len(body)} bytes" if body else "an OCSP answer follows"


def distinguished_names(inner: Cursor) -> list[str]:
    """DER distinguished names, each behind two bytes of length, as RFC 4514 text; at most `MOST_ITEMS` are decoded,
    `…` stands for the rest."""
    from cryptography import x509

    found: list[str] = []
    while inner.left:
        der = inner.vector(2, "name")
        if len(found) >= MOST_ITEMS:
            found[MOST_ITEMS:] = ["…"]
            continue
        try:
            found.append(printable(x509.Name.from_bytes(der).rfc4514_string().encode()))
        except ValueError:
            found.append(f"malformed name {hexed(der)}")
    return found


_SHOWN: dict[int, Callable[[bytes, str], str]] = {
    0: _server_name,
    1: _max_fragment,
    5: _status_request,
    10: _list(names.group, prefix=2),
    11: _list(lambda number: names.POINT_FORMATS.get(number, str(number)), prefix=1, size=1),
    13: _list(names.signature, prefix=2),
    16: lambda body, _: _joined(protocols(body)),
    21: _padding,
    28: _record_limit,
    35: _ticket,
    41: _pre_shared_key,
    42: _early_data,
    43: _versions,
    45: _list(lambda number: names.PSK_MODES.get(number, str(number)), prefix=1, size=1),
    47: _authorities,
    50: _list(names.signature, prefix=2),
    51: _key_share,
    65281: _renegotiation,
}
