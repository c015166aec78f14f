"""Asks a server that refused the offer again, each time with one part of it changed: which did it miss?

It refuses to go on with a handshake: one ClientHello, the ServerHello of the answer, and the connection is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from sealmq.trace.fields import Malformed
from sealmq.trace.recording import Event
from sealmq.trace.tls import names, othersuites, suites
from sealmq.trace.tls.hello import ClientHello, ServerHello
from sealmq.trace.tls.records import LARGEST, record_length

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 2.0
"""For all probes of one server together."""
_FATAL = 2
_GROUPS = (29, 23, 24, 25, 30, 0x11EC, *range(26, 29), *range(31, 34), *range(256, 261), 22, 21, 19)
_SIGNATURES = (
    *(0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B, 0x0401, 0x0501, 0x0601),
    *(0x081A, 0x081B, 0x081C, 0x0303, 0x0301, 0x0203, 0x0201, 0x0402, 0x0302, 0x0202, 0x0101, 0x0103),
)
_VERSIONS = (0x0304, 0x0303, 0x0302, 0x0301)
_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _SUPPORTED_VERSIONS, _PRE_SHARED_KEY, _KEY_SHARE = 10, 13, 43, 41, 51
_HEADERS = 9  # bytes: of the record and of the handshake message
HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECRYPT_ERROR, PROTOCOL_VERSION = 40, 47, 51, 70
_WIDENED = ("suite", "group", "signature", "version")


def ask(events: list[Event]) -> None:
    """Add a `probe` event for each part asked about, when what was recorded is an alert in answer to a ClientHello that
    hides several causes."""
    alert, hello = _refused_hello(events)
    address = next((event.text("address") for event in events if event.kind == "connected"), "")
    host, _, port = address.rpartition(":")
    if hello is None or not port.isdecimal():
        return
    until = time.monotonic() + SECONDS
    at = events[-1].t_ms
    for part in _parts(alert, hello):
        answer = answer_to((host.strip("[]"), int(port)), _changed(hello, part), until)
        if not isinstance(answer, ServerHello):
            events.append(Event(at, "probe", facts={"part": part, "answered": False, "alert": answer}))
            continue
        # a server that knows no more than the old field for the version looks at the suites first
        is_offered = part in ("identity", "key") or answer.version in hello.versions
        facts = {
            "part": part if is_offered else "version",
            "answered": True,
            "version": names.version(answer.version),
            "suite": answer.suite,
        }
        events.append(Event(at, "probe", facts=facts))
        if part != "identity":
            return


def _parts(alert: int, hello: ClientHello) -> tuple[str, ...]:
    """What is asked about, by the alert that refused."""
    has_key = hello.external_key is not None
    if alert == PROTOCOL_VERSION:
        return ("version",)
    if alert == HANDSHAKE_FAILURE:
        return ("identity", *_WIDENED) if has_key else (*_WIDENED, "key")
    return ("identity",) if has_key else ()


def _refused_hello(events: list[Event]) -> tuple[int, ClientHello | None]:
    """The alert, and the ClientHello that it is the answer to; None when it was not so."""
    received = [event.data for event in events if event.kind == "received"]
    sent = next((event.data for event in events if event.kind == "sent"), b"")
    answer = received[0] if received else b""
    if answer[:1] != b"\x15" or len(answer) < 7 or answer[5] != _FATAL or sent[:1] != b"\x16":
        return -1, None
    if answer[6] not in (HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECRYPT_ERROR, PROTOCOL_VERSION):
        return -1, None
    hello = _hello(sent)
    return (answer[6], hello) if hello is not None else (-1, None)


def in_tls12(sent: bytes) -> bytes:
    """The ClientHello in `sent` for TLS 1.2 alone, as a record; empty when there is none."""
    hello = _hello(sent)
    return _changed(hello, "1.2") if hello is not None else b""


def _hello(sent: bytes) -> ClientHello | None:
    with contextlib.suppress(Malformed):
        return ClientHello.parse(sent[_HEADERS : 5 + int.from_bytes(sent[3:5], "big")])[0]
    return None


def _changed(hello: ClientHello, part: str) -> bytes:
    """The same ClientHello as a record: with all there is of one part, from an `identity` that nobody has, for TLS
    `1.2` alone, or for that with nothing but a pre-shared `key`."""
    extensions = {number: body for number, body in hello.extensions if number != _PRE_SHARED_KEY}
    offered = hello.suites
    if part in ("1.2", "key"):
        for number in (_SUPPORTED_VERSIONS, _KEY_SHARE):
            extensions.pop(number, None)
    if part == "key":
        offered = tuple(suite.number for suite in suites.SUITES.values() if suite.has_shared_key)
    elif part == "identity" and (key := hello.external_key) is not None:
        stranger = b"nobody-" + os.urandom(6).hex().encode()
        identities = len(stranger).to_bytes(2, "big") + stranger + bytes(4)
        binder = bytes([len(key.binder)]) + os.urandom(len(key.binder))
        extensions[_PRE_SHARED_KEY] = b"".join(len(part).to_bytes(2, "big") + part for part in (identities, binder))
    if part in ("suite", "version"):  # another version takes other suites
        offered = tuple(dict.fromkeys((*hello.suites, *suites.SUITES, *othersuites.NAMES)))
    if part == "group":
        extensions[_SUPPORTED_GROUPS] = _numbers(_GROUPS, prefix=2)
    elif part == "signature":
        extensions[_SIGNATURE_ALGORITHMS] = _numbers(_SIGNATURES, prefix=2)
    elif part == "version":
        # what a server of TLS 1.3 alone needs to ask for a key share
        extensions = {_KEY_SHARE: b"\x00\x00"} | extensions
        extensions[_SUPPORTED_VERSIONS] = _numbers(_VERSIONS, prefix=1)
    listed = b"".join(
        number.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body for number, body in extensions.items()
    )
    body = b"".join(
        (
            hello.version.to_bytes(2, "big"),
            os.urandom(32),
            bytes([len(hello.session_id)]),
            hello.session_id,
            _numbers(offered, prefix=2),
            b"\x01\x00",
            len(listed).to_bytes(2, "big"),
            listed,
        )
    )
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return bytes([names.HANDSHAKE, 3, 1]) + len(message).to_bytes(2, "big") + message


def _numbers(values: Iterable[int], *, prefix: int) -> bytes:
    listed = b"".join(value.to_bytes(2, "big") for value in values)
    return len(listed).to_bytes(prefix, "big") + listed


def answer_to(peer: tuple[str, int], hello: bytes, until: float) -> ServerHello | int:
    """The ServerHello with which the server goes on, the number of the alert with which it does not, -1 for neither."""
    left = until - time.monotonic()
    if left <= 0:
        return -1
    answer = b""
    try:
        with socket.create_connection(peer, timeout=left) as connection:
            connection.sendall(hello)
            while (whole := record_length(answer)) is None or 0 < whole > len(answer):
                connection.settimeout(max(0.05, until - time.monotonic()))
                part = connection.recv(LARGEST)
                if not part or time.monotonic() > until:
                    return -1
                answer += part
    except OSError:
        return -1
    if answer[:1] == bytes([names.ALERT]) and len(answer) >= 7:
        return answer[6]
    if answer[:1] == bytes([names.HANDSHAKE]):
        with contextlib.suppress(Malformed):
            return ServerHello.parse(answer[_HEADERS : _HEADERS + int.from_bytes(answer[6:_HEADERS], "big")])[0]
    return -1
