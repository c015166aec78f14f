"""Every setting of a broker: name, type, default, unit, bounds and meaning, written once.

The parser, the defaults, `sealmq config explain` and `docs/reference/config.md` are all made from it. It refuses to
know where a value came from and what the broker does with it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sealmq.config.address import OFF, Address, BadValue
from sealmq.config.duration import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
U32_MAX = 4_294_967_295
_UNITS = {"s": "seconds", "ms": "milliseconds"}


Value = TypeVar("Value")


def _setting(default: Value, meaning: str, *, unit: str = "", bounds: tuple[int, int] | None = None) -> Value:
    extra: dict[str, Any] = {"unit": unit}
    low, high = bounds if bounds is not None else (None, None)
    return Field(default=default, description=meaning, json_schema_extra=extra, ge=low, le=high)


def _address(text: str) -> str:
    return str(Address.parse(text))


def _address_or_off(text: str) -> str:
    return "" if text in OFF else _address(text)


def _loopback_or_off(text: str) -> str:
    if text in OFF:
        return ""
    address = Address.parse(text)
    if not address.is_loopback():
        raise BadValue(
            "is not a loopback address, and a listener without TLS serves this machine only",
            f"write 127.0.0.1:{address.port}; other machines use mqtts",
        )
    return str(address)


def _duration(text: str) -> str:
    return format_duration(parse_duration(text))


def _moment_or_none(text: str) -> str:
    if not text:
        return ""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadValue("is not a time", 'write it as "2026-11-20T20:33:00Z"') from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _https_url_or_none(text: str) -> str:
    if text and not re.fullmatch(r"https://[A-Za-z0-9._\[\]:-]+(/[!-~]*)?", text):
        raise BadValue("is not an https URL", "write https://HOST/PATH; what is told must not be read on the way")
    return text


ListenAddress = Annotated[str, AfterValidator(_address)]
OptionalAddress = Annotated[str, AfterValidator(_address_or_off)]
LoopbackAddress = Annotated[str, AfterValidator(_loopback_or_off)]
Duration = Annotated[str, AfterValidator(_duration)]
WebAddress = Annotated[str, AfterValidator(_https_url_or_none)]
Moment = Annotated[str, AfterValidator(_moment_or_none)]


class Table(BaseModel):
    """One table of the file; an unknown key is an error, a value keeps its TOML type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Listen(Table):
    """Where the broker listens. Port 0 picks a free one; the `ready` lines name it."""

    mqtts: list[ListenAddress] = _setting(
        ["127.0.0.1:8883"], "MQTT over TLS, client certificate required; may list several", unit="HOST:PORT"
    )
    https: OptionalAddress = _setting(
        "127.0.0.1:8443", 'health, CA certificate and metrics over HTTPS; "off" turns it off', unit="HOST:PORT"
    )
    wss: OptionalAddress = _setting(
        "", "MQTT over WebSocket over TLS at /mqtt; off unless given, 8084 by custom", unit="HOST:PORT"
    )
    psk: OptionalAddress = _setting(
        "",
        "MQTT over TLS with pre-shared keys instead of certificates; off unless given, 8884 by custom",
        unit="HOST:PORT",
    )


class Also(Table):
    """A further certificate of the broker, shown to clients that ask (SNI) for one of the names in it."""

    certificate: str = Field(description="certificate chain, leaf first; the names in it choose it")
    key: str = Field(description="private key of certificate")


class Acme(Table):
    """A public certificate by ACME (RFC 8555), shown to clients that ask for one of `names`; all others, and everyone
    until there is one, are shown the certificate of the built-in CA.
    """

    names: list[str] = _setting([], "public names to certify; empty means no ACME", unit="DNS")
    directory: str = _setting("", "directory of the ACME server; empty means Let's Encrypt", unit="URL")
    email: str = _setting("", "contact of the account, for warnings of the ACME server", unit="mail address")
    ca_file: str = _setting("", "trust anchors for the ACME server instead of the system's", unit="PEM file")
    challenge: Literal["http-01", "dns-01"] = _setting("http-01", "how the control of a name is shown")
    http_address: ListenAddress = _setting(
        "0.0.0.0:80", "where http-01 is answered, only while an order is open", unit="HOST:PORT"
    )
    dns_hook: str = _setting(
        "", "command for dns-01, called as `CMD add|remove NAME VALUE`; returns once the record is served", unit="CMD"
    )


class Tls(Table):
    """Own certificate files instead of those of the built-in CA. Relative paths start at the configuration file.

    The files are watched: certificate, key, CA and CRL are checked and then taken together, without a restart.
    `[[tls.also]]`, as often as wanted, has `certificate` and `key` of further names, chosen by SNI.
    """

    certificate: str = _setting("", "certificate chain of the broker, leaf first; needs tls.key", unit="PEM file")
    key: str = _setting("", "private key of tls.certificate", unit="PEM file")
    client_ca: str = _setting("", "trust anchors for client certificates instead of the built-in CA", unit="PEM file")
    crl: str = _setting(
        "",
        "revocation lists of the CAs in tls.client_ca; a stale one raises an alarm and locks nobody out",
        unit="PEM file",
    )
    extra_names: list[str] = _setting(
        [], "further names and addresses in the built-in server certificate", unit="DNS or IP"
    )
    also: list[Also] = _setting([], "further certificates, written as [[tls.also]] tables", unit="tables")
    acme: Acme = Field(default_factory=Acme, description="a public certificate by ACME")


class Rules(Table):
    """Who may publish and subscribe where."""

    file: str = _setting(
        "", "rule file; empty means rules.toml in the data folder, else the built-in rules", unit="TOML file"
    )


class Limits(Table):
    """What one peer, and all of them together, may use. The data plane checks the same names and bounds."""

    max_packet_size: int = _setting(
        MIB, "largest MQTT packet taken; a longer one closes the connection", unit="bytes", bounds=(256, 256 * MIB)
    )
    handshake_timeout_ms: int = _setting(
        10_000, "from TCP accept to the end of the TLS handshake", unit="ms", bounds=(100, 600_000)
    )
    connect_timeout_ms: int = _setting(
        10_000, "from the end of the handshake to a whole CONNECT", unit="ms", bounds=(100, 600_000)
    )
    max_connections: int = _setting(
        100_000, "open connections; further ones are refused with a record", unit="connections", bounds=(1, 10_000_000)
    )
    max_connections_per_address: int = _setting(
        10_000,
        "open connections from one address (IPv6: from one /64), so that one cannot take the places of all; 0 means no"
        " bound, for a broker behind a load balancer",
        unit="connections",
        bounds=(0, 10_000_000),
    )
    max_connect_rate_per_address: int = _setting(
        1000,
        "connections that one address may open in a second; more are closed before TLS begins; 0 means no bound",
        unit="per second",
        bounds=(0, 1_000_000),
    )
    max_handshakes: int = _setting(
        1000,
        "handshakes going on at once, so that established traffic keeps its share",
        unit="handshakes",
        bounds=(1, 1_000_000),
    )
    max_handshake_bytes: int = _setting(
        65_536,
        "bytes taken from one peer before its TLS handshake has ended",
        unit="bytes",
        bounds=(4096, 16 * MIB),
    )
    max_connect_bytes: int = _setting(
        131_072,
        "one CONNECT with its will and password, held before anybody is let in; max_packet_size counts too",
        unit="bytes",
        bounds=(1024, 256 * MIB),
    )
    receive_maximum: int = _setting(
        1024,
        "QoS 1 and 2 messages a client may have unacknowledged towards the broker",
        unit="messages",
        bounds=(1, 65_535),
    )
    topic_alias_maximum: int = _setting(
        64, "topic aliases a client may set on its connection", unit="aliases", bounds=(0, 65_535)
    )
    max_session_expiry_s: int = _setting(
        604_800,
        "longest life of a session without its client; 4294967295 means for ever",
        unit="s",
        bounds=(0, U32_MAX),
    )
    max_keep_alive_s: int = _setting(
        0, "longest keep-alive a client may choose; 0 means no cap", unit="s", bounds=(0, 65_535)
    )
    max_inflight: int = _setting(
        1024, "QoS 1 and 2 messages sent to one client and not yet acknowledged", unit="messages", bounds=(1, 65_535)
    )
    max_inflight_bytes: int = _setting(
        16 * MIB,
        "the same in bytes; one message may always be in flight",
        unit="bytes",
        bounds=(0, 2**40),
    )
    max_queued_messages: int = _setting(
        10_000, "messages waiting in one session", unit="messages", bounds=(0, 100_000_000)
    )
    max_queued_bytes: int = _setting(64 * MIB, "bytes waiting in one session", unit="bytes", bounds=(0, 2**40))
    max_outbox_bytes: int = _setting(
        MIB,
        "bytes waiting for one connection's socket; QoS 0 beyond it is dropped",
        unit="bytes",
        bounds=(4096, 2**30),
    )
    max_subscriptions: int = _setting(
        1000, "subscriptions of one session", unit="subscriptions", bounds=(1, 10_000_000)
    )
    max_filters: int = _setting(
        1000,
        "filters of one SUBSCRIBE; further ones are refused in its SUBACK (0x97; 0x80 in 3.1.1)",
        unit="filters",
        bounds=(1, 1_000_000),
    )
    max_topic_bytes: int = _setting(
        4096,
        "a topic name or filter: each subscription, alias and retained message keeps one",
        unit="bytes",
        bounds=(16, 65_535),
    )
    max_topic_levels: int = _setting(32, "levels of a topic name or filter", unit="levels", bounds=(1, 1024))
    max_user_properties: int = _setting(
        100,
        "user properties of one message or will, which travel on to every receiver; more are refused (0x97)",
        unit="properties",
        bounds=(0, 1_000_000),
    )
    max_will_bytes: int = _setting(
        65_536,
        "a will with its topic and properties, held as long as its session; a larger one is refused at CONNECT (0x97)",
        unit="bytes",
        bounds=(0, 256 * MIB),
    )
    max_sessions: int = _setting(
        1_000_000,
        "sessions in all, with a client and without; a new one beyond it is refused (0x97)",
        unit="sessions",
        bounds=(1, 100_000_000),
    )
    max_sessions_per_device: int = _setting(
        1000,
        "sessions of one device or user, with a client and without; a new one beyond it is refused (0x97)",
        unit="sessions",
        bounds=(1, 10_000_000),
    )
    max_memory_bytes: int = _setting(
        0,
        "held for all clients together: connections, sessions, messages. Each may have a quarter of what is left, so"
        " that who hoards leaves room for the others; 0 means half of what the machine or its container has",
        unit="bytes",
        bounds=(0, 2**50),
    )
    max_retained_messages: int = _setting(
        1_000_000, "retained messages held by the broker", unit="messages", bounds=(0, 2**31)
    )
    max_retained_bytes: int = _setting(
        256 * MIB, "bytes of retained messages held by the broker", unit="bytes", bounds=(0, 2**42)
    )
    sys_interval_s: int = _setting(
        10, "time between two updates of $SYS/broker/#; 0 turns them off", unit="s", bounds=(0, 86_400)
    )


class Enrolment(Table):
    """How devices come to their certificates."""

    factory_ca: str = _setting(
        "", "factory CAs whose devices may ask to be let in; each waits for `sealmq device approve`", unit="PEM file"
    )
    grace: Duration = _setting(
        "90d", "how long after its end a certificate that is not revoked may ask for the next one", unit="30d, 12h"
    )
    keep_expired: Duration = _setting(
        "180d",
        "how long after its end a device's certificate stays in the registry, at least as long as grace; the latest of"
        " each device stays for ever",
        unit="30d, 12h",
    )


class Identity(Table):
    """What is done about certificates that turn up where they should not."""

    cloned: Literal["report", "close"] = _setting(
        "report", "one certificate live from two addresses at once: report it, or close those connections too"
    )
    renew_issued_before: Moment = _setting(
        "", "after an incident: device certificates issued before it are due within six hours", unit="ISO 8601, UTC"
    )


class Expiry(Table):
    """Who is told that a certificate or a revocation list ends, and when. The log and MQTT always are."""

    thresholds: list[Duration] = _setting(
        ["30d", "7d", "1d"], "time left at which it is told; also once it is over", unit="30d, 12h"
    )
    webhook: WebAddress = _setting("", "address that gets a POST with JSON for each warning", unit="https URL")
    webhook_ca: str = _setting("", "trust anchors for expiry.webhook instead of the system's", unit="PEM file")


class TopicDurability(Table):
    """Topics that are kept in another way than `durability.default` says."""

    filter: str = Field(description="topic filter")
    mode: Literal["sync", "os", "memory"] = Field(description="as durability.default")


class Durability(Table):
    """What an acknowledgement promises. docs/durability.md says what survives what.

    `[[durability.topics]]`, as often as wanted, has `filter` and `mode`; the first filter that matches a topic decides.
    """

    default: Literal["sync", "os", "memory"] = _setting(
        "sync",
        "acknowledged means: synced to the disk, or handed to the operating system, or in memory only",
    )
    topics: list[TopicDurability] = _setting([], "topics kept in another way, as [[durability.topics]]", unit="tables")
    max_bytes: int = _setting(
        8192 * MIB,
        "bytes that the store may take on disk; beyond it messages that need it are refused",
        unit="bytes",
        bounds=(16 * MIB, 2**50),
    )
    when_queue_full: Literal["refuse", "drop"] = _setting(
        "refuse",
        "a message that the queue of a kept session has no room for: refuse it (0x97; in 3.1.1 the publisher is"
        " disconnected without an acknowledgement), or let that session miss it",
    )
    when_failed: Literal["degrade", "stop"] = _setting(
        "degrade", "when a write or sync fails: go on with what needs no store, or end with status 1"
    )


class Log(Table):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", "least important record that is written")
    format: Literal["text", "json"] = _setting("text", "text for people, json for machines: one object per line")


class Dangerous(Table):
    """The only door to less security, for migrations and interop suites. What is in force is named at start."""

    plaintext: LoopbackAddress = _setting(
        "", "MQTT WITHOUT TLS: whoever can listen on the way reads and changes everything", unit="HOST:PORT"
    )
    anonymous: bool = _setting(False, 'clients without a certificate are let in, under the rules for "anonymous"')
    any_client_id: bool = _setting(
        False, "a device may use the client id of another one and so end its connection and session"
    )
    allow_all: bool = _setting(False, "no rule is asked: every client may publish and subscribe everywhere")


class Config(Table):
    """The whole file, `sealmq.toml` in the data folder or the one given with `--config`."""

    listen: Listen = Field(default_factory=Listen)
    tls: Tls = Field(default_factory=Tls)
    rules: Rules = Field(default_factory=Rules)
    enrolment: Enrolment = Field(default_factory=Enrolment)
    identity: Identity = Field(default_factory=Identity)
    limits: Limits = Field(default_factory=Limits)
    expiry: Expiry = Field(default_factory=Expiry)
    durability: Durability = Field(default_factory=Durability)
    log: Log = Field(default_factory=Log)
    dangerous: Dangerous = Field(default_factory=Dangerous)


def tables() -> dict[str, type[Table]]:
    """Table name to its model, in the order of the file; a table in a table has its dotted name."""
    return dict(_tables_in(Config, ""))


def settings_in(table: str) -> list[str]:
    """The keys of a table that hold values, not tables of their own."""
    return [key for key, field in tables()[table].model_fields.items() if _as_table(field.annotation) is None]


def value_of(config: Config, table: str, key: str) -> Any:  # noqa: ANN401
    """The value of a setting."""
    found: Any = config
    for name in [*table.split("."), key]:
        found = getattr(found, name)
    return found


def unit_of(table: str, key: str) -> str:
    """The unit or form of a setting, empty when its type says it all."""
    extra = tables()[table].model_fields[key].json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def meaning_of(table: str, key: str) -> str:
    """What a setting means, in one clause."""
    return tables()[table].model_fields[key].description or ""


def bounds_of(table: str, key: str) -> tuple[int, int] | None:
    """Least and greatest value of a number, None for everything else."""
    metadata = tables()[table].model_fields[key].metadata
    low = [item.ge for item in metadata if hasattr(item, "ge")]
    high = [item.le for item in metadata if hasattr(item, "le")]
    return (low[0], high[0]) if low and high else None


def expected(table: str, key: str) -> str:
    """What a setting takes, as a phrase for error messages and the reference page."""
    annotation = tables()[table].model_fields[key].annotation
    unit, bounds = unit_of(table, key), bounds_of(table, key)
    if annotation is int:
        span = f" from {bounds[0]} to {bounds[1]}" if bounds else ""
        return f"a whole number of {_UNITS.get(unit, unit)}{span}"
    if annotation is bool:
        return "true or false"
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(f'"{choice}"' for choice in choices)
    form = f" ({unit})" if unit else ""
    if annotation == list[Also]:
        return "tables with " + " and ".join(Also.model_fields)
    return f"a list of strings{form}" if getattr(annotation, "__origin__", None) is list else f"a string{form}"


def _tables_in(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[Table]]]:
    for name, field in model.model_fields.items():
        table = _as_table(field.annotation)
        if table is not None:
            yield prefix + name, table
            yield from _tables_in(table, f"{prefix}{name}.")


def _as_table(annotation: object) -> type[Table] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Table) else None
