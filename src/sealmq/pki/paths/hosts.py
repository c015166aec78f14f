"""The name that was asked for, held against the names in a certificate (RFC 9525; RFC 6125 for wildcards).

It knows nothing of addresses or DNS, and the common name never counts: it is only told of when it would have fitted.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from cryptography import x509

from sealmq.pki.profiles import Usage

if TYPE_CHECKING:
    from sealmq.pki.names import Host
    from sealmq.pki.paths.model import Question, Step
    from sealmq.pki.paths.steps import Place

_CHECK = "name"


def name(place: Place, question: Question) -> Step | None:
    """The certificate of a server names the host; that of a client says who it is."""
    if not place.is_leaf:
        return None
    facts = place.facts
    if question.host is None:
        return _identity(place, question)
    host, wanted = question.host, str(question.host)
    if any(_matches(one, host) for one in facts.names):
        return place.passed(_CHECK, f"it names {wanted}")
    if not any(isinstance(one, x509.DNSName | x509.IPAddress) for one in facts.names):
        if any(_dns_matches(common, wanted) or common == wanted for common in facts.common_names):
            return place.failed(
                _CHECK,
                f"{wanted} is in its common name alone, where clients no longer look",
                fault="common-name-only",
                mend=f"have it issued with subjectAltName {_as_san(host)}",
            )
    elif isinstance(host, IPv4Address | IPv6Address) and any(_is_dns(one, wanted) for one in facts.names):
        return place.failed(
            _CHECK,
            f"the address {wanted} stands in it as a DNS name, where clients do not look for addresses",
            fault="wrong-host",
            mend=f"have it issued with subjectAltName {_as_san(host)}",
        )
    named = ", ".join(str(one.value) for one in facts.names) or "no name at all"
    return place.failed(
        _CHECK,
        f"it is for {named}, not for {wanted}",
        fault="wrong-host",
        mend=f"connect under a name that is in it, or have it issued with subjectAltName {_as_san(host)}",
    )


def _identity(place: Place, question: Question) -> Step:
    facts = place.facts
    names = ", ".join(str(one.value) for one in facts.names)
    if question.purpose is Usage.SERVER:
        return place.skipped(_CHECK, f"no host was asked for; it names {names or 'none'}")
    if names or facts.common_names:
        return place.passed(_CHECK, f"it says that it is {names or facts.common_names[0]}")
    return place.noted(_CHECK, "it says of nobody that this is who it is")


def _matches(found: x509.GeneralName, host: Host) -> bool:
    if isinstance(host, IPv4Address | IPv6Address):
        return isinstance(found, x509.IPAddress) and found.value == host
    return isinstance(found, x509.DNSName) and _dns_matches(found.value, host)


def _dns_matches(pattern: str, host: str) -> bool:
    """Labels are compared without case; `*` stands for one whole label, the first, above at least two others."""
    wanted, given = host.lower().split("."), pattern.lower().removesuffix(".").split(".")
    if given[0] == "*" and len(given) > 2 and wanted[0] != "*":
        return len(wanted) == len(given) and wanted[1:] == given[1:]
    return wanted == given


def _is_dns(found: x509.GeneralName, text: str) -> bool:
    return isinstance(found, x509.DNSName) and found.value == text


def _as_san(host: Host) -> str:
    return f"{'DNS' if isinstance(host, str) else 'IP'}:{host}"
