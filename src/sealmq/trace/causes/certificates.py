"""Causes in the server's certificate, by OpenSSL's verify code and by what stands in the chain.

It refuses to verify anything anew: OpenSSL's refusal is the fact, the chain tells what it was about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.causes import clocks
from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.tls import certificates

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from sealmq.trace.causes.evidence import Evidence

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_BY_CODE = {
    7: "certificate-bad-signature",
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "self-signed",
    19: "untrusted-issuer",
    23: "revoked",
    24: "not-a-ca",
    25: "path-length",
    26: "certificate-wrong-purpose",
    34: "unknown-critical-extension",
    47: "name-constraint",
    48: "name-constraint",
    62: "wrong-host",
    64: "wrong-host",
    66: "weak-key",
    67: "weak-key",
    68: "weak-signature",
    79: "not-a-ca",
}
_NO_ISSUER = {2, 20, 21}
_OF_TIME = {9, 10, 11}  # the last is of a revocation list that is not valid yet


def find(evidence: Evidence) -> Found | None:
    """A cause, None when the certificate was not what failed."""
    code = evidence.verify_code
    if not code:
        return None
    chain = [found for der in evidence.tls.server_chain if (found := certificates.load(der)) is not None]
    slug = _BY_CODE.get(code, "certificate-invalid")
    if code in _NO_ISSUER:
        slug = _without_issuer(chain, evidence)
    if slug == "wrong-host" and chain and not certificates.alternative_names(chain[0]):
        slug = "common-name-only"
    subject = _culprit(slug, chain, evidence.started)
    words = [f"verify code {code}"]
    values = _values(subject, chain, evidence)
    if subject is not None:
        words.append(_field(slug, subject, values))
    if subject is not None and code in _OF_TIME:
        wrong_clock = clocks.find(evidence, subject, chain)
        if wrong_clock is not None:
            words.append(wrong_clock.evidence)
            return Found(wrong_clock.slug, "; ".join(words), "here", values | wrong_clock.values)
        words.append(clocks.agreement(evidence))
    return Found(slug, "; ".join(word for word in words if word), "here", values | {"code": code})


def _without_issuer(chain: list[x509.Certificate], evidence: Evidence) -> str:
    """Code 20 is one of two: the chain breaks off below an anchor that is trusted here, or it leads elsewhere.

    An intermediate is missing when the leaf came alone and an anchor is known that did not issue it; whether that
    anchor issued the missing certificate nobody can tell, but a server that sends its leaf alone is wrong either way
    unless the leaf's issuer is a root that it does not have to send.
    """
    if not chain:
        return "untrusted-issuer"
    last = chain[-1]
    if len(chain) == 1 and _is_root_like(last):
        return "self-signed"
    if evidence.anchors is not None:
        issuer = certificates.issuer(last)
        known = {subject for subject, _ in evidence.anchors}
        if issuer in known:  # an anchor of that name with another key
            return "untrusted-issuer"
        if len(chain) == 1 and not _is_root_like(last):
            return "missing-intermediate"
        return "untrusted-issuer"
    return "missing-intermediate" if len(chain) == 1 else "untrusted-issuer"


def _is_root_like(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _culprit(slug: str, chain: list[x509.Certificate], now: datetime) -> x509.Certificate | None:
    """The certificate that a cause is about."""
    if slug == "certificate-expired":
        return next((one for one in chain if one.not_valid_after_utc < now), chain[0] if chain else None)
    if slug == "certificate-not-yet-valid":
        return next((one for one in chain if one.not_valid_before_utc > now), chain[0] if chain else None)
    if slug in ("untrusted-issuer", "missing-intermediate"):
        return chain[-1] if chain else None
    return chain[0] if chain else None


def _values(
    certificate: x509.Certificate | None, chain: list[x509.Certificate], evidence: Evidence
) -> dict[str, object]:
    if certificate is None or not chain:
        return dict.fromkeys(("subject", "issuer", "names", "usages", "date", "ago"), "(unreadable)")
    expired = certificate.not_valid_after_utc < evidence.started
    edge = certificate.not_valid_after_utc if expired else certificate.not_valid_before_utc
    return {
        "subject": certificates.subject(certificate),
        "issuer": certificates.issuer(certificate),
        "names": ", ".join(certificates.alternative_names(chain[0])) or "no name at all",
        "usages": ", ".join(certificates.usages(certificate)) or "any purpose",
        "date": f"{edge:%Y-%m-%d %H:%M} UTC",
        "ago": clocks.span(evidence.started - edge),
    }


def _field(slug: str, certificate: x509.Certificate, values: dict[str, object]) -> str:
    match slug:
        case "certificate-expired":
            return f"not_after {values['date']}"
        case "certificate-not-yet-valid":
            return f"not_before {values['date']}"
        case "wrong-host":
            return f"subject alternative names {values['names']}"
        case "common-name-only":
            return f"no subject alternative name, subject {values['subject']}"
        case "self-signed":
            return f"subject and issuer {values['subject']}"
        case "untrusted-issuer" | "missing-intermediate":
            return f"issuer {values['issuer']}, not among the certificates sent or trusted"
        case "certificate-wrong-purpose":
            return f"extended key usage {values['usages']}"
    return f"serial {certificates.serial(certificate)}"
