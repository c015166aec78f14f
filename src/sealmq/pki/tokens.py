"""One-time enrolment tokens: made, hashed, and carried to a device in a URI together with the pin of the CA.

It knows nothing of what a token opens; `enrolment` does.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

from sealmq.errors import UsageError
from sealmq.pki.names import check_device_id

TOKEN_LIFETIME = timedelta(hours=24)
SCHEME = "sealmq-enrol"
_TOKEN_BYTES = 16
_TOKEN = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PIN = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


def new_token() -> str:
    """128 bits from the system's random source, as 32 hex digits: no character that a shell or a URI would mind."""
    return secrets.token_hex(_TOKEN_BYTES)


def token_hash(token: str) -> str:
    """What is stored of a token. A plain hash is enough for 128 random bits: there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EnrolmentUri:
    """All that a device needs for its first contact: where, who, the token, and the SHA-256 of the CA's public key.

    Its text is `sealmq-enrol://HOST:PORT/?id=ID&token=TOKEN&pin=sha256:HEX`. Prints without the token.
    """

    host: str
    port: int
    device_id: str
    token: str = field(repr=False)
    pin: str

    @classmethod
    def parse(cls, text: str) -> EnrolmentUri:
        """The parts of a URI. Raises `UsageError` with code `enrolment-uri-invalid`; the text is not repeated."""
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
            found = parse_qs(parts.query, strict_parsing=True)
            (device_id,), (token,), (pin,) = found["id"], found["token"], found["pin"]
            matched = _PIN.fullmatch(pin)
        except (ValueError, KeyError):
            raise _invalid() from None
        if parts.scheme != SCHEME or not host or not port or not _TOKEN.fullmatch(token) or matched is None:
            raise _invalid()
        return cls(host, port, check_device_id(device_id), token, matched[1])

    def __str__(self) -> str:
        query = urlencode({"id": self.device_id, "token": self.token, "pin": f"sha256:{self.pin}"}, safe=":")
        return f"{SCHEME}://{self._where}/?{query}"

    @property
    def server_url(self) -> str:
        """Where to enrol."""
        return f"https://{self._where}"

    @property
    def _where(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _invalid() -> UsageError:
    return UsageError(
        f"enrolment URI is not of the form {SCHEME}://HOST:PORT/?id=ID&token=TOKEN&pin=sha256:HEX",
        mend="copy the whole of what `sealmq device add ID --token` printed, in quotes",
        code="enrolment-uri-invalid",
    )
