"""Talking to one ACME server: its directory, its nonces, and what it says when it refuses (RFC 8555, sections 6 and 7).

It knows nothing of orders and challenges. Only `https` is spoken, and nothing is followed elsewhere.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sealmq.errors import ConfigError, Environment, PeerFault
from sealmq.pki.acme import jws

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric import ec

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

_SECONDS = 30.0
_LARGEST = 1 << 20  # bytes of an answer; a chain has a few thousand
_NONCE_TRIES = 5
_LONGEST_WAIT = timedelta(days=1)
_PROBLEM = "urn:ietf:params:acme:error:"
_JOSE = "application/jose+json"


class Refused(PeerFault):
    """The ACME server refused a request; `code` is `acme-` and the problem's type, `retry_after` when to come back."""

    def __init__(self, message: str, *, mend: str, code: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message, mend=mend, code=code)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `PeerFault` with code `acme-answer` when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise PeerFault("ACME server answered with something that is no JSON object", code="acme-answer")
        return found

    def retry_after(self) -> timedelta | None:
        """How long the server asks to wait (RFC 9110, section 10.2.3), a day at most; None when it does not say."""
        text = self.headers.get("retry-after", "")
        if re.fullmatch(r"[0-9]{1,9}", text):
            return min(timedelta(seconds=int(text)), _LONGEST_WAIT)
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        wait = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)
        return min(max(wait, timedelta(0)), _LONGEST_WAIT)


@dataclass
class AcmeServer:
    """One server and one account on it, which is made when it does not exist; not to be shared by threads.

    `key` is the account's, `contact` a mail address or empty; `context` says whom to believe that he is the server.
    Using it means agreeing to the server's terms of service.
    """

    directory_url: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    contact: str
    context: ssl.SSLContext = field(repr=False)
    _directory: dict[str, Any] | None = None
    _nonces: list[str] = field(default_factory=list, repr=False)
    _account: str | None = None

    def url_of(self, resource: str) -> str | None:
        """The URL of a resource of the directory (RFC 8555, section 7.1.1), None when the server does not offer it."""
        if self._directory is None:
            self._directory = self._checked(self._send("GET", self.directory_url), self.directory_url).document()
        found = self._directory.get(resource)
        return found if isinstance(found, str) else None

    def needed(self, resource: str) -> str:
        """Like `url_of`. Raises `PeerFault` with code `acme-directory` when the server does not offer it."""
        found = self.url_of(resource)
        if found is None:
            raise PeerFault(
                f"directory {self.directory_url} has no {resource}",
                mend="give the URL of an ACME directory (RFC 8555) in tls.acme.directory",
                code="acme-directory",
            )
        return found

    def fetch(self, url: str) -> Answer:
        """An answer to an unsigned GET. Raises `Refused`, `PeerFault` or `Environment`."""
        return self._checked(self._send("GET", url), url)

    def post(self, url: str, payload: Mapping[str, object] | None) -> Answer:
        """An answer to a request of this account; `payload` None reads. Raises what `fetch` does."""
        return self._post(url, payload, account=self._account or self._open_account())

    def key_authorization(self, token: str) -> str:
        """What a challenge with that token wants to see."""
        return jws.key_authorization(token, self.key)

    def _open_account(self) -> str:
        contact = [f"mailto:{self.contact}"] if self.contact else []
        wanted = {"termsOfServiceAgreed": True, "contact": contact}
        self._account = self._post(self.needed("newAccount"), wanted, account=None).headers.get("location")
        if self._account is None:
            raise PeerFault("ACME server made an account and did not say where", code="acme-answer")
        return self._account

    def _post(self, url: str, payload: Mapping[str, object] | None, *, account: str | None) -> Answer:
        tries = 0
        while True:
            nonce = self._nonces.pop() if self._nonces else self._new_nonce()
            body = jws.signed(payload, key=self.key, url=url, nonce=nonce, account=account)
            answer = self._send("POST", url, body)
            tries += 1
            # RFC 8555, section 6.5: again, with the nonce that came with the refusal
            if tries == _NONCE_TRIES or not _is_bad_nonce(answer):
                return self._checked(answer, url)

    def _new_nonce(self) -> str:
        self._send("HEAD", self.needed("newNonce"))
        if not self._nonces:
            raise PeerFault("ACME server gave no nonce", code="acme-answer")
        return self._nonces.pop()

    def _send(self, method: str, url: str, body: bytes | None = None) -> Answer:
        place = urlsplit(url)
        if place.scheme != "https" or not place.hostname:
            raise ConfigError(
                f"ACME URL {url!r} is not an https URL", mend="check tls.acme.directory", code="acme-directory"
            )
        headers = {"User-Agent": "sealmq", "Accept-Language": "en"} | ({"Content-Type": _JOSE} if body else {})
        connection = http.client.HTTPSConnection(
            place.hostname, place.port or 443, timeout=_SECONDS, context=self.context
        )
        try:
            target = (place.path or "/") + (f"?{place.query}" if place.query else "")
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            data = answer.read(_LARGEST + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
            raise Environment(
                f"ACME server {place.hostname} cannot be reached: {reason.lower() or type(error).__name__}",
                mend="check the network, tls.acme.directory and tls.acme.ca_file",
                code="acme-unreachable",
            ) from None
        finally:
            connection.close()
        if len(data) > _LARGEST:
            raise PeerFault(f"ACME server answered with more than {_LARGEST} bytes", code="acme-answer")
        found = {name.lower(): value for name, value in answer.getheaders()}
        if "replay-nonce" in found:
            self._nonces.append(found["replay-nonce"])
        return Answer(answer.status, found, data)

    def _checked(self, answer: Answer, url: str) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        raise refusal(_problem(answer), f"request to {urlsplit(url).path}", answer.status, answer.retry_after())


def refusal(
    problem: Mapping[str, Any], what: str, status: int | None = None, retry_after: timedelta | None = None
) -> Refused:
    """A problem document (RFC 7807; RFC 8555, section 6.7) as an error, with the sub-problems of single names."""
    slug = str(problem.get("type", "")).removeprefix(_PROBLEM) or "unknown"
    details = [_line(problem.get("detail", ""))]
    for one in problem.get("subproblems", ()):
        name = one.get("identifier", {}).get("value", "")
        details.append(_line(f"{name}: {one.get('detail', '')}"))
    said = "; ".join(detail for detail in details if detail) or f"status {status}"
    return Refused(
        f"ACME server refused the {what}: {said}",
        mend=_MENDS.get(slug, "see what the server says, and its documentation"),
        code=f"acme-{slug}",
        retry_after=retry_after,
    )


_MENDS = {
    "rateLimited": "wait: the next attempt comes by itself; until then the certificate of the built-in CA is shown",
    "externalAccountRequired": "choose a server in tls.acme.directory that takes accounts without external binding",
    "rejectedIdentifier": "check tls.acme.names: the server certifies public names only",
    "dns": "let the name resolve to this machine (http-01), or see what the hook wrote (dns-01)",
    "connection": "port 80 of the name must reach tls.acme.http_address of this machine",
    "unauthorized": "port 80 of the name must reach this machine and no other server",
    "incorrectResponse": "port 80 of the name must reach this machine; for dns-01 see what the hook wrote",
    "caa": "let the CAA records of the name allow this server, or choose another",
    "invalidContact": "check tls.acme.email",
    "unsupportedContact": "check tls.acme.email",
}


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        return answer.document()
    except PeerFault:
        return {}


def _is_bad_nonce(answer: Answer) -> bool:
    return answer.status == 400 and _problem(answer).get("type") == f"{_PROBLEM}badNonce"


def _line(text: object) -> str:
    """What a server says, as one line that cannot forge another one in a log."""
    return "".join(one if one.isprintable() else " " for one in str(text))[:300].strip().rstrip(".")
