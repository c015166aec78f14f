"""Both directions of a connection and its secrets in; messages out, opened, read, and proven where they prove
something.

It refuses to know sockets and time: bytes are fed in the order in which they crossed. Nothing a peer sends makes it
raise; what cannot be read becomes a message that says so. Call `feed` for every stretch of bytes, then read the facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sealmq.trace.fields import Field, Malformed
from sealmq.trace.tls import certificates, extensions, keylog, keys12, keys13, messages, names, protect, prove
from sealmq.trace.tls.hello import ClientHello, ServerHello
from sealmq.trace.tls.records import Cutter, Record
from sealmq.trace.tls.stream import Stream, Taken
from sealmq.trace.tls.suites import SUITES, Suite

Direction = Literal["sent", "received"]
Epoch = Literal["plain", "handshake", "application", "tls12"]
SENT: Direction = "sent"
RECEIVED: Direction = "received"

LARGEST_MESSAGE = 256 * 1024
"""Bytes of one handshake message; OpenSSL refuses certificates beyond 100 KiB long before."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, alert, or record of application data.

    `name` is the handshake message's, `Alert`, `ChangeCipherSpec`, `ApplicationData`, or, for what could not be read,
    `UnreadableRecord` and `NotTls`; then `malformed` says why. `raw` is the plaintext, of a handshake message with its
    header of 4 bytes. `wire` counts bytes on the wire, `records` the records that carried it.
    """

    direction: Direction
    name: str
    raw: bytes
    wire: int
    records: int
    epoch: Epoch
    fields: tuple[Field, ...] = ()
    proof: prove.Proof | None = None
    malformed: str = ""
    alert: tuple[int, int] | None = None


@dataclass(slots=True)
class Facts:
    """What the messages so far have settled; None, empty and False where nothing has."""

    client_hello: ClientHello | None = None
    server_hello: ServerHello | None = None
    retried: bool = False
    version: int | None = None
    suite: Suite | None = None
    group: int | None = None
    protocol: str = ""
    resumed: bool = False
    certificate_requested: bool = False
    wanted_issuers: str = ""  # of client certificates, as text; empty when any will do
    server_chain: tuple[bytes, ...] = ()
    client_chain: tuple[bytes, ...] = ()
    client_answered: bool = False  # a Certificate message was sent, with or without certificates
    server_finished: bool = False
    client_finished: bool = False
    tickets: int = 0
    identity: bytes = b""  # of a key shared beforehand, as soon as the client has named it
    has_shared_key: bool = False  # that key is what the secrets come from

    @property
    def is_tls13(self) -> bool:
        """Whether TLS 1.3 was negotiated."""
        return self.version == names.TLS13


class _Side:
    """One direction: its records, its unfinished message, its protection."""

    def __init__(self) -> None:
        self.cutter = Cutter()
        self.handshake = Stream()
        self.protection: protect.Protection = protect.Plain()
        self.epoch: Epoch = "plain"
        self.secret: bytes | None = None  # TLS 1.3: the traffic secret in force
        self.next: Epoch | None = None  # TLS 1.3: what the next protected record is under
        self.dead = False


class Decoder:
    """Decodes one connection, from its first byte."""

    def __init__(self, secrets: keylog.Secrets) -> None:
        """`secrets` may hold those of other connections too."""
        self.facts = Facts()
        self._secrets = secrets
        self._sides: dict[Direction, _Side] = {SENT: _Side(), RECEIVED: _Side()}
        self._transcript = b""

    def feed(self, direction: Direction, data: bytes) -> list[Message]:
        """The messages that these bytes complete."""
        side = self._sides[direction]
        if side.dead:
            return []
        done: list[Message] = []
        for record in side.cutter.feed(data):
            done += self._record(direction, side, record)
        if side.cutter.broken:
            side.dead = True
            rest = side.cutter.rest
            done.append(Message(direction, "NotTls", rest, len(rest), 0, side.epoch, malformed=side.cutter.broken))
        return done

    def unfinished(self, direction: Direction) -> bytes:
        """Bytes of a record that has not come whole."""
        side = self._sides[direction]
        return b"" if side.dead else side.cutter.rest

    def unfinished_message(self, direction: Direction) -> bytes:
        """Bytes of a handshake message that has not come whole, though its records have."""
        stream = self._sides[direction].handshake
        return stream.peek(len(stream))

    def _record(self, direction: Direction, side: _Side, record: Record) -> list[Message]:
        try:
            epoch, kind, plain = self._open(direction, side, record)
        except protect.Unopened as error:
            return [Message(direction, "UnreadableRecord", b"", record.wire, 1, side.epoch, malformed=str(error))]
        if kind == names.HANDSHAKE:
            side.handshake.add(plain, record.wire)
            return self._handshakes(direction, side)
        if kind == names.CHANGE_CIPHER_SPEC:
            self._change_cipher(direction, side)
            return [Message(direction, "ChangeCipherSpec", plain, record.wire, 1, epoch)]
        if kind == names.ALERT:
            return [_alert(direction, plain, record.wire, epoch)]
        return [Message(direction, "ApplicationData", plain, record.wire, 1, epoch)]

    # --- protection ---------------------------------------------------------------------------------------------

    def _open(self, direction: Direction, side: _Side, record: Record) -> tuple[Epoch, int, bytes]:
        kind = record.content_type
        if not self.facts.is_tls13:
            epoch = side.epoch
            return epoch, *side.protection.open(record)
        # OpenSSL and others send an alert in clear when their key for it was never made; a
        # ChangeCipherSpec is for middleboxes alone (RFC 8446, appendix D.4)
        if kind != names.APPLICATION_DATA:
            return "plain", kind, record.fragment
        if side.next is not None:
            self._install13(direction, side, side.next)
        if side.secret is None:
            raise protect.Unopened("the secret of this record was not seen")
        epoch = side.epoch
        return epoch, *side.protection.open(record)

    def _install13(self, direction: Direction, side: _Side, epoch: Epoch) -> None:
        labels = {
            ("sent", "handshake"): keylog.CLIENT_HANDSHAKE,
            ("received", "handshake"): keylog.SERVER_HANDSHAKE,
            ("sent", "application"): keylog.CLIENT_APPLICATION,
            ("received", "application"): keylog.SERVER_APPLICATION,
        }
        hello = self.facts.client_hello
        secret = self._secrets.find(hello.random, labels[direction, epoch]) if hello is not None else None
        if secret is None:
            raise protect.Unopened("the secret of this record was not seen")
        side.next = None
        side.epoch = epoch
        self._take_secret13(side, secret)

    def _take_secret13(self, side: _Side, secret: bytes) -> None:
        suite = self.facts.suite
        if suite is None:
            raise protect.Unopened("the cipher suite is not known here")
        side.secret = secret
        side.protection = protect.Aead13(suite, *keys13.traffic_key(secret, suite.key, suite.hash))

    def _change_cipher(self, direction: Direction, side: _Side) -> None:
        facts = self.facts
        if facts.is_tls13 or facts.version is None:
            return
        side.epoch = "tls12"
        side.protection = _Closed()
        master, suite = self._master(), facts.suite
        if master is None or suite is None or facts.client_hello is None or facts.server_hello is None:
            return
        client, server = keys12.key_block(
            master,
            suite,
            client_random=facts.client_hello.random,
            server_random=facts.server_hello.random,
            version=facts.version,
        )
        side.protection = protect.tls12(
            suite,
            client if direction == SENT else server,
            encrypt_then_mac=facts.server_hello.encrypt_then_mac,
            version=facts.version,
        )

    def _master(self) -> bytes | None:
        hello = self.facts.client_hello
        return self._secrets.find(hello.random, keylog.MASTER) if hello is not None else None

    # --- handshake messages -------------------------------------------------------------------------------------

    def _handshakes(self, direction: Direction, side: _Side) -> list[Message]:
        done: list[Message] = []
        while len(side.handshake) >= 4 and not side.dead:
            length = int.from_bytes(side.handshake.peek(4)[1:], "big")
            if length > LARGEST_MESSAGE:
                side.dead = True
                taken = side.handshake.take(len(side.handshake))
                name = names.message(taken.data[0])
                why = f"{name} claims {length} bytes, more than {LARGEST_MESSAGE}"
                done.append(Message(direction, name, taken.data, taken.wire, taken.records, side.epoch, malformed=why))
            elif len(side.handshake) < 4 + length:
                break
            else:
                done.append(self._handshake(direction, side, side.handshake.take(4 + length)))
        return done

    def _handshake(self, direction: Direction, side: _Side, taken: Taken) -> Message:
        raw = taken.data
        name, epoch, before = names.message(raw[0]), side.epoch, self._transcript
        fields: tuple[Field, ...] = ()
        proof: prove.Proof | None = None
        malformed = ""
        try:
            name, fields, proof = self._read(direction, side, raw, before)
        except (Malformed, protect.Unopened) as error:
            malformed = str(error)
        # a NewSessionTicket counts in TLS 1.2 alone, a HelloRequest nowhere (RFC 5246, 7.4.1.1; RFC 8446, 4.4.1)
        if raw[0] not in ((4, 24) if self.facts.is_tls13 else (0,)):
            suite = self.facts.suite
            if name == "HelloRetryRequest" and suite is not None:
                self._transcript = keys13.message_hash(self._transcript, suite.hash)
            self._transcript += raw
        return Message(direction, name, raw, taken.wire, taken.records, epoch, fields, proof, malformed)

    def _read(
        self, direction: Direction, side: _Side, raw: bytes, before: bytes
    ) -> tuple[str, tuple[Field, ...], prove.Proof | None]:
        facts, body, name = self.facts, raw[4:], names.message(raw[0])
        proof: prove.Proof | None = None
        fields: tuple[Field, ...] = ()
        has_scheme = facts.version is None or facts.version >= names.TLS12
        match name:
            case "ClientHello" if direction == SENT:
                facts.client_hello, fields = ClientHello.parse(body)
                proof = self._binder(facts.client_hello, raw, before)
            case "ServerHello" if direction == RECEIVED:
                hello, fields = ServerHello.parse(body)
                name = "HelloRetryRequest" if hello.is_retry else name
                self._server_hello(hello)
            case "EncryptedExtensions":
                found, fields = messages.encrypted_extensions(body)
                facts.protocol = next(iter(extensions.protocols(extensions.value(found, 16))), "")
            case "CertificateRequest":
                fields = messages.certificate_request(body, tls13=facts.is_tls13)
                facts.certificate_requested = True
                facts.wanted_issuers = messages.wanted_issuers(fields)
            case "Certificate":
                chain, fields = certificates.parse_chain(body, tls13=facts.is_tls13)
                if direction == RECEIVED:
                    facts.server_chain = chain
                else:
                    facts.client_chain, facts.client_answered = chain, True
            case "ServerKeyExchange" if facts.suite is not None:
                found_parameters, fields = messages.server_key_exchange(
                    body, facts.suite.exchange, has_scheme=has_scheme
                )
                facts.group = found_parameters.group
                if (signed := found_parameters.signed) is not None:
                    proof = self._signed12(direction, signed, self._randoms() + signed.over)
            case "ClientKeyExchange" if facts.suite is not None:
                facts.identity, fields = messages.client_key_exchange(body, facts.suite.exchange)
                proof = self._of_key_alone()
            case "CertificateVerify":
                signed_by, fields = messages.certificate_verify(body, has_scheme=has_scheme)
                proof = self._certificate_verify(direction, signed_by, before)
            case "Finished":
                fields = (Field("verify_data", body.hex()),)
                proof = self._finished(direction, side, body, before)
            case "NewSessionTicket":
                _, fields = messages.new_session_ticket(body, tls13=facts.is_tls13)
                facts.tickets += 1
            case "KeyUpdate" if facts.is_tls13 and facts.suite is not None and side.secret is not None:
                fields = messages.key_update(body)
                self._take_secret13(side, keys13.next_secret(side.secret, facts.suite.hash))
            case _:
                fields = (Field("bytes", str(len(body))),)
        return name, fields, proof

    def _server_hello(self, hello: ServerHello) -> None:
        facts = self.facts
        facts.server_hello, facts.version, facts.suite = hello, hello.version, SUITES.get(hello.suite)
        if hello.is_retry:
            facts.retried = True
            return
        if facts.is_tls13:
            facts.group = hello.group
            self._select(hello.selected_key)
            for side in self._sides.values():
                side.next = "handshake"
        else:
            offered = facts.client_hello.session_id if facts.client_hello is not None else b""
            facts.resumed = bool(offered) and offered == hello.session_id
            facts.has_shared_key = facts.suite is not None and facts.suite.has_shared_key
            facts.protocol = hello.protocol

    # --- keys shared beforehand ---------------------------------------------------------------------------------

    def _select(self, selected: int | None) -> None:
        """TLS 1.3: the server uses one of the keys offered, a ticket's or one shared beforehand, or none."""
        facts = self.facts
        offered = facts.client_hello.pre_shared_keys[0] if facts.client_hello is not None else ()
        used = offered[selected] if selected is not None and selected < len(offered) else None
        facts.has_shared_key = used is not None and used.is_external
        facts.resumed = selected is not None and not facts.has_shared_key

    def _binder(self, hello: ClientHello, raw: bytes, before: bytes) -> prove.Proof | None:
        """The check of a binder, None where there is none or the recording does not know the key."""
        offered = hello.external_key
        self.facts.identity = offered.identity if offered is not None else b""
        key = self._secrets.find(hello.random, keylog.BINDER)
        if offered is None or key is None or len(key) != len(offered.binder):
            return None
        covered = raw[: -hello.pre_shared_keys[1]]
        return prove.binder(keys13.mac(key, before + covered, offered.algorithm), offered.binder)

    def _of_key_alone(self) -> prove.Proof | None:
        """TLS 1.2: with plain PSK the secret follows from the key alone; None when the recording does not know it."""
        hello, suite, used = self.facts.client_hello, self.facts.suite, self._master()
        if hello is None or suite is None or used is None or suite.exchange != "PSK":
            return None
        of_key = self._secrets.find(hello.random, keylog.PSK_MASTER)
        return prove.shared_key(of_key, used) if of_key is not None else None

    def _randoms(self) -> bytes:
        facts = self.facts
        if facts.client_hello is None or facts.server_hello is None:
            return b""
        return facts.client_hello.random + facts.server_hello.random

    def _leaf(self, direction: Direction) -> bytes | None:
        chain = self.facts.client_chain if direction == SENT else self.facts.server_chain
        return chain[0] if chain else None

    def _signed12(self, direction: Direction, signed: messages.Signed, over: bytes) -> prove.Proof:
        return prove.signature12(signed, self._leaf(direction), over)

    def _certificate_verify(self, direction: Direction, signed: messages.Signed, before: bytes) -> prove.Proof:
        suite = self.facts.suite
        if not self.facts.is_tls13 or suite is None:
            return self._signed12(direction, signed, before)
        return prove.signature13(
            signed, self._leaf(direction), server=direction == RECEIVED, transcript=before, algorithm=suite.hash
        )

    def _finished(self, direction: Direction, side: _Side, received: bytes, before: bytes) -> prove.Proof:
        facts = self.facts
        expected: bytes | None = None
        if direction == SENT:
            facts.client_finished = True
        else:
            facts.server_finished = True
        if facts.is_tls13:
            if side.secret is not None and facts.suite is not None:
                expected = keys13.verify_data(side.secret, before, facts.suite.hash)
            side.next = "application"
        elif facts.suite is not None and facts.version is not None and (master := self._master()) is not None:
            label = b"client finished" if direction == SENT else b"server finished"
            expected = keys12.verify_data(master, before, facts.suite, label=label, version=facts.version)
        return prove.finished(expected, received)


class _Closed:
    """TLS 1.2 records whose secret is not known."""

    def open(self, record: Record) -> tuple[int, bytes]:
        """Never."""
        del record
        raise protect.Unopened("the secret of this record was not seen")


def _alert(direction: Direction, plain: bytes, wire: int, epoch: Epoch) -> Message:
    try:
        level, description, fields = messages.alert(plain)
    except Malformed as error:
        return Message(direction, "Alert", plain, wire, 1, epoch, malformed=str(error))
    return Message(direction, "Alert", plain, wire, 1, epoch, fields, alert=(level, description))
