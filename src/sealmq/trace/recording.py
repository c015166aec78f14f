"""What happened on a traced connection, event by event, and the file that keeps it.

It refuses to interpret: a trace is made from a recording alone, so that one shown again is the one shown first. A
recording holds the secrets of its connection; it stays in memory unless `write` is called.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
LARGEST_FILE = 64 * 1024 * 1024  # bytes; a recording at all its bounds is a third of that

Kind = Literal["resolved", "connected", "sent", "received", "secret", "tls", "phase", "ended", "probe"]
_LONGEST = 86_400_000.0  # milliseconds
_PCAPNG = b"\x0a\x0d\x0d\x0a"  # the first block of every pcapng
KINDS = frozenset({"resolved", "connected", "sent", "received", "secret", "tls", "phase", "ended", "probe"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened `t_ms` milliseconds after the start.

    * `resolved`: `addresses` [text], of the host
    * `connected`: `address`, `local`, and `rtt_us` where the system tells
    * `sent`, `received`: `data`, bytes on the wire; a received event is one TLS record, or what was no record
    * `secret`: `data`, one line of key log
    * `tls`: what the TLS library made of the bytes before it: `state` `waiting` | `done` | `failed`; when done
      `version`, `cipher`, `protocol`, `resumed`, `cpu_ms`; when failed `verify_code` (as OpenSSL numbers them, 0 when
      it was no matter of certificates) and `said`, its words, which are for display alone
    * `phase`: `name` of what is attempted from here on: `resolve`, `connect`, `handshake`, `upgrade`, `mqtt`,
      `channel`, `close`
    * `ended`: `how` `closed` (by the peer, in order) | `eof` (by the peer, without close_notify) | `reset` | `refused`
      | `unreachable` | `timeout` | `dns` | `budget` (more came than a trace takes) | `failed` (OpenSSL gave up) |
      `left` (by this side, all done), `errno` where there is one, `over` for a budget, `server_cpu_ms` when measured;
      a broker's recording ends with `recorded`, `peer`, `device` and `refusal`, its record of it, empty when it
      accepted
    * `probe`: after a refusal of the offer another ClientHello was tried, with more of one `part` (`suite` | `group` |
      `signature` | `version`), with a pre-shared `key` of TLS 1.2 alone, or of an `identity` that nobody has;
      `answered` is whether the server then went on, with which `version` and `suite` (its number), else `alert` the
      number of the alert, -1 without one. After a date that did not fit the server was asked for its `clock`: `time`
      ISO 8601, `by` what told it
    """

    t_ms: float
    kind: Kind
    data: bytes = field(default=b"", repr=False)
    facts: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A fact as text, empty when there is none of that name."""
        value = self.facts.get(name, "")
        return value if isinstance(value, str) else ""

    def measure(self, name: str) -> float:
        """A fact as a measure, 0 when there is none of that name."""
        value = self.facts.get(name, 0.0)
        return float(value) if isinstance(value, int | float) and 0 <= value < _LONGEST else 0.0

    def number(self, name: str) -> int:
        """A fact as a whole number, 0 when there is none of that name."""
        value = self.facts.get(name, 0)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """With what a recording was made; none of it secret.

    `anchors` are the trusted certificates as (subject, key identifier in hexadecimal); None when the system's store was
    used. `identity` are the certificates shown to the server, DER, leaf first. `started` is ISO 8601, UTC. `seat` is
    where it was recorded, `client` or `broker`; `sent` is what the client sent in either case. `times` are signed times
    in the files of this side that have come already: what says so, and ISO 8601. `post_quantum` is whether sealmq's own
    client spoke TLS with certificates, which then offers X25519MLKEM768 and checks them later than OpenSSL.
    """

    url: str
    server_name: str
    started: str
    tls: str = ""
    legacy: bool = False
    ciphers: str = ""
    mqtt: str = "5.0"
    client_id: str = ""
    topic: str = ""
    anchors: tuple[tuple[str, str], ...] | None = None
    identity: tuple[bytes, ...] = ()
    seat: str = "client"
    times: tuple[tuple[str, str], ...] = ()
    post_quantum: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """The connections of one trace in order: one, or with resumption two."""

    conditions: Conditions
    connections: tuple[tuple[Event, ...], ...]

    @property
    def key_log(self) -> bytes:
        """All secrets, in the form of an SSLKEYLOGFILE."""
        return b"".join(event.data + b"\n" for events in self.connections for event in events if event.kind == "secret")

    def to_bytes(self) -> bytes:
        """The recording as JSON, secrets included."""
        known = self.conditions
        conditions = {name: getattr(known, name) for name in Conditions.__slots__}
        conditions["identity"] = [der.hex() for der in known.identity]
        connections = [
            [[event.t_ms, event.kind, event.data.hex(), event.facts] for event in events] for events in self.connections
        ]
        whole = {"sealmq_recording": FORMAT, "conditions": conditions, "connections": connections}
        return json.dumps(whole, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str) -> Recording:
        """Take what `to_bytes` made. Raises `UsageError` with code `recording-invalid`, naming the file as `name`."""
        if data.startswith(_PCAPNG):
            raise UsageError(
                f"file {name} is a capture for Wireshark, which cannot be told again",
                mend="keep a recording beside it: sealmq trace URL --save FILE.pcapng --save FILE",
                code="recording-invalid",
            )
        try:
            whole = json.loads(data)
            if not isinstance(whole, dict) or "sealmq_recording" not in whole:
                raise _invalid(name, "it was not written by `sealmq trace --save`")
            if whole["sealmq_recording"] != FORMAT:
                raise _invalid(name, f"it has format {whole['sealmq_recording']!r}, this sealmq knows {FORMAT}")
            conditions = dict(whole["conditions"])
            conditions["identity"] = tuple(bytes.fromhex(der) for der in conditions["identity"])
            conditions["times"] = tuple((str(what), str(when)) for what, when in conditions.get("times", ()))
            if conditions["anchors"] is not None:
                conditions["anchors"] = tuple((str(one), str(other)) for one, other in conditions["anchors"])
            connections = tuple(tuple(_event(*event) for event in events) for events in whole["connections"])
            made = cls(Conditions(**conditions), connections)
            _check(made.conditions)
            if not connections:
                raise _invalid(name, "a part of it is missing")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _invalid(name, "it is damaged") from error
        return made

    def write(self, path: Path) -> None:
        """Write it, mode 0600. Raises `Environment`."""
        from sealmq.secretfiles import write_private

        write_private(path, self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read what `write` wrote. Raises `Environment` when it cannot, `UsageError` when it is no recording."""
        from sealmq.secretfiles import raise_environment

        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise_environment(error, path, doing="read")
        if len(data) > LARGEST_FILE:
            raise _invalid(str(path), f"it is larger than {LARGEST_FILE // 1024 // 1024} MiB")
        return cls.from_bytes(data, name=str(path))


def _event(t_ms: float, kind: Kind, data: str, facts: dict[str, Any]) -> Event:
    if kind not in KINDS or not isinstance(facts, dict) or not 0 <= t_ms < _LONGEST:
        raise ValueError(kind)
    return Event(float(t_ms), kind, bytes.fromhex(data), facts)


def _check(conditions: Conditions) -> None:
    for known in fields(Conditions):
        value = getattr(conditions, known.name)
        wanted = bool if known.name in ("legacy", "post_quantum") else str
        if known.name not in ("anchors", "identity", "times") and not isinstance(value, wanted):
            raise TypeError(known.name)


def _invalid(name: str, why: str) -> UsageError:
    return UsageError(
        f"file {name} is no recording of a trace: {why}",
        mend="make one with: sealmq trace URL --save FILE",
        code="recording-invalid",
    )
