"""Asks a server whose certificate has a date that does not fit what time it has itself.

It refuses to believe the answer: it is not verified, and what it is good for is found with the causes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from sealmq.trace.live.probe import SECONDS, answer_to, in_tls12
from sealmq.trace.recording import Event
from sealmq.trace.tls.hello import ServerHello

if TYPE_CHECKING:
    from sealmq.trace.target import Target

NOT_YET_VALID, EXPIRED = 9, 10  # X509_V_ERR_… of OpenSSL's x509_vfy.h
_LARGEST_HEAD = 16 * 1024  # bytes
_APART = 5  # seconds between two answers at most


def ask(events: list[Event], target: Target) -> None:
    """Add a `probe` event of the part `clock`, when what was recorded ended at a certificate not valid at this time."""
    codes = [event.number("verify_code") for event in events if event.kind == "tls"]
    if not codes or codes[-1] not in (NOT_YET_VALID, EXPIRED):
        return
    address = next((event.text("address") for event in events if event.kind == "connected"), "")
    sent = next((event.data for event in events if event.kind == "sent"), b"")
    host, _, port = address.rpartition(":")
    peer = host.strip("[]"), int(port) if port.isdecimal() else 0
    until = time.monotonic() + SECONDS
    found, by = None, "Date header"
    if target.scheme in ("https", "wss"):
        found = _by_http(peer, target, until)
    if found is None:
        found, by = _by_random(peer, sent, until), "server random of TLS 1.2"
    facts = {"part": "clock", "answered": found is not None, "by": by, "time": found.isoformat() if found else ""}
    events.append(Event(events[-1].t_ms, "probe", facts=facts))


def _by_http(peer: tuple[str, int], target: Target, until: float) -> datetime | None:
    """The Date of an HTTP answer (RFC 9110, section 6.6.1). Nothing is shown to the server but the question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # that its certificate does not verify is why it is asked
    name = None if target.is_address else target.host
    head = b""
    try:
        with (
            socket.create_connection(peer, timeout=max(0.05, until - time.monotonic())) as sock,
            context.wrap_socket(sock, server_hostname=name) as tls,
        ):
            tls.sendall(f"HEAD / HTTP/1.1\r\nHost: {target.authority}\r\nConnection: close\r\n\r\n".encode())
            while b"\r\n\r\n" not in head and len(head) < _LARGEST_HEAD and (left := until - time.monotonic()) > 0:
                tls.settimeout(left)
                part = tls.recv(4096)
                if not part:
                    break
                head += part
    except (OSError, ValueError):
        return None
    for line in head.split(b"\r\n"):
        name_of, _, value = line.partition(b":")
        if name_of.strip().lower() == b"date":
            with contextlib.suppress(ValueError, OverflowError):
                return parsedate_to_datetime(value.decode("latin-1").strip()).astimezone(UTC)
    return None


def _by_random(peer: tuple[str, int], sent: bytes, until: float) -> datetime | None:
    """The gmt_unix_time in a server random of TLS 1.2 (RFC 5246, section 7.4.1.3); None from the many servers that
    have nothing but randomness there, which two answers show."""
    hello = in_tls12(sent)
    seen = []
    for _ in range(2):
        answer = answer_to(peer, hello, until) if hello else -1
        if not isinstance(answer, ServerHello):
            return None
        seen.append(int.from_bytes(answer.random[:4], "big"))
    return datetime.fromtimestamp(seen[1], UTC) if 0 <= seen[1] - seen[0] <= _APART else None
