"""Causes that the server names with an alert, read together with what both sides had said before.

It refuses to take an alert's name for the whole story: handshake_failure after an empty client Certificate means
another thing than after a ClientHello.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.tls import certificates, names

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from sealmq.trace.causes.evidence import Evidence

# RFC 8446, section 6.2
HANDSHAKE_FAILURE, CERTIFICATE_REQUIRED = 40, 116
# one alert for several faults: OpenSSL's for dates to come, rustls' for all dates, GnuTLS' for everything
_VAGUE = frozenset({42, 45, 46, 49})
_MISSED = {
    "suite": "no-common-cipher",
    "group": "no-common-group",
    "signature": "no-common-signature",
    "version": "tls-version-too-old",
}


def find(evidence: Evidence) -> Found | None:
    """A cause, None without an alert."""
    if evidence.alert_received >= 0:
        return _received(evidence, evidence.alert_received)
    if evidence.wrong_proof:
        slug = "bad-finished" if "verify_data" in evidence.wrong_proof else "bad-proof"
        return Found(slug, evidence.wrong_proof, "here")
    if evidence.alert_sent >= 0:
        return _sent(evidence, evidence.alert_sent)
    return None


def _received(evidence: Evidence, number: int) -> Found:
    said = f"alert {number} {names.alert(number)} from the server"
    facts = evidence.tls
    if (
        facts.client_answered
        and not facts.client_chain
        and (number in names.CERTIFICATE_ALERTS or number == HANDSHAKE_FAILURE)
    ):
        return Found(
            "no-client-certificate", f"{said}, after a client Certificate message without certificates", "server"
        )
    if number == CERTIFICATE_REQUIRED:
        return Found("no-client-certificate", said, "server")
    if facts.client_chain and number in names.CERTIFICATE_ALERTS:
        return _client_certificate(evidence, number, said)
    simple = {70: "tls-version-too-old", 71: "no-common-cipher", 112: "unrecognized-name", 120: "no-common-alpn"}
    if number in simple:
        return Found(simple[number], said, "server")
    if number == HANDSHAKE_FAILURE and evidence.missed in _MISSED:
        part = evidence.missed
        return Found(_MISSED[part], f"{said}; with every {part} there is in the ClientHello it goes on", "server")
    if number == HANDSHAKE_FAILURE and facts.server_hello is None:
        return Found("handshake-failure", f"{said}, in answer to the ClientHello", "server")
    return Found("peer-alert", said, "server", {"alert": f"{names.alert(number)} ({number})"})


def _client_certificate(evidence: Evidence, number: int, said: str) -> Found:
    leaf = certificates.load(evidence.tls.client_chain[0])
    values: dict[str, object] = {
        "client": "this client",
        "issuer": "its issuer",
        "date": "",
        "alert": names.alert(number),
    }
    slug = {
        43: "certificate-wrong-purpose",
        44: "certificate-revoked",
        45: "certificate-expired",
        48: "untrusted-issuer",
        51: "certificate-bad-signature",
    }.get(number, "certificate-invalid")
    if leaf is not None:
        values |= {
            "client": certificates.subject(leaf),
            "issuer": certificates.issuer(leaf),
            "date": f"{_edge(leaf, evidence.started):%Y-%m-%d %H:%M} UTC",
        }
        if number in _VAGUE:
            slug = _plain_to_see(leaf, evidence.started) or slug
    late = ", after this side had finished the handshake" if evidence.established else ""
    return Found(slug, f"{said}{late}", "server", values)


def _plain_to_see(leaf: x509.Certificate, now: datetime) -> str:
    """The fault that a certificate shows by itself, empty when it shows none."""
    if leaf.not_valid_after_utc < now:
        return "certificate-expired"
    if leaf.not_valid_before_utc > now:
        return "certificate-not-yet-valid"
    usages = set(certificates.usages(leaf))
    is_for_clients = not usages or usages & {"clientAuth", "anyExtendedKeyUsage"}
    return "" if is_for_clients else "certificate-wrong-purpose"


def _edge(leaf: x509.Certificate, now: datetime) -> datetime:
    return leaf.not_valid_before_utc if leaf.not_valid_before_utc > now else leaf.not_valid_after_utc


def _sent(evidence: Evidence, number: int) -> Found:
    said = f"alert {number} {names.alert(number)} from this side"
    if number == 70:
        return Found("tls-version-too-old", said, "here")
    if evidence.malformed:
        return Found("malformed-tls", f"{said}; {evidence.malformed}", "here")
    return Found("handshake-broken", said, "here", {"alert": f"{names.alert(number)} ({number})"})
