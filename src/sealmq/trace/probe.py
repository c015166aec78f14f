"""Asks a server that refused the offer again, each time with one part of it widened: which did it miss?

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
PARTS = {40: ("suite", "group", "signature", "version"), 70: ("version",)}
"""What is asked about, by the alert that refused: handshake_failure, protocol_version."""


def ask(events: list[Event]) -> None:
    """Add a `probe` event for each part asked about, when what was recorded is such an alert in answer to a
    ClientHello."""
    alert, hello = _refused_hello(events)
    address = next((event.text("address") for event in events if event.kind == "connected"), "")
    host, _, port = address.rpartition(":")
    if hello is None or not port.isdecimal():
        return
    until = time.monotonic() + SECONDS
    at = events[-1].t_ms
    for part in PARTS[alert]:
        chosen = _chosen(host.strip("[]"), int(port), _widened(hello, part), until)
        if chosen is None:
            events.append(Event(at, "probe", facts={"part": part, "answered": False}))
            continue
        # a server that knows no more than the old field for the version looks at the suites first
        missed = part if chosen in hello.versions else "version"
        facts = {"part": missed, "answered": True, "version": names.version(chosen)}
        events.append(Event(at, "probe", facts=facts))
        return


def _refused_hello(events: list[Event]) -> tuple[int, ClientHello | None]:
    """The alert, and the ClientHello that it is the answer to; None when it was not so."""
    received = [event.data for event in events if event.kind == "received"]
    sent = next((event.data for event in events if event.kind == "sent"), b"")
    answer = received[0] if received else b""
    if answer[:1] != b"\x15" or len(answer) < 7 or answer[5] != _FATAL or answer[6] not in PARTS or sent[:1] != b"\x16":
        return -1, None
    with contextlib.suppress(Malformed):
        return answer[6], ClientHello.parse(sent[_HEADERS : 5 + int.from_bytes(sent[3:5], "big")])[0]
    return -1, None


def _widened(hello: ClientHello, part: str) -> bytes:
    """The same ClientHello as a record, with all there is of one part."""
    extensions = {number: body for number, body in hello.extensions if number != _PRE_SHARED_KEY}
    offered = hello.suites
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


def _chosen(host: str, port: int, hello: bytes, until: float) -> int | None:
    """The version that the server goes on with, None when it does not."""
    left = until - time.monotonic()
    if left <= 0:
        return None
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=left) as connection:
            connection.sendall(hello)
            while (whole := record_length(answer)) is None or 0 < whole > len(answer):
                connection.settimeout(max(0.05, until - time.monotonic()))
                part = connection.recv(LARGEST)
                if not part or time.monotonic() > until:
                    return None
                answer += part
    except OSError:
        return None
    if answer[:1] != bytes([names.HANDSHAKE]):
        return None
    with contextlib.suppress(Malformed):
        return ServerHello.parse(answer[_HEADERS : _HEADERS + int.from_bytes(answer[6:_HEADERS], "big")])[0].version
    return None
