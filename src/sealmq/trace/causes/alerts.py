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
    from sealmq.trace.model import StoppedBy
    from sealmq.trace.tls.decode import Facts

# RFC 8446, section 6.2
HANDSHAKE_FAILURE, PROTOCOL_VERSION, CERTIFICATE_REQUIRED = 40, 70, 116
# one alert for several faults: OpenSSL's for dates to come, rustls' for all dates, GnuTLS' for everything
_VAGUE = frozenset({42, 45, 46, 49})
_MISSED = {
    "suite": "no-common-cipher",
    "group": "no-common-group",
    "signature": "no-common-signature",
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
    if facts.client_answered and not facts.client_chain and number in names.NO_CERTIFICATE_ALERTS:
        when = "after a client Certificate message without certificates"
        return Found("no-client-certificate", f"{said}, {when}", "server")
    if number == CERTIFICATE_REQUIRED:
        return Found("no-client-certificate", said, "server")
    if facts.client_chain and number in names.CERTIFICATE_ALERTS:
        return _client_certificate(evidence, number, said)
    if number == PROTOCOL_VERSION or (number == HANDSHAKE_FAILURE and evidence.missed == "version"):
        return _version(evidence, said, "server")
    simple = {71: "no-common-cipher", 112: "unrecognized-name", 120: "no-common-alpn"}
    if number in simple:
        return Found(simple[number], said, "server")
    if number == HANDSHAKE_FAILURE and evidence.missed in _MISSED:
        more = f"with every {evidence.missed} there is in the ClientHello it goes on"
        return Found(_MISSED[evidence.missed], f"{said}; {more}", "server")
    if number == HANDSHAKE_FAILURE and facts.server_hello is None:
        return Found("handshake-failure", f"{said}, in answer to the ClientHello", "server")
    return Found("peer-alert", said, "server", {"alert": f"{names.alert(number)} ({number})"})


def _version(evidence: Evidence, said: str, by: StoppedBy) -> Found:
    """Who is too old, is told by what the server goes on with when it is offered every version."""
    spoken = evidence.would_speak
    values: dict[str, object] = {"but": f", it would speak {spoken}" if spoken else ""}
    if spoken in ("TLS 1.2", "TLS 1.3"):
        values |= {"remedy": f"offer {spoken} as well: leave --tls out", "more": ""}
    else:
        remedy = "let the server speak TLS 1.2 or 1.3; to look at an old one all the same, trace it with --legacy"
        values |= {"remedy": remedy, "more": " --legacy"}
    more = f"; offered every version, it goes on in {spoken}" if spoken else ""
    return Found("tls-version-too-old", f"{said}{more}", by, values)


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
        44: "revoked",
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
        if slug == "certificate-invalid" and _is_of_another_issuer(evidence.tls):
            slug, said = "untrusted-issuer", f"{said}; it asked for one of {evidence.tls.wanted_issuers}"
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


def _is_of_another_issuer(facts: Facts) -> bool:
    """Whether the server named the issuers it wants and no certificate of the chain is of one of them."""
    if not facts.wanted_issuers or "…" in facts.wanted_issuers:
        return False
    chain = [found for der in facts.client_chain if (found := certificates.load(der)) is not None]
    return not any(certificates.issuer(one) in facts.wanted_issuers for one in chain)


def _edge(leaf: x509.Certificate, now: datetime) -> datetime:
    return leaf.not_valid_before_utc if leaf.not_valid_before_utc > now else leaf.not_valid_after_utc


def _sent(evidence: Evidence, number: int) -> Found:
    said = f"alert {number} {names.alert(number)} from this side"
    if number == PROTOCOL_VERSION:
        return _version(evidence, said, "here")
    if evidence.malformed:
        return Found("malformed-tls", f"{said}; {evidence.malformed}", "here")
    return Found("handshake-broken", said, "here", {"how": f"with the alert {names.alert(number)} ({number})"})
