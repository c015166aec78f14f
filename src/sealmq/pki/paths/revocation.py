"""Revocation lists: whether the issuer of a certificate has taken it back (RFC 5280, section 6.3).

It knows nothing of where lists come from. One that is past its time still tells what was revoked, and does not refuse
what it does not list: a CA that forgot to sign a list must not lock a fleet out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from sealmq.pki.malformed import MALFORMED

if TYPE_CHECKING:
    from sealmq.pki.paths.facts import Facts
    from sealmq.pki.paths.model import Question, Step
    from sealmq.pki.paths.steps import Place

_CHECK = "revocation"


def revocation(place: Place, question: Question) -> Step | None:
    """A list signed by the issuer of the certificate at this place does not name it."""
    if place.is_anchor or place.link is None:
        return None
    if not question.crls:
        return place.skipped(_CHECK, "no revocation list was given")
    certificate = place.facts.certificate
    issuer = place.candidate.path[place.position + 1]
    named = [crl for crl in question.crls if _is_of(crl, place.facts.issuer)]
    usable = [crl for crl in named if not (unusable_reason(crl, issuer))]
    if not named:
        return place.skipped(_CHECK, "no revocation list of its issuer was given")
    if not usable:
        return place.noted(_CHECK, f"the list of its issuer cannot be used: {unusable_reason(named[0], issuer)}")
    for crl in usable:
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None:
            return place.failed(
                _CHECK,
                f"its issuer revoked it on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC{_reason(entry)}",
                fault="certificate-revoked",
                mend="get a new certificate, with a new key when the old one may be known to others",
            )
    latest = max(usable, key=lambda crl: crl.last_update_utc)
    due = latest.next_update_utc
    if due is not None and due < question.at:
        return place.noted(_CHECK, f"not revoked, but that list was due for renewal on {due:%Y-%m-%d %H:%M} UTC")
    return place.passed(_CHECK, f"not on the list of {latest.last_update_utc:%Y-%m-%d %H:%M} UTC")


def unusable_reason(crl: x509.CertificateRevocationList, issuer: Facts) -> str:
    """Why a list says nothing about what `issuer` issued, empty when it does."""
    try:
        unknown = [one.oid.dotted_string for one in crl.extensions if one.critical]
        is_signed = issuer.key is not None and crl.is_signature_valid(issuer.key)  # type: ignore[arg-type]
    except MALFORMED:
        return "it is damaged"
    usage = issuer.find(x509.KeyUsage)
    if not is_signed:
        return "another key signed it"
    if usage is not None and not usage.crl_sign:
        return "its issuer may not sign lists (keyUsage without cRLSign)"
    if unknown:
        return f"it covers only a part of what was issued (critical extension {', '.join(unknown)})"
    return ""


def _is_of(crl: x509.CertificateRevocationList, issuer: x509.Name) -> bool:
    try:
        return crl.issuer == issuer
    except MALFORMED:
        return False


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return f" ({entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value})"
    except (x509.ExtensionNotFound, *MALFORMED):
        return ""
