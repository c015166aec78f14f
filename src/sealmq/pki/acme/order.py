"""One order at an ACME server: names go in, a certificate chain with a new key comes out (RFC 8555, section 7.4).

It knows nothing of files, of when to order, and of how control is shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sealmq.errors import PeerFault
from sealmq.pki import requests, signing
from sealmq.pki.acme import jws
from sealmq.pki.acme.server import refusal
from sealmq.pki.malformed import MALFORMED, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sealmq.pki.acme.challenges import Challenge
    from sealmq.pki.acme.server import AcmeServer

_POLL_SECONDS = 1.0
_POLL_LONGEST = 30.0
_POLL_AT_MOST = 300.0  # seconds for one step of the server


@dataclass(frozen=True, slots=True)
class Obtained:
    """A certificate chain, leaf first, and its key, both PEM. Prints without the key."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


def obtain(
    server: AcmeServer,
    names: Sequence[str],
    challenge: Challenge,
    *,
    replaces: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Obtained:
    """Order, show control of each name, and fetch the certificate; takes seconds to minutes.

    `replaces` is the identifier of the certificate that this one follows (RFC 9773, section 5). Raises `Refused` with
    the server's reason, `PeerFault` when it breaks the protocol, `Environment` when it cannot be reached or control
    cannot be shown.
    """
    wanted: dict[str, object] = {"identifiers": [{"type": "dns", "value": name} for name in names]}
    if replaces is not None and server.url_of("renewalInfo") is not None:
        wanted["replaces"] = replaces
    made = server.post(server.needed("newOrder"), wanted)
    place, order = _url(made.headers.get("location")), made.document()
    with challenge:
        for url in order.get("authorizations", ()):
            _authorize(server, url, challenge, sleep)
    order = _settled(server, place, {"ready", "valid"}, "order", sleep)
    key = signing.new_key()
    request = requests.load(requests.build(key, subject=x509.Name([]), names=signing.general_names(list(names))))
    csr = jws.encoded(request.public_bytes(serialization.Encoding.DER))
    server.post(_url(order.get("finalize")), {"csr": csr})
    order = _settled(server, place, {"valid"}, "order", sleep)
    chain = server.post(_url(order.get("certificate")), None).body
    return Obtained(_checked(chain, key), signing.key_pem(key))


def _authorize(server: AcmeServer, url: str, challenge: Challenge, sleep: Callable[[float], None]) -> None:
    authorization = server.post(url, None).document()
    if authorization.get("status") == "valid":  # shown for an order before this one
        return
    name = str(authorization.get("identifier", {}).get("value", ""))
    name = f"*.{name}" if authorization.get("wildcard") else name
    offered = [one for one in authorization.get("challenges", ()) if one.get("type") == challenge.kind]
    if not offered:
        kinds = ", ".join(str(one.get("type")) for one in authorization.get("challenges", ()))
        raise PeerFault(
            f"ACME server offers no {challenge.kind} for {name}, only {kinds}",
            mend="choose another tls.acme.challenge; a wildcard needs dns-01",
            code="acme-challenge",
        )
    token = str(offered[0].get("token"))
    challenge.show(name, token, server.key_authorization(token))
    server.post(_url(offered[0].get("url")), {})
    _settled(server, url, {"valid"}, f"proof of control of {name}", sleep)


def _settled(
    server: AcmeServer, url: str, wanted: set[str], what: str, sleep: Callable[[float], None]
) -> dict[str, Any]:
    """Ask until the status is one of `wanted` (section 7.1.6). Raises `Refused` when it can no longer become so."""
    waited = 0.0
    while waited <= _POLL_AT_MOST:
        answer = server.post(url, None)
        found = answer.document()
        status = found.get("status")
        if status in wanted:
            return found
        if status not in ("pending", "processing", "ready"):
            raise refusal(_problem_in(found), what)
        asked = answer.retry_after()
        pause = min(max(asked.total_seconds() if asked else _POLL_SECONDS, _POLL_SECONDS), _POLL_LONGEST)
        sleep(pause)
        waited += pause
    raise PeerFault(
        f"ACME server did not come to an end with the {what} within {_POLL_AT_MOST:.0f} s",
        mend="the next attempt comes by itself",
        code="acme-slow",
    )


def _problem_in(found: dict[str, Any]) -> dict[str, Any]:
    """The error of an order, or that of the challenge that failed in an authorization."""
    errors = [found.get("error"), *(one.get("error") for one in found.get("challenges", ()))]
    problem: dict[str, Any] = next((one for one in errors if one), {"detail": f"its status is {found.get('status')}"})
    return problem


def _checked(chain: bytes, key: signing.PrivateKey) -> bytes:
    try:
        certificates = [whole(one) for one in x509.load_pem_x509_certificates(chain)]
    except MALFORMED:
        certificates = []
    if not certificates or certificates[0].public_key() != key.public_key():
        raise PeerFault("ACME server gave a chain that is not for the key it was asked for", code="acme-answer")
    return signing.certificate_pem(*certificates)


def _url(found: object) -> str:
    if not isinstance(found, str):
        raise PeerFault("ACME server left out a URL that RFC 8555 wants", code="acme-answer")
    return found
