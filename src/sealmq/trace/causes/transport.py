"""Causes below TLS and beside it: no address, no connection, no TLS on the port.

It refuses to know certificates and MQTT sessions; first bytes are enough to tell MQTT, HTTP and SSH apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.fields import printable

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence


def find(evidence: Evidence) -> Found | None:
    """A cause, None when none of these fits."""
    if evidence.how == "dns":
        return Found(
            "dns", f"the resolver's answer {evidence.errno}" if evidence.errno else "the resolver did not answer"
        )
    if evidence.stage == "connect":
        return _not_connected(evidence)
    if evidence.not_tls and not evidence.tls.server_hello:
        slug = what_is_it(evidence.first_bytes)
        if (
            slug == "not-tls"
            and evidence.malformed
            and evidence.first_bytes[:1] in (b"\x14", b"\x15", b"\x16", b"\x17")
        ):
            return Found("malformed-tls", _quoted(evidence.first_bytes), "here")
        return Found(slug, _quoted(evidence.first_bytes), "here")
    return None


def what_is_it(data: bytes) -> str:
    """Which protocol begins like that, as a slug."""
    if data.startswith((b"HTTP/", b"<!DO", b"<htm", b"GET ", b"POST")):
        return "plaintext-http"
    if data.startswith(b"SSH-"):
        return "ssh"
    # a CONNACK (MQTT 3.1.1, section 3.2), and a DISCONNECT of MQTT 5.0 as an answer to what was no CONNECT
    if len(data) >= 2 and (
        (data[0] == 0x20 and data[1] + 2 <= max(len(data), 4)) or (data[0] == 0xE0 and data[1] < 128)
    ):
        return "plaintext-mqtt"
    return "not-tls"


def _not_connected(evidence: Evidence) -> Found | None:
    number = f"errno {evidence.errno}" if evidence.errno else "no answer"
    slugs = {"refused": "connection-refused", "timeout": "connect-timeout", "unreachable": "unreachable"}
    if evidence.how in slugs:
        by = "server" if evidence.how == "refused" else "network"
        return Found(slugs[evidence.how], f"connect: {number}", "server" if by == "server" else "network")
    if evidence.how == "reset":
        return Found("connection-reset", f"connect: {number}", "server", {"when": "while it was opened"})
    return None


def _quoted(data: bytes) -> str:
    return f"first bytes {data[:16].hex(' ')}  {printable(data[:16])!r}"
