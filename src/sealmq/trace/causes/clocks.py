"""Whose clock is wrong when a certificate is not valid now: its dates, or the time that this machine has?

It refuses to decide without a witness: a signed time that this machine puts into the future, or the server's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sealmq.trace.causes.diagnosis import Found
from sealmq.trace.tls import certificates

if TYPE_CHECKING:
    from cryptography import x509

    from sealmq.trace.causes.evidence import Evidence

RELEASED = datetime(2026, 11, 20, tzinfo=UTC)
"""No sealmq with this rule is older: a clock before that is behind. May be moved on with any release."""
SLACK = timedelta(minutes=5)
"""By which clocks may differ without one being called wrong."""


def find(evidence: Evidence, subject: x509.Certificate, chain: list[x509.Certificate]) -> Found | None:
    """The cause, when it is this machine's clock and not the certificate of `subject`; None without a witness."""
    now = evidence.started
    values: dict[str, object] = {"subject": certificates.subject(subject)}
    if (theirs := evidence.server_time) is not None and _is_valid(subject, theirs) and abs(theirs - now) > SLACK:
        said = f"clock of the server: {_shown(theirs)} ({evidence.server_time_by}), when its certificate is valid"
        return Found("clock-wrong-here", said, "here", values | _by(now, theirs))
    if subject.not_valid_after_utc < now:  # a clock that is behind makes nothing expire
        return None
    witness = max(_signed_times(evidence, subject, chain), key=lambda one: one[1])
    if witness[1] <= now + SLACK:
        return None
    return Found("clock-wrong-here", f"{witness[0]} {_shown(witness[1])}", "here", values | _by(now, witness[1]))


def agreement(evidence: Evidence) -> str:
    """That the server's clock agrees with this one, as evidence; empty when it does not, or was not seen."""
    theirs = evidence.server_time
    if theirs is None or abs(theirs - evidence.started) > SLACK:
        return ""
    return f"the clock of the server agrees with this one ({evidence.server_time_by})"


def span(length: timedelta) -> str:
    """A length of time in its largest unit: `3 days`."""
    seconds = abs(int(length.total_seconds()))
    for unit, size in (("year", 31_557_600), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


def _signed_times(
    evidence: Evidence, subject: x509.Certificate, chain: list[x509.Certificate]
) -> list[tuple[str, datetime]]:
    """Times that have come already, each with what says so."""
    issuers = [one for one in chain if one.subject == subject.issuer and one is not subject]
    return [
        ("this sealmq was released on", RELEASED),
        *evidence.times,
        *((f"its issuer {certificates.subject(one)} exists since", one.not_valid_before_utc) for one in issuers),
    ]


def _is_valid(certificate: x509.Certificate, when: datetime) -> bool:
    return certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc


def _by(now: datetime, then: datetime) -> dict[str, object]:
    direction = "behind" if then > now else "ahead"
    return {"direction": direction, "off": span(then - now), "at_least": "at least " if then > now else ""}


def _shown(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
