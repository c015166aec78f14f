"""A trace as data: what was done, step by step, what was true after each step, and how it ended.

It refuses to know how a trace is made or shown. `to_json` and `from_json` are the stable form: names are only added,
and `schema` counts up when one must change its meaning.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from sealmq.errors import LocalMisuse
from sealmq.trace.fields import Field  # noqa: TC001 - `from_json` resolves the annotations

SCHEMA = 1

Who = Literal["client", "server", "here"]
"""`client` and `server` send; `here` is something that this side does by itself, with nothing on the wire."""
Protection = Literal["none", "plain", "handshake", "application", "tls12"]
"""`none` where there is no TLS yet; `plain` TLS records in clear; then the keys of TLS 1.3, or those of TLS 1.2."""
Seat = Literal["client", "broker"]
"""From where it was seen: `here` and `this side` are that side, `sent` is what it sent."""
StoppedBy = Literal["here", "client", "server", "network"]
KeyExchange = Literal["", "key-transport", "key-agreement", "hybrid-pq", "psk"]
"""`key-transport`: the client sends the secret, encrypted to the key in the certificate. `key-agreement`: both compute
it (Diffie-Hellman). `hybrid-pq`: the same with a post-quantum part. `psk`: it comes from a key both had before, in
which a fresh agreement is mixed when there is a `group`; without one, whoever gets that key reads what was recorded."""
SharedKey = Literal["none", "shown", "taken", "proven", "passed over", "refused"]
"""A key shared beforehand, in place of certificates. `shown`: the client has named it, in TLS 1.3 with a binder that
proves it. `taken`: the server goes on with it, in TLS 1.3 having checked the binder. `proven`: the server's Finished is
right, which takes the key; `passed over`: the server went on without it."""


@dataclass(frozen=True, slots=True)
class CertificateState:
    """The four things to be shown of a server, each by its own message; `resumed` when an earlier session showed
    them."""

    chain_received: bool = False
    chain_and_name_accepted: bool = False
    key_possession_proven: bool = False
    transcript_bound: bool = False
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that exists now, by name, and what it came from. Never its value."""

    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class State:
    """What is true after a step.

    `tcp` and `channel` are `none`, `open`, `closed`. `handshake` is a state of RFC 8446, appendix A.1; TLS 1.2, which
    names none, is told with the same words. `client_certificate` is `none`, `asked`, `sent`, `withheld`, `accepted`,
    `refused`. `mqtt` is `none`, or the last packet that changed it. With a `shared_key` nobody shows a certificate.
    """

    tcp: str = "none"
    handshake: str = "START"
    certificate: CertificateState = CertificateState()
    client_certificate: str = "none"
    secrets: tuple[Secret, ...] = ()
    channel: str = "none"
    mqtt: str = "none"
    shared_key: SharedKey = "none"


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the process table.

    `t_ms` milliseconds since the start; `bytes` and `records` on the wire, headers and tags included; `says` one line
    of what is in it; `fields` all of it by name; `result` what came of it; `next` what is expected now; `explain` why
    such a step exists.
    """

    number: int
    t_ms: float
    who: Who
    message: str
    direction: Literal["sent", "received", "none"]
    bytes: int
    records: int
    protection: Protection
    says: str
    result: str
    next: str
    explain: str
    state: State
    fields: tuple[Field, ...] = ()
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate the server sent, in words; times ISO 8601, UTC."""

    subject: str
    issuer: str
    not_before: str
    not_after: str
    names: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Tls:
    """What was negotiated; empty where nothing was. `cipher` is the IANA name, `psk_identity` who the client says it is
    with a pre-shared key."""

    version: str = ""
    cipher: str = ""
    group: str = ""
    key_exchange: KeyExchange = ""
    resumed: bool = False
    retried: bool = False
    protocol: str = ""
    server_name: str = ""
    client_certificate: str = "none"
    certificates: tuple[Certificate, ...] = ()
    psk_identity: str = ""

    @property
    def has_shared_key(self) -> bool:
        """Whether a key shared beforehand is what the two sides knew each other by, and no session of before."""
        return self.key_exchange == "psk" and bool(self.psk_identity) and not self.resumed


@dataclass(frozen=True, slots=True)
class Proofs:
    """Checks that the trace made of its own decoding: each Finished recomputed, each signature verified; of a handshake
    with a pre-shared key what follows from it, when the key was at hand."""

    right: int = 0
    wrong: int = 0
    unchecked: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the whole connection, bytes on the wire above TCP. `round_trips` counts flights answered, TCP's own included.

    What begins with `handshake_` is up to the channel, 0 when it never stood. `handshake_cpu_ms` is the CPU time of TLS
    on this side, `server_cpu_ms` that of the server for the whole connection, 0 when it was not measured.
    """

    sent: int = 0
    received: int = 0
    records: int = 0
    round_trips: int = 0
    duration_ms: float = 0.0
    handshake_bytes: int = 0
    handshake_ms: float = 0.0
    handshake_round_trips: int = 0
    handshake_sent: int = 0
    handshake_received: int = 0
    handshake_cpu_ms: float = 0.0
    server_cpu_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One traced connection.

    `outcome` is `ok` when all that was wanted came about: the channel, and for `mqtts` a CONNACK that accepts.
    Otherwise `stopped_at` is the message or stage where it ended, `stopped_by` who ended it (`here`, the other side,
    or the `network`), `cause` a stable slug of `sealmq.trace.causes`, `evidence` by what that is known, `not_done`
    what did not happen because of it, `mend` what to do and `command` what shows it mended. `previous` is
    the connection whose session was to be resumed.
    """

    url: str
    address: str
    started: str
    outcome: Literal["ok", "failed"]
    summary: str
    tls: Tls
    steps: tuple[Step, ...]
    totals: Totals
    proofs: Proofs
    stopped_at: str | None = None
    stopped_by: StoppedBy | None = None
    cause: str | None = None
    evidence: str = ""
    not_done: tuple[str, ...] = ()
    mend: str = ""
    command: str = ""
    previous: Trace | None = None
    schema: int = SCHEMA
    seat: Seat = "client"


def to_json(trace: Trace) -> dict[str, Any]:
    """The trace as values that `json.dumps` takes, by the names of the classes here."""
    return _plain(trace)  # type: ignore[no-any-return]


def from_json(value: Any) -> Trace:  # noqa: ANN401 - what json.loads gives
    """The trace of which `to_json` made `value`; names it does not know are passed over.

    Raises `LocalMisuse` with code `trace-invalid` for anything else.
    """
    try:
        if value["schema"] > SCHEMA:
            raise LocalMisuse(
                f"trace has schema {value['schema']}, this sealmq knows {SCHEMA}",
                mend="read it with the sealmq that wrote it, or a newer one",
                code="trace-invalid",
            )
        return typing.cast("Trace", _typed(Trace, value))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LocalMisuse("value is no trace", mend="give what to_json returned", code="trace-invalid") from error


def _plain(value: Any) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple(_typed(typing.get_args(kind)[0], item) for item in value)
    if origin in (types.UnionType, typing.Union):
        wanted = next(option for option in typing.get_args(kind) if option is not type(None))
        return None if value is None else _typed(wanted, value)
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(value)
        return value
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        return typing.cast("Any", kind)(**{name: _typed(hints[name], value[name]) for name in known & value.keys()})
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(kind)
    return value
