"""The compiled data plane: the broker node and the MQTT client, one border, nothing decided here.

Everything structured crosses as JSON text in one call, so that the border stays short and can be read at a glance.
Only `sealmq.broker`, `sealmq.client` and `sealmq.testing` import this module (checked by `make check`).
"""

from pathlib import Path
from typing import final

__all__ = [
    "ENGINE_VERSION",
    "Client",
    "EngineError",
    "Node",
    "TlsError",
    "TlsPeer",
    "decode_packets",
    "default_limits",
    "encode_packet",
    "explain_rule",
    "store_backup",
    "store_check",
    "store_restore",
    "store_stats",
]

class EngineError(Exception):
    """The data plane could not do what was asked.

    `args` is `(code, message, mend)`: a stable slug such as `address-in-use`, one lower-case sentence, and the mend
    (empty when there is none).
    """

ENGINE_VERSION: str

@final
class Node:
    """A running broker: listeners, gate (handshakes), shards (established traffic). Threads are its own."""

    @staticmethod
    def start(config: str) -> Node:
        """Start from a JSON `NodeConfig` and return once every listener accepts.

        ```
        {"listeners": [{"kind": "mqtts" | "wss" | "psk" | "plaintext", "address": "127.0.0.1:8883"}, ...],
         "tls": {"certificate_chain_pem": str, "private_key_pem": str, "client_ca_pem": str,
                 "also": [{"certificate_chain_pem": str, "private_key_pem": str}, ...],   # further identities by SNI: the DNS names in
                                            # each certificate; the one above stays the answer to no name and to an unknown one
                 "client_crls_pem": str,    # "": none. A certificate on a CRL is refused (`revoked`); one of unknown status is not, and a
                                            # CRL past its nextUpdate still counts
                 "ticket_keys": [{"name": 32 hex, "key": 64 hex}, ...]},  # newest first: the first seals, all open; []: random keys of this
                                            # process. A ticket given under another set of client CAs, or with a certificate that is revoked
                                            # or past notAfter, never resumes: a full handshake follows
         "fleet": str,                      # the host part of spiffe://<fleet>/device/<id>
         "revoked": {"devices": [str, ...], "certificates": [sha256 of the DER in hex, ...]},  # refused with the cause `revoked`
         "groups": {device id: [group, ...]},
         "users": [{"name": str, "hash": "$argon2id$..."}, ...],  # clients without certificate that give user name and password in CONNECT;
                                            # a listener with users asks for a client certificate and does not demand one. A user's client
                                            # identifier is user:NAME, or begins with user:NAME:, or is assigned
         "psk": [{"device": str, "identity": str, "key": hex}, ...],  # pre-shared keys of 16 to 64 bytes, for listeners of the kind `psk`,
                                            # which ask for nothing else; `identity` is what the handshake says, the device id where there is none; a
                                            # device may have several. A connection of a device that has no key any more is closed
         "origins": [str, ...],             # of web pages (https://host[:port]) that may open a WebSocket, besides the broker's own host
         "rules": [{"name": str,            # named in denial records
                    "effect": "allow" | "deny",
                    "who": str,             # a glob over device ids ("*", "gateway-*"); "group:GLOB" over a device's groups; "user:GLOB" over users
                                            # (no other rule is for them); "anonymous" for clients without either
                    "publish": bool, "subscribe": bool,
                    "filter": str}],        # a topic filter; {id} (device or user), {client} and {group} (once for each group that `who` covers)
                                            # are replaced; first match decides, none = denied
         "dangerous": {"anonymous": bool, "any_client_id": bool, "allow_all": bool},
         "limits": {...},                   # see `default_limits`
         "store": {"path": str,             # the file; null or no `store` at all: everything is in memory
                   "fleet": str | null,     # whose store it has to be, noted in it; null asks nothing
                   "durability": "sync" | "os" | "memory",
                   "topics": [{"filter": str, "durability": str}],   # the first that matches decides
                   "max_bytes": int, "refuse_when_full": bool, "stop_when_failed": bool} | null,
         "version": str}                    # shown at $SYS/broker/version
        ```
        Raises EngineError with code `address-in-use`, `address-invalid`, `address-not-available`, `permission-denied`,
        `certificate-invalid`, `key-invalid`, `key-mismatch`, `client-ca-invalid`, `client-crl-invalid`, `ticket-key-invalid`,
        `user-invalid`, `psk-invalid`, `rule-invalid`, `config-invalid`.
        """

    def addresses(self) -> list[tuple[str, str]]:
        """`(kind, "HOST:PORT")` per listener, in the order of the configuration, with real ports."""

    def poll_events(self, timeout_ms: int) -> list[tuple[str, str, str, str, str, str]]:
        """Drain observed facts, waiting up to `timeout_ms` for the first, or for the end of the node. Releases the interpreter.

        Each is what facts are sorted by, `event`, `client_id`, `device`, `peer` and `sha256` of the certificate, empty where
        it has none; and last the whole fact as a JSON object, with `event` and `at` (milliseconds since the Unix epoch):

        * `refused`: `peer`, `listener`, `stage` (`tcp`|`client-hello`|`handshake`|`certificate`|`http`|`connect`), `cause` (slug),
          `summary`, `mend`, and, where known, `certificate` {`subject`, `issuer`, `serial`, `not_before`, `not_after`, `device`},
          `hello` {`versions`, `ciphers`, `groups`, `alpn`, `server_name`}, `client_id`
        * `connected`: `peer`, `listener`, `client_id`, `device`, `user` (name or null), `certificate` {`sha256`, `serial`, `not_before`,
          `not_after` (seconds since the epoch), `issuer_key_id` (hex or null)} or null, `protocol` (`3.1.1`|`5.0`), `keep_alive`,
          `clean_start`, `session_present`, `tls` {`version`, `cipher`, `group`, `resumed`, `psk` (the identity of the pre-shared
          key, or null)} or null
        * `disconnected`: `peer`, `client_id`, `device`, `cause` (slug; `revoked`, `certificate-expired`, ...), `summary`
        * `denied`: `client_id`, `device`, `action` (`publish`|`subscribe`|`will`), `topic`, `rule` (which rule said no, or that none
          said yes), `mend`
        * `dropped`: `client_id`, `cause` (slug), `count`
        * `store`: `health` (`good`|`full`|`failed`), `summary`, `mend`, `fatal` (the broker is to end)
        * `failure`: `summary`, `mend`, `fatal` where the broker is to end
        * `lost`: `count` of older facts that nobody fetched in time; what is kept is bounded in number and in bytes
        """

    def stats(self) -> str:
        """JSON: counters and gauges since start (`connections`, `sessions`, `subscriptions`, `retained`, `messages_received`, ...)."""

    def sessions(self) -> str:
        """JSON list: `client_id`, `device`, `user`, `connected`, `peer`, `listener`, `protocol`, `subscriptions`, `queued`, `inflight`."""

    def record_next(self, device: str | None, timeout_ms: int) -> str | None:
        """Record the next connection whose certificate names `device` (None: whoever comes next), accepted or refused.

        JSON: `began_ms`, `pieces` (a list of [microseconds since the accept, "in" | "out", base64 of the bytes on the wire]),
        `keys` (lines of an NSS key log: secrets, keep them in memory), `cut` (more came than is kept), `outcome`
        (`accepted`|`refused`), and `refusal` (the record of `poll_events`) or `peer`, `listener`, `device`. None after
        `timeout_ms`. Ends with the first bytes that the broker sends after CONNECT. Raises EngineError `recorder-busy`.
        """

    def disconnect_device(self, device: str, reason_code: int, reason: str) -> int:
        """Close every live connection of `device` (MQTT 5: DISCONNECT with the code and string); how many were closed."""

    def revoke(self, revocation: str) -> str:
        """Refuse devices and certificates from now on and close every live connection of theirs (MQTT 5: DISCONNECT 0x98).

        JSON in: `{"devices": [...], "certificates": [...]}` as `revoked` of a NodeConfig; it adds to what is refused, until a
        reload states the whole list anew. JSON out, once all that has happened: `{"closed": int, "micros": int}`. A
        handshake under way on another thread does not slip by. Raises EngineError `config-invalid`, `stopped`.
        """

    def publish(self, topic: str, payload: bytes, retain: bool) -> None:
        """Publish a message of the broker's own at QoS 1; no rule is asked. An empty `payload` with `retain` removes what was kept.

        Raises EngineError `config-invalid` when `topic` is no topic name.
        """

    def purge_device(self, device: str) -> str:
        """Forget a device: its sessions with all they hold, and the retained messages under its own topics (where a rule with
        `{id}` lets it publish). JSON `sessions` and `retained`: how many."""

    def store_backup(self, to: Path) -> str:
        """A copy of the store, taken while the broker runs: JSON `bytes`, `sessions`, `messages`, `retained`.

        Raises EngineError `store-none` (everything is in memory), `store-exists` (nothing is overwritten), `store-full`, ...
        """

    def store_check(self) -> list[str]:
        """What is wrong with the store, a sentence each. Raises EngineError `store-none`."""

    def reload(self, config: str) -> None:
        """Take everything but `listeners` from a new NodeConfig. Nothing changes when it raises.

        Connections of devices and certificates that `revoked` names now, and of users that are gone, are closed.
        """

    def stop(self, grace_ms: int) -> None:
        """Stop accepting, send DISCONNECT 0x8B to MQTT 5 clients, close all within `grace_ms`. Idempotent."""

def default_limits() -> str:
    """JSON: every limit of the data plane with its default, unit, bound and reason: `{name: {default, min, max, unit, reason}}`."""

def explain_rule(config_json: str, identity: str | None, client_id: str, action: str, topic: str) -> str:
    """Which rule of a NodeConfig decides about `action` (`publish` or `subscribe`) on a topic name or topic filter, and why.

    `identity` is a device id, `user:NAME`, or None for a client without either. JSON: `{"allowed": bool, "rule": name or null,
    "why": sentence}`; `rule` is null when no rule decides. The same compiled rules as in a running node. Raises EngineError
    `config-invalid` (also for a malformed topic), `rule-invalid`.
    """

def decode_packets(version: str, data: bytes) -> tuple[list[str], int, str | None]:
    """The MQTT packets at the start of `data`: a JSON object each, the bytes used, and what ended it if that was a fault.

    Each object has `kind` (CONNECT, ...), `bytes` and the packet's fields by the specification's names; `properties` is a
    list of `[name, value]` in wire order. Payloads and passwords are given by length only. `version` is `3.1.1` or `5.0`.
    """

def encode_packet(version: str, packet: str) -> bytes:
    """One packet from JSON: CONNECT, SUBSCRIBE (`packet_id`, `filter`, `qos`), PUBLISH (`topic`, `payload` text, ...), PUBACK,
    PINGREQ or DISCONNECT. Raises EngineError `config-invalid` for another kind or a missing field."""

def store_check(path: Path) -> list[str]:
    """What is wrong with the store in a file, a sentence each; writes nothing.

    Raises EngineError `store-missing`, `store-foreign`, `store-newer`, `store-older`, `store-unreadable`, `store-damaged`.
    """

def store_stats(path: Path) -> str:
    """What the store in a file holds, as `store` of `Node.stats`; writes nothing. Raises EngineError as `store_check`."""

def store_backup(path: Path, to: Path) -> str:
    """A copy of a store that no broker uses; shape and errors as `Node.store_backup`, and `store-locked`."""

def store_restore(backup: Path, to: Path, fleet: str, *, take_over: bool) -> str:
    """Make the store of `fleet` from a backup, which is looked through first.

    Raises EngineError `store-exists` (nothing is overwritten), and `store-other-fleet` about a backup of another fleet, unless
    `take_over` makes it this one's.
    """

@final
class Client:
    """One MQTT connection over verified TLS, kept alive by a thread of its own. Not reconnecting. Calls may come from any thread.

    A *ticket* is a number from 1 up, under which a result is told once: one byte with the final reason code for a publish, a code
    per filter for SUBSCRIBE and UNSUBSCRIBE. Every call but `open`, `closing` and `disconnect` raises EngineError once the
    connection is over and there is nothing more to give: `dns`, `connection-refused`, `timeout`, `tls-*`, `connack` (message names
    the reason code), `closed`, `peer-fault`.
    """

    @staticmethod
    def open(config: str, previous: Client | None) -> Client:
        """Begin to connect and return at once; `connack` tells the outcome.

        ```
        {"scheme": "mqtts" | "wss" | "mqtts+psk" | "mqtt", "host": str, "port": int, "path": str,
         "server_name": str | null,            # when it differs from host
         "tls_versions": "" | "1.2" | "1.3",   # "": both
         "trust": {"ca_pem": str,              # the trust anchors
                   "is_system_store": bool,    # skip anchors that cannot be used
                   "crls_pem": str,            # "": none. A server on a list is refused, and one that no list speaks of
                   "pins": [64 hex, ...],      # SHA-256 of SubjectPublicKeyInfo: one has to be in the verified path
                   "dangerous_unverified": bool},
         "certificate_pem": str | null, "key_pem": str | null,
         "psk": {"identity": str, "key": hex} | null,   # for `mqtts+psk` alone, in place of the three above; 16 to 64 bytes
         "version": "5.0" | "3.1.1", "client_id": str, "keep_alive": int, "clean_start": bool,
         "username": str | null, "password_hex": str | null,
         "properties": {...},                  # `session_expiry`, `user`, `request_response_information`, ...
         "will": {"topic": str, "payload_hex": str, "qos": int, "retain": bool, "properties": {...}} | null,
         "bounds": {"max_packet": bytes, "inbox_messages": int, "inbox_bytes": int, "outbox_bytes": int, "receive_maximum": int,
                    "topic_aliases": int},     # each with a default
         "timeout_ms": int, "allow_plaintext": bool}
        ```
        With `previous`, a connection that is over: its TLS tickets are used when trust and certificate are the same. Unless it ended
        by `disconnect`, its messages are given by the new one, and its unacknowledged publishes are sent again under their old
        tickets: as duplicates where the server has the session, as new ones otherwise. Raises EngineError `config-invalid`, `environment`.
        """

    def connack(self, timeout_ms: int) -> str | None:
        """JSON: `session_present`, `reason_code`, `tls` {version, cipher, group, resumed} or null, and what the server states of
        `assigned_client_id`, `server_keep_alive`, `session_expiry`, `receive_maximum`, `maximum_qos`, `retain_available`,
        `maximum_packet_size`, `topic_alias_maximum`, `response_information`, ... None when it has not come."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when `connack` or `poll` have something new; `poll` makes it silent again."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: str | None) -> int | None:
        """Take a PUBLISH: 0 for QoS 0, else its ticket; None when there is no room now. It leaves with `flush`, or with enough others.

        `properties` is JSON: `{"user": [[k, v]], "content_type": str, "response_topic": str, "correlation_hex": str,
        "message_expiry": int, "payload_format": 0 | 1, "topic_alias": int}`. Raises EngineError `topic-invalid`, `packet-too-large`,
        `qos-not-supported`, `config-invalid`.
        """

    def publish_many(self, messages: list[tuple[str, bytes, int, bool, str | None]]) -> list[int]:
        """Take `(topic, payload, qos, retain, properties)` one after the other while there is room, and flush: what `publish` gives
        for each that was taken."""

    def flush(self) -> None:
        """Let what was published leave."""

    def subscribe(self, filters: list[tuple[str, int, bool, bool, int]], properties: str | None) -> int:
        """Subscribe to `(filter, qos, no_local, retain_as_published, retain_handling)`; the ticket.

        `properties` is JSON: `{"subscription_identifier": int, "user": [[k, v]]}`. Raises EngineError `topic-invalid`.
        """

    def unsubscribe(self, filters: list[str]) -> int:
        """Unsubscribe; the ticket. The codes are zeros in 3.1.1."""

    def poll(
        self, most: int, timeout_ms: int
    ) -> tuple[list[tuple[str, bytes, int, bool, str]], list[tuple[int, bytes]]]:
        """Up to `most` messages `(topic, payload, qos, retain, properties JSON or "")` and all results `(ticket, codes)`, waiting up to
        `timeout_ms` for the first. Messages of QoS 1 and 2 are acknowledged with this. Releases the interpreter."""

    def result(self, ticket: int, timeout_ms: int) -> bytes | None:
        """The result of one ticket, flushing first; None when it has not come."""

    def has_room(self, timeout_ms: int) -> bool:
        """Whether `publish` takes another one, waiting up to `timeout_ms` for it."""

    def closing(self) -> str | None:
        """Once it is over, JSON: `code`, `message`, `mend`, `reason_code` of the server's CONNACK or DISCONNECT or null,
        `retry_after` (seconds, from its user property of that name) or null."""

    def disconnect(self, timeout_ms: int) -> bool:
        """Send what is left, DISCONNECT, and close: whether that is done after `timeout_ms`. Idempotent."""

class TlsError(EngineError):
    """A handshake or a channel failed.

    `args` is `(code, message, mend, alert)`: `tls-…` as for `Client`, and the number of the alert with which the server ended it
    (RFC 8446 section 6), None when this side did; then its own alert is in `take`.
    """

@final
class TlsPeer:
    """A TLS client without a socket: for a recorder that sees each byte and gets the secrets to read it.

    `open`, `take`; then `feed` and `take` in turn, `write` and `read` once it is open. It verifies the server as `Client` does, in
    the flight where the certificate comes; the bytes of that are the caller's. From one thread at a time.
    """

    @staticmethod
    def open(config: str, previous: TlsPeer | None) -> TlsPeer:
        """The ClientHello waits in `take` then.

        ```
        {"server_name": str, "versions": "" | "1.2" | "1.3",   # "": both
         "alpn": [str, ...],
         "psk": {"identity": str, "key": hex},       # of 16 to 64 bytes; a server that shows a certificate is refused
         "suites": str,                              # with `psk`: those of TLS 1.2 as an OpenSSL list; without: the policy
         "trust": {...}, "certificate_pem": str, "key_pem": str,   # without `psk`, as for `Client`
         "groups": [str, ...]}                       # without `psk`: "X25519MLKEM768", "X25519", "secp256r1", "secp384r1"; the first
                                                     # with a key share; without: these
        ```
        With `previous` its TLS tickets are used when trust, certificate and all else that is offered are the same; there are none
        with a pre-shared key. Raises EngineError `config-invalid`, `psk-invalid`, `tls-name`, `ca-invalid`, `certificate-invalid`, ...
        """

    def feed(self, data: bytes) -> str:
        """Bytes from the server; `state` then. Raises TlsError."""

    def take(self) -> bytes:
        """The bytes that are to be sent now: handshake, alert, what was written."""

    def state(self) -> str:
        """`handshaking`, `open`, or `closed`: the server has said close_notify."""

    def facts(self) -> str | None:
        """JSON once it is open: `version`, `cipher`, `group`, `alpn`, `resumed`; null what there is not."""

    def write(self, data: bytes) -> None:
        """Encrypt `data`; `take` has it. Raises EngineError `config-invalid` unless it is open."""

    def read(self) -> bytes:
        """What the server has said since the last call; empty when that is nothing."""

    def key_log(self) -> list[str]:
        """The lines of an NSS key log that are new since the last call: secrets, keep them in memory."""

    def close(self) -> None:
        """Let close_notify be the last thing in `take`."""
