"""Why each step of a connection exists, in two or three sentences for someone who sees it for the first time.

It refuses to know the connection at hand; what is particular to it stands in `says`.
"""

from __future__ import annotations

_TEXTS = {
    "resolve": (
        "A host name must become an address before anything can be sent. The answer is not protected: that the "
        "right server is at that address is shown later, by its certificate."
    ),
    "connect": (
        "TCP gives a reliable stream of bytes and nothing else. Nobody has shown who they are, and everyone on the "
        "way can read and change what crosses it."
    ),
    "accept": (
        "The operating system took a connection. All that is known of the other side is an address; who it is, its"
        " certificate will have to show."
    ),
    "ClientHello": (
        "The client opens with all it can do, so that the server can choose: versions, cipher suites, groups for "
        "the key agreement, and in TLS 1.3 already its half of that agreement, to save a round trip. It also names "
        "the host it wants, since many names may live at one address."
    ),
    "HelloRetryRequest": (
        "The client guessed which group the server would like and guessed wrong. The server names the one it wants;"
        " it costs a round trip and nothing else."
    ),
    "ServerHello": (
        "The server chooses one of each. In TLS 1.3 its half of the key agreement is in it, so that everything "
        "after is encrypted, its certificate too."
    ),
    "handshake keys": (
        "Both sides now compute the same secret from their own half and the other's. From it come the keys that "
        "hide the rest of the handshake. Nobody has yet shown who they are."
    ),
    "EncryptedExtensions": (
        "Answers to the offers in the ClientHello that the keys do not depend on, such as the application protocol."
        " They are encrypted since nobody else needs to know them."
    ),
    "CertificateRequest": (
        "The server wants to know who the client is. For devices this is better than a password: the key never "
        "leaves the device, and there is nothing to guess."
    ),
    "Certificate": (
        "A certificate binds names to a public key, and its issuer signed that. It is public: showing it proves "
        "nothing yet. The chain leads, certificate by certificate, to an issuer the other side already trusts."
    ),
    "certificate check": (
        "The client follows the chain to a trust anchor, checks every signature and date, and that the name it "
        "wanted is in the certificate. A client that leaves this out has an encrypted connection to whoever "
        "answered."
    ),
    "shared key check": (
        "Without certificates there is no name to check and nobody who vouches. Both sides mixed the same key into the"
        " secrets of this handshake, and only who has it can compute a Finished that fits: that is the whole proof."
    ),
    "client certificate check": (
        "With mutual TLS the broker does with the client's certificate what the client did with the broker's: chain,"
        " dates, purpose. The device id in it is who this client is from now on."
    ),
    "verdict": "What the broker made of the connection; the same record is in its log and in `sealmq log refusals`.",
    "CertificateVerify": (
        "A copy of a certificate is easily had; its private key is not. Signing this very handshake shows that the "
        "sender holds the key, here and now, and not in a recording."
    ),
    "ServerKeyExchange": (
        "The server's half of a fresh key agreement, signed with the key of its certificate. So the key exchange "
        "and the identity belong together, and a key stolen later opens no recording."
    ),
    "ServerHelloDone": "TLS 1.2 marks the end of the server's flight with a message of its own.",
    "ClientKeyExchange": (
        "The client's part of the key exchange. With RSA key transport it is the secret itself, encrypted; with "
        "Diffie-Hellman it is a public half that helps no listener."
    ),
    "session keys": (
        "The keys for the data are derived, one for each direction. They exist on both sides and were never sent."
    ),
    "ChangeCipherSpec": (
        "TLS 1.2 says when it changes to the new keys. In TLS 1.3 the same bytes are sent to please old middleboxes"
        " and mean nothing."
    ),
    "Finished": (
        "A MAC over every message of the handshake, under a key derived from it. If anyone had changed a single "
        "byte on the way, a downgrade of the version for instance, this would not fit."
    ),
    "NewSessionTicket": (
        "The server's memory of this session, encrypted for itself and kept by the client. Showing it next time "
        "saves the certificates and most of the computing: much, for a small device that reconnects often."
    ),
    "KeyUpdate": "After much data under one key, a fresh one: derived from the old by a one-way step.",
    "CertificateStatus": (
        "A recent word of the CA that the certificate is not revoked, carried by the server so that the client need"
        " not ask."
    ),
    "HelloRequest": (
        "TLS 1.2 let a server ask for another handshake in the middle. It was attacked, and TLS 1.3 dropped it."
    ),
    "Alert": (
        "TLS says why it ends, by number. close_notify is the orderly end: without it, nobody could tell a cut from"
        " an end."
    ),
    "ApplicationData": ("What TLS is for: bytes that only the two ends can read and that nobody can change unnoticed."),
    "upgrade request": (
        "A browser cannot open a plain connection, so MQTT goes inside a WebSocket there. It begins as a request in"
        " HTTP that asks to go on in frames; the key in it shows that the answer is to this request."
    ),
    "upgrade response": (
        "With 101 the server agrees, and proves that it read the key. From here on every MQTT packet travels in frames;"
        " TLS below knows nothing of it."
    ),
    "WebSocket Ping": "A sign of life of the WebSocket, below MQTT's own.",
    "WebSocket Pong": "The answer to a sign of life, with the same bytes.",
    "WebSocket Close": "The WebSocket is taken down before the TLS connection below it; both sides say so.",
    "CONNECT": (
        "The first packet of MQTT, sent only now that the channel stands: client id, keep-alive, and, where used, a"
        " password, which nobody on the way can read."
    ),
    "CONNACK": (
        "The broker's yes or no. With a client certificate in TLS 1.3 this is also the first sure sign that it was "
        "accepted: a refusal arrives after this side's handshake is over."
    ),
    "SUBSCRIBE": "The client says which topics it wants to hear.",
    "SUBACK": (
        "The broker answers for each topic filter: granted, with which QoS, or refused. This is where authorisation"
        " shows, which is another thing than authentication."
    ),
    "PUBLISH": ("A message on a topic. At QoS 1 it has a packet identifier and is repeated until it is acknowledged."),
    "PUBACK": "The receiver has taken the responsibility for the message.",
    "DISCONNECT": "An orderly end of the session: the broker does not send the will.",
    "PINGREQ": "A sign of life when nothing else is to be said.",
    "PINGRESP": "The answer to a sign of life.",
    "NotTls": (
        "Every record of TLS begins with its type, a version and a length. What came begins otherwise: something else"
        " speaks here, and its first bytes most often tell what."
    ),
    "UnreadableRecord": (
        "A record that its key does not open was changed on the way, or was made with a key that is not known here."
    ),
    "not MQTT": "What the channel carries must be MQTT packets from the first byte on; these are none.",
    "not WebSocket": "What the channel carries must be HTTP first and frames after that; this is neither.",
    "close": "TCP is taken down last. What was said stays secret: the session keys are forgotten on both sides.",
    "ended": "The connection ended here, without another message.",
}


def why(message: str) -> str:
    """The text for a message, a step of this side, or `ended`; empty when there is none."""
    return _TEXTS.get(message, "")
