"""Everything that a CONNECT says and where it goes: what the blocking and the asynchronous client open alike.

It refuses to hold a connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from sealmq.errors import UsageError
from sealmq.tls.presharedkey import Psk

if TYPE_CHECKING:
    from sealmq.client.identity import Identity
    from sealmq.client.message import Will
    from sealmq.client.target import Target
    from sealmq.tls.policy import Version as TlsVersion

Version = Literal["5.0", "3.1.1"]


class OpeningOptions(TypedDict, total=False):
    """The fields of `Opening` besides the target, as keyword arguments."""

    client_id: str
    version: Version
    keep_alive: int
    clean_start: bool
    session_expiry: int | None
    server_name: str | None
    tls_version: TlsVersion | None
    timeout: float
    username: str | None
    password: str | None
    will: Will | None
    user: tuple[tuple[str, str], ...]
    bounds: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """`client_id` empty: the server assigns one. `session_expiry` in seconds (MQTT 5). `tls_version` None: 1.3, or 1.2
    where the server has no more; else that one alone. Prints without the password.
    """

    target: Target
    client_id: str = ""
    version: Version = "5.0"
    keep_alive: int = 60
    clean_start: bool = True
    session_expiry: int | None = None
    server_name: str | None = None
    tls_version: TlsVersion | None = None
    timeout: float = 10.0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    will: Will | None = None
    user: tuple[tuple[str, str], ...] = ()
    bounds: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `UsageError` for what MQTT 3.1.1 cannot say, and for a version of TLS where there is none."""
        if self.tls_version is not None and self.target.is_plaintext:
            raise UsageError(
                f"URL {self.target} has no TLS, and a version of it is asked for",
                mend="write mqtts://, or leave the version out",
            )
        if self.version == "3.1.1" and (self.session_expiry is not None or self.user):
            raise UsageError(
                "MQTT 3.1.1 has no properties, and no session expiry",
                mend="use MQTT 5, or leave them out (-c keeps a session)",
            )

    def as_json(self, identity: Identity | Psk, *, clean_start: bool) -> str:
        """The configuration that `_engine.Client.open` takes. Raises `UsageError` for an identity of the other kind."""
        check_kind(self.target, is_psk=isinstance(identity, Psk))
        properties: dict[str, Any] = {}
        if self.session_expiry is not None:
            properties["session_expiry"] = self.session_expiry
        if self.user:
            properties["user"] = [list(pair) for pair in self.user]
        config = {
            "scheme": self.target.scheme,
            "host": self.target.host,
            "port": self.target.port,
            "path": self.target.path,
            "server_name": self.server_name,
            "version": self.version,
            "client_id": self.client_id,
            "keep_alive": self.keep_alive,
            "clean_start": clean_start,
            "username": self.username,
            "password_hex": None if self.password is None else self.password.encode().hex(),
            "properties": properties,
            "will": None if self.will is None else self.will.as_config(),
            "bounds": self.bounds,
            "timeout_ms": int(self.timeout * 1000),
        }
        if self.tls_version is not None:
            config["tls_versions"] = self.tls_version
        return json.dumps(config | identity.as_config())


def check_kind(target: Target, *, is_psk: bool) -> None:
    """Whether what proves the client is of the kind that the URL names. Raises `UsageError`."""
    if target.is_psk and not is_psk:
        raise UsageError(
            f"URL {target} is for a pre-shared key, and none is given",
            mend="give --psk-file FILE, or --as ID for a device that has one; in a program sealmq.Psk",
        )
    if is_psk and not target.is_psk:
        raise UsageError(
            f"URL {target} is for certificates, and a pre-shared key is given",
            mend="write mqtts+psk://HOST[:8884], the port that `sealmq up --psk` prints",
        )
