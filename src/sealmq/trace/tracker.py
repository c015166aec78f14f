"""The state of a connection as its client sees it, moved on by each message.

It refuses to know bytes and words: it is told which message came, and what the decoder settled so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.trace.fields import printable
from sealmq.trace.model import CertificateState, KeyExchange, Secret, SharedKey, State
from sealmq.trace.tls import names
from sealmq.trace.tls.decode import RECEIVED, SENT
from sealmq.trace.tls.prove import Outcome

if TYPE_CHECKING:
    from sealmq.trace.tls.decode import Facts, Message

HANDSHAKE_SECRETS = "handshake traffic secrets"
APPLICATION_SECRETS = "application traffic secrets"
MASTER_SECRET = "master secret"  # noqa: S105 - its name


class Tracker:
    """Holds the present state; `state` is a frozen copy of it."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.tcp = "none"
        self.handshake = "START"
        self.chain_received = self.accepted = self.proven = self.bound = self.resumed = False
        self.client_certificate = "none"
        self.secrets: list[Secret] = []
        self.channel = "none"
        self.mqtt = "none"
        self.shared_key: SharedKey = "none"

    @property
    def state(self) -> State:
        """What is true now."""
        return State(
            self.tcp,
            self.handshake,
            CertificateState(self.chain_received, self.accepted, self.proven, self.bound, self.resumed),
            self.client_certificate,
            tuple(self.secrets),
            self.channel,
            self.mqtt,
            self.shared_key,
        )

    def has_secret(self, name: str) -> bool:
        """Whether a secret of that name exists."""
        return any(secret.name == name for secret in self.secrets)

    def derive(self, name: str, origin: str) -> None:
        """A secret exists from now on."""
        if not self.has_secret(name):
            self.secrets.append(Secret(name, origin))

    def end(self) -> None:
        """The connection is over."""
        if self.tcp == "open":
            self.tcp = "closed"
        if self.channel == "open":
            self.channel = "closed"

    def alert(self, number: int) -> None:
        """The server ended the connection with this alert."""
        shown, withheld = self.client_certificate == "sent", self.client_certificate == "withheld"
        if (shown and number in names.CERTIFICATE_ALERTS) or (withheld and number in names.NO_CERTIFICATE_ALERTS):
            self.client_certificate = "refused"
        if self.shared_key in ("shown", "taken") and number in names.SHARED_KEY_ALERTS:
            self.shared_key = "refused"

    def message(self, message: Message, facts: Facts) -> None:
        """A message of the handshake crossed. Order: call it once per message, as they crossed."""
        if message.malformed:
            return
        if message.direction == SENT and message.name == "ClientHello":
            self.handshake = "WAIT_SH"
            if facts.identity:
                self.shared_key = "shown"
        if facts.is_tls13:
            self._tls13(message, facts)
        else:
            self._tls12(message, facts)
        if message.direction == SENT and message.name == "Certificate":
            self.client_certificate = "sent" if facts.client_chain else "withheld"
        if message.direction == RECEIVED and message.name == "CertificateRequest":
            self.client_certificate = "asked"
        if message.direction == RECEIVED and message.name == "Finished":
            self.bound = message.proof is not None and message.proof.outcome is Outcome.RIGHT
            if self.bound and facts.has_shared_key and not facts.resumed:
                self.shared_key = "proven"

    def _tls13(self, message: Message, facts: Facts) -> None:
        # RFC 8446, appendix A.1
        match message.direction, message.name:
            case "received", "HelloRetryRequest":
                self.handshake = "START"
            case "received", "ServerHello":
                self.handshake = "WAIT_EE"
                self.resumed = facts.resumed
                if self.shared_key == "shown":
                    self.shared_key = "taken" if facts.has_shared_key else "passed over"
            case "received", "EncryptedExtensions":
                without_certificate = facts.resumed or facts.has_shared_key
                self.handshake = "WAIT_FINISHED" if without_certificate else "WAIT_CERT_CR"
            case "received", "CertificateRequest":
                self.handshake = "WAIT_CERT"
            case "received", "Certificate":
                self.handshake = "WAIT_CV"
                self.chain_received = True
            case "received", "CertificateVerify":
                self.handshake = "WAIT_FINISHED"
                self._prove(message)
            case "sent", "Finished":
                self._connected()

    def _tls12(self, message: Message, facts: Facts) -> None:
        # RFC 5246, section 7.3, shows the order; it names no states
        match message.direction, message.name:
            case "received", "ServerHello":
                self.resumed = facts.resumed
                self.handshake = "WAIT_FINISHED" if facts.resumed else _waits_for(facts)
                if self.shared_key == "shown" and not facts.has_shared_key:
                    self.shared_key = "passed over"
            case "received", "Certificate":
                self.chain_received = True
                transport = facts.suite is not None and facts.suite.exchange == "RSA"
                self.handshake = "WAIT_SHD" if transport else "WAIT_SKE"
            case "received", "ServerKeyExchange":
                self.handshake = "WAIT_SHD"
                self._prove(message)
            case "received", "ServerHelloDone":
                self.handshake = "SEND_CKE"
            case "sent", "ClientKeyExchange":
                self.handshake = "SEND_FINISHED"
                if facts.has_shared_key:
                    self.shared_key = "shown"
            case "received", "ChangeCipherSpec" if self.shared_key == "shown":
                self.shared_key = "taken"  # the client's Finished was right, or the server would not have gone on
            case "sent", "Finished" if facts.resumed:
                self._connected()
            case "sent", "Finished":
                self.handshake = "WAIT_FINISHED"
            case "received", "Finished" if facts.resumed:
                self.handshake = "SEND_FINISHED"
            case "received", "Finished":
                # with key transport only the owner of the key could read the secret that this Finished depends on
                if message.proof is not None and message.proof.outcome is Outcome.RIGHT:
                    self.proven = not facts.has_shared_key
                if self.client_certificate == "sent":
                    self.client_certificate = "accepted"
                self._connected()

    def _prove(self, message: Message) -> None:
        self.proven = message.proof is not None and message.proof.outcome is Outcome.RIGHT

    def _connected(self) -> None:
        self.handshake = "CONNECTED"
        self.channel = "open"


def _waits_for(facts: Facts) -> str:
    """TLS 1.2: with a pre-shared key no certificate comes, and without a fresh agreement there is little to say."""
    if not facts.has_shared_key:
        return "WAIT_CERT"
    return "WAIT_SHD" if facts.suite is not None and facts.suite.exchange == "PSK" else "WAIT_SKE"


def key_exchange(facts: Facts) -> KeyExchange:
    """Which of the four forms the key exchange has; empty before a ServerHello."""
    if facts.server_hello is None or facts.server_hello.is_retry or facts.suite is None:
        return ""
    if facts.has_shared_key or (facts.is_tls13 and facts.group is None):
        return "psk"
    if facts.group in names.POST_QUANTUM_GROUPS:
        return "hybrid-pq"
    if facts.is_tls13:
        return "key-agreement"
    if facts.resumed:
        return "psk"
    return "key-transport" if facts.suite.exchange.startswith("RSA") else "key-agreement"


def key_origin(facts: Facts) -> str:
    """In words, what the secret of this connection comes from."""
    group = names.group(facts.group) if facts.group is not None else ""
    match key_exchange(facts):
        case "key-transport":
            return "sent by the client, encrypted to the server's RSA key"
        case "hybrid-pq":
            return f"agreed with {group}, post-quantum"
        case "key-agreement":
            with_session = " and the session before" if facts.resumed else ""
            return f"agreed with {group or 'Diffie-Hellman'}{with_session}"
        case "psk" if facts.resumed:
            return "kept from the session before"
        case "psk":
            key = f"the key of {printable(facts.identity)}" if facts.identity else "the key both share"
            fresh = group or ("Diffie-Hellman" if facts.suite is not None and "DHE" in facts.suite.exchange else "")
            return f"from {key} and a fresh agreement with {fresh}" if fresh else f"from {key} alone"
    return ""
