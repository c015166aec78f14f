"""One line for each message: what it says, what came of it, what is expected next.

It refuses to know layout and colour, and it proves nothing; the proofs come with the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sealmq.trace.fields import printable
from sealmq.trace.tls import certificates, names, suites
from sealmq.trace.tls.decode import SENT
from sealmq.trace.tls.prove import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.trace.tls.decode import Facts, Message


class Said(NamedTuple):
    """The three texts of a step."""

    says: str
    result: str
    next: str


_NEXT = {
    "HelloRetryRequest": "a second ClientHello with the share that is wanted",
    "EncryptedExtensions": "the server's certificate",
    "CertificateRequest": "the server's certificate",
    "CertificateVerify": "Finished",
    "ServerKeyExchange": "ServerHelloDone",
    "ServerHelloDone": "the client's half of the key exchange",
    "ClientKeyExchange": "both change to the new keys",
    "CertificateStatus": "the server's key exchange",
    "NewSessionTicket": "nothing: keep it for the next connection",
    "KeyUpdate": "records under the next key",
}

_SECRECY = {
    True: "the fresh agreement keeps it secret from who gets the key later",
    False: "no fresh agreement: who gets the key later reads all that was recorded",
}
"""By whether a key exchange is mixed into what a pre-shared key gives."""


def message(message: Message, facts: Facts, *, after_handshake: bool) -> Said:
    """The line for a TLS message; `facts` as settled when it had been read."""
    if message.malformed:
        return Said(message.malformed, "cannot be read", "nothing that can be relied on")
    known = _LINES.get((message.direction, message.name)) or _LINES.get(("", message.name))
    if known is None:
        return Said(f"{len(message.raw)} bytes", "not expected here" if not after_handshake else "", "")
    return known(message, facts)


def from_seat(said: Said, message: Message, *, is_broker: bool) -> Said:
    """The same line as a broker tells it, where `this side` is not the client."""
    if not is_broker:
        return said
    if message.name == "Alert" and message.alert is not None and message.alert[1] != 0:
        ours = message.direction != SENT
        return said._replace(result="the broker ended it" if ours else "the client ended it")
    if message.name == "Finished" and "may still refuse" in said.next:
        return said._replace(next="the channel is open")
    return Said(
        *(
            text.replace("this client", "the client").replace("to the server alone", "to the broker alone")
            for text in said
        )
    )


def alert_words(message: Message) -> str:
    """`fatal unknown_ca (48)`."""
    level, number = message.alert or (2, 80)
    return f"{'fatal' if level == 2 else 'warning'} {names.alert(number)} ({number})"


def _client_hello(message: Message, facts: Facts) -> Said:
    hello = facts.client_hello
    if hello is None:
        return Said("", "", "")
    offered = [names.version(number) for number in hello.versions if not names.is_grease(number)]
    groups = [names.group(number) for number in hello.groups if not names.is_grease(number)]
    more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    parts = [
        ("offers " if len(offered) > 1 else "offers no more than ") + " and ".join(offered),
        f"{len(hello.suites)} cipher suites",
        f"groups {', '.join(groups[:3])}{more}" if groups else "no groups",
        f"asks for {hello.server_name}" if hello.server_name else "names no host",
    ]
    if hello.protocols:
        parts.append(f"wants to speak {', '.join(hello.protocols)}")
    if hello.external_key is not None:
        parts.append(f"shows the pre-shared key of {printable(facts.identity)} by a binder")
    if hello.offers_session:
        parts.append("offers the session of before")
    result = "sent in clear: anyone on the way can read it"
    return Said("; ".join(parts), f"{result}; {_proof(message)}" if message.proof else result, "the server's choice")


def _retry(_: Message, facts: Facts) -> Said:
    group = facts.server_hello.group if facts.server_hello is not None else None
    wants = f"wants a key share of {names.group(group)}" if group is not None else "wants a cookie back"
    return Said(wants, "the client's guess did not fit, one more round trip", _NEXT["HelloRetryRequest"])


def _server_hello(_: Message, facts: Facts) -> Said:
    hello = facts.server_hello
    if hello is None or facts.version is None:
        return Said("", "", "")
    parts = [f"chooses {names.version(facts.version)}, {suites.name(hello.suite)}"]
    if facts.group is not None and facts.is_tls13:
        parts.append(f"key share {names.group(facts.group)}")
    extras = []
    if not facts.is_tls13:
        extras += ["extended master secret"] if hello.extended_master_secret else []
        extras += ["encrypt-then-MAC"] if hello.encrypt_then_mac else []
        extras += [f"speaks {hello.protocol}"] if hello.protocol else []
    parts += extras
    if facts.suite is None:
        return Said("; ".join(parts), "this suite cannot be decoded here", "what follows stays closed")
    if facts.resumed:
        return Said(
            "; ".join([*parts, "takes the session of before"]), "session resumed: no certificates this time", "Finished"
        )
    if facts.has_shared_key and facts.is_tls13:
        parts.append(f"takes the pre-shared key of {printable(facts.identity)}")
        secrecy = _SECRECY[facts.group is not None]
        return Said("; ".join(parts), f"the binder fits its copy of the key: no certificates; {secrecy}", "Finished")
    if facts.has_shared_key:
        secrecy = _SECRECY[facts.suite.exchange != "PSK"]
        return Said("; ".join(parts), f"a pre-shared key, no certificates; {secrecy}", "which key, if it gives a hint")
    if facts.is_tls13:
        return Said("; ".join(parts), "both sides can compute the handshake keys", "the rest of its flight, encrypted")
    return Said("; ".join(parts), "agreed on version and suite", "the server's certificate, in clear")


def _encrypted_extensions(message: Message, facts: Facts) -> Said:
    found = message.fields[0].children if message.fields else ()
    alpn = "application_layer_protocol_negotiation"
    answers = [f"speaks {facts.protocol}" if field.name == alpn else f"answers {field.name}" for field in found]
    listed = "; ".join(answers) or "nothing more to say"
    return Said(
        listed,
        "first message nobody else can read",
        "Finished" if facts.resumed or facts.has_shared_key else _NEXT["EncryptedExtensions"],
    )


def _certificate_request(_: Message, facts: Facts) -> Said:
    wanted = f" of {facts.wanted_issuers}" if facts.wanted_issuers else ""
    return Said(
        f"wants a client certificate{wanted}",
        "mutual TLS: both sides must show who they are",
        "the server's certificate" if facts.is_tls13 else "ServerHelloDone",
    )


def chain_words(chain: tuple[bytes, ...]) -> str:
    """A chain in a line: how long, whose, until when."""
    if not chain:
        return "no certificate"
    leaf = certificates.load(chain[0])
    count = f"{len(chain)} certificate{'s' if len(chain) != 1 else ''}"
    if leaf is None:
        return f"{count}; the first cannot be parsed"
    listed = certificates.alternative_names(leaf)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    for_names = f" for {', '.join(listed[:3])}{more}" if listed else ""
    until = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
    return f"{count}: {certificates.subject(leaf)}{for_names}, until {until}; issued by {certificates.issuer(leaf)}"


def _server_certificate(_: Message, facts: Facts) -> Said:
    return Said(chain_words(facts.server_chain), "shown, not yet believed", "is it trusted, and for this name?")


def _client_certificate(_: Message, facts: Facts) -> Said:
    following = "proof that this client holds the key" if facts.client_chain else "whether the server minds"
    if not facts.client_chain:
        return Said("empty: this client has no certificate to show", "nothing shown", following)
    return Said(
        chain_words(facts.client_chain), "shown to the server alone" if facts.is_tls13 else "shown, in clear", following
    )


def _proof(message: Message) -> str:
    return message.proof.words if message.proof is not None else ""


def _signed(message: Message, _: Facts) -> Said:
    right = message.proof is not None and message.proof.outcome is Outcome.RIGHT
    who = "client" if message.direction == SENT else "server"
    says = f"{who} signs the handshake so far with the key of its certificate"
    result = f"the {who} holds the key: {_proof(message)}" if right else _proof(message)
    return Said(says, result, "Finished")


def _server_key_exchange(message: Message, facts: Facts) -> Said:
    group = names.group(facts.group) if facts.group is not None else "Diffie-Hellman"
    if facts.has_shared_key:
        hint = next((field.value for field in message.fields if field.name == "psk_identity_hint"), "(empty)")
        words = "gives no hint which key it wants" if hint == "(empty)" else f"hints at the key it wants: {hint}"
        if facts.suite is not None and facts.suite.exchange == "PSK":
            return Said(words, "", _NEXT[message.name])
        half = f"the server's half of the key agreement, {group}; {words}"
        return Said(half, "not signed: the Finished will show that it has the key", _NEXT[message.name])
    right = message.proof is not None and message.proof.outcome is Outcome.RIGHT
    says = f"the server's half of the key agreement, {group}, signed with the key of its certificate"
    return Said(says, f"the server holds the key: {_proof(message)}" if right else _proof(message), _NEXT[message.name])


def _client_key_exchange(message: Message, facts: Facts) -> Said:
    exchange = facts.suite.exchange if facts.suite is not None else "any"
    if exchange.startswith("RSA"):
        return Said(
            "the client makes a secret and sends it, encrypted to the RSA key in the certificate",
            "only the owner of that key can read it; who gets that key later, reads all that was recorded",
            _NEXT[message.name],
        )
    if exchange == "PSK":
        words = f"names the key both share: that of {printable(facts.identity)}"
        return Said(words, _proof(message) or "no secret crossed the wire", _NEXT[message.name])
    group = names.group(facts.group) if facts.group is not None else "Diffie-Hellman"
    if facts.has_shared_key:
        key = f"names the key both share, that of {printable(facts.identity)}"
        words = f"{key}, and gives its half of the agreement, {group}"
        return Said(words, "no secret crossed the wire", _NEXT[message.name])
    return Said(f"the client's half of the key agreement, {group}", "no secret crossed the wire", _NEXT[message.name])


def _finished(message: Message, facts: Facts) -> Said:
    who, other = ("client", "server") if message.direction == SENT else ("server", "client")
    last = (message.direction == SENT) == (facts.is_tls13 or facts.resumed)
    following = "the channel is open" if last else f"the {other}'s answer"
    if message.direction == SENT and facts.is_tls13 and facts.client_answered:
        following = "the channel is open here; the server may still refuse the certificate"
    return Said(f"{who}'s MAC over every message so far", _proof(message), following)


def _ticket(message: Message, _: Facts) -> Said:
    lifetime = next((field.value for field in message.fields if field.name == "ticket_lifetime"), "")
    return Said(
        f"a ticket to resume this session, good for {lifetime}",
        "the next connection can be cheaper",
        _NEXT["NewSessionTicket"],
    )


def _alert(message: Message, _: Facts) -> Said:
    ours = message.direction == SENT
    number = message.alert[1] if message.alert is not None else -1
    if number == 0:
        return Said(
            "close_notify: nothing more will come",
            "an orderly end",
            "the other side's" if ours else "end of the connection",
        )
    return Said(
        alert_words(message), "this side ended it" if ours else "the server ended it", "nothing: the connection is over"
    )


def _simple(says: str, result: str, following: str = "") -> Callable[[Message, Facts], Said]:
    return lambda message, _: Said(says, result, following or _NEXT.get(message.name, ""))


def _application_data(message: Message, _: Facts) -> Said:
    return Said(f"{len(message.raw)} bytes of application data", "", "")


def _key_update(message: Message, _: Facts) -> Said:
    wants = message.fields[0].value if message.fields else ""
    return Said("changes to its next key", wants, _NEXT["KeyUpdate"])


def _hello_done(_: Message, __: Facts) -> Said:
    return Said("the server has said what it has to say", "the client's turn", _NEXT["ServerHelloDone"])


_LINES: dict[tuple[str, str], Callable[[Message, Facts], Said]] = {
    ("sent", "ClientHello"): _client_hello,
    ("received", "HelloRetryRequest"): _retry,
    ("received", "ServerHello"): _server_hello,
    ("received", "EncryptedExtensions"): _encrypted_extensions,
    ("received", "CertificateRequest"): _certificate_request,
    ("received", "Certificate"): _server_certificate,
    ("sent", "Certificate"): _client_certificate,
    ("", "CertificateVerify"): _signed,
    ("received", "ServerKeyExchange"): _server_key_exchange,
    ("received", "ServerHelloDone"): _hello_done,
    ("sent", "ClientKeyExchange"): _client_key_exchange,
    ("", "Finished"): _finished,
    ("received", "NewSessionTicket"): _ticket,
    ("received", "CertificateStatus"): _simple("the CA's word that the certificate is not revoked (OCSP)", "stapled"),
    ("received", "HelloRequest"): _simple(
        "asks for another handshake", "passed over: renegotiation is refused", "nothing"
    ),
    ("", "KeyUpdate"): _key_update,
    ("", "ChangeCipherSpec"): _simple("from here on under the new keys", "", "Finished"),
    ("", "Alert"): _alert,
    ("", "ApplicationData"): _application_data,
}
