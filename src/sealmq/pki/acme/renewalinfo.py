"""When an ACME server suggests to renew a certificate: ACME Renewal Information (RFC 9773).

It knows nothing of what is done with the suggestion.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from sealmq.errors import PeerFault
from sealmq.pki.acme.jws import encoded

if TYPE_CHECKING:
    from sealmq.pki.acme.server import AcmeServer

ASK_AGAIN = timedelta(hours=6)
"""When a server does not say when to ask again (section 4.3)."""

_SOONEST, _LATEST = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Renew between `start` and `end`, at a time of one's own choice; ask for it anew after `ask_again`."""

    start: datetime
    end: datetime
    ask_again: timedelta


def identifier(certificate: x509.Certificate) -> str | None:
    """How ACME calls a certificate (section 4.1): issuer's key and serial; None when it names no issuer's key."""
    try:
        key = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    serial = certificate.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1)  # as DER has it: a leading zero where the top bit is set
    return None if key is None else f"{encoded(key)}.{encoded(octets)}"


def suggested_window(server: AcmeServer, certificate: x509.Certificate) -> Window | None:
    """What the server suggests, None when it has no such service. Raises `PeerFault` or `Environment`."""
    place, name = server.url_of("renewalInfo"), identifier(certificate)
    if place is None or name is None:
        return None
    answer = server.fetch(f"{place.rstrip('/')}/{name}")
    start, end = _edges(answer.document().get("suggestedWindow"))
    return Window(start, end, min(max(answer.retry_after() or ASK_AGAIN, _SOONEST), _LATEST))


def _edges(suggested: Any) -> tuple[datetime, datetime]:  # noqa: ANN401 - whatever JSON can carry
    try:
        start, end = (datetime.fromisoformat(suggested[edge]) for edge in ("start", "end"))
        if start < end and start.tzinfo is not None:  # TypeError when only one has a time zone
            return start, end
    except (TypeError, KeyError, ValueError):
        pass
    raise PeerFault("ACME server suggests a renewal window that is none", code="acme-answer")
