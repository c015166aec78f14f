"""Owns what TLS the broker speaks: versions, suites, groups, resumption and its end, and what handshakes may hold up.

Refuses to know why a peer is refused; that is in `test_refusals`.
"""

import itertools
import socket
import ssl
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
import raw_mqtt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from raw_mqtt import CONNACK, Wire, client_context
from stock_clients import gnutls_cli, s_client

from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.pki import profiles, signing
from sealmq.testing import EphemeralBroker, ThrowawayCA

_serial = itertools.count(1)
TLS12 = {
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
TLS12_RSA = {
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
TLS13 = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
REFUSED12 = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-CAMELLIA128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-SHA",
    "DHE-RSA-AES256-GCM-SHA384",
    "ADH-AES128-GCM-SHA256",
    "ECDHE-ECDSA-NULL-SHA",
]


class _Rsa(ThrowawayCA):
    """Its server certificates have RSA keys."""

    def issue_server(self, *hosts, fault=None):
        usual = super().issue_server(*hosts, fault=fault)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        leaf = signing.sign_leaf(
            profiles.SERVER,
            issuer=self._servers,
            public_key=key.public_key(),
            common_name="rsa broker",
            names=signing.general_names(["127.0.0.1"]),
            now=self.now,
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return replace(usual, cert_pem=signing.certificate_pem(leaf, self._servers.certificate), key_pem=pem)


@pytest.fixture(scope="module")
def ca():
    return ThrowawayCA()


@pytest.fixture(scope="module")
def broker(ca):
    """One for the whole file; tests that reload make their own."""
    with EphemeralBroker(ca=ca) as running:
        yield running


@pytest.fixture(scope="module")
def rsa_broker():
    with EphemeralBroker(ca=_Rsa()) as running:
        yield running


@pytest.fixture
def client_id():
    """A client id of sensor-1 that no other test has."""
    return f"sensor-1:{next(_serial)}"


def says_hello(broker, client_id, *options, files=None):
    """`openssl s_client` that sends CONNECT and DISCONNECT: how it ended, and what the broker noted of its TLS."""
    stdin = raw_mqtt.connect(client_id) + raw_mqtt.packet(0xE0)
    ended = s_client(broker.port, *options, files=files or broker.device("sensor-1"), stdin=stdin)
    assert ended.status == 0, ended.text
    return ended, broker.wait_event("connected", client_id=client_id)["tls"]


# --- versions, suites, groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "name"), [*TLS12.items(), *TLS12_RSA.items()])
def test_suites_of_tls_1_2(broker, rsa_broker, client_id, suite, name):
    to = rsa_broker if suite in TLS12_RSA else broker
    ended, tls = says_hello(to, client_id, "-tls1_2", "-cipher", suite, "-verify_return_error")
    assert f"Cipher    : {suite}" in ended.text
    assert (tls["version"], tls["cipher"], tls["resumed"]) == ("TLS 1.2", name, False)


@pytest.mark.parametrize("suite", TLS13)
def test_suites_of_tls_1_3(broker, client_id, suite):
    ended, tls = says_hello(broker, client_id, "-tls1_3", "-ciphersuites", suite, "-verify_return_error")
    assert f"Cipher is {suite}" in ended.text
    assert (tls["version"], tls["cipher"], tls["resumed"]) == ("TLS 1.3", suite, False)


@pytest.mark.parametrize(("first", "taken"), [("AES_256", "AES_128"), ("AES_128", "AES_128"), ("CHACHA20", "CHACHA20")])
def test_whose_order_of_suites_counts(broker, client_id, first, taken):
    """AES-128 before AES-256, but ChaCha20 for a client that begins with it: it has no AES in hardware."""
    others = [suite for suite in TLS13[::-1] if first not in suite]
    named = [suite for suite in TLS13 if first in suite]
    _, tls = says_hello(broker, client_id, "-tls1_3", "-ciphersuites", ":".join(named + others))
    assert taken in tls["cipher"]
    others = [suite for suite in list(TLS12)[::-1] if first.replace("_", "") not in suite]
    named = [suite for suite in TLS12 if first.replace("_", "") in suite]
    _, tls = says_hello(broker, client_id, "-tls1_2", "-cipher", ":".join(named + others))
    assert taken in tls["cipher"]


def test_the_newest_version_is_taken(broker, client_id):
    _, tls = says_hello(broker, client_id)
    assert tls["version"] == "TLS 1.3"


@pytest.mark.parametrize("suite", REFUSED12)
def test_other_suites_are_refused(broker, suite):
    ended = s_client(broker.port, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0", files=broker.device("sensor-1"))
    assert (ended.status, ended.alert) == (1, 40), ended.text


@pytest.mark.parametrize("suite", ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
def test_other_suites_of_tls_1_3_are_refused(broker, suite):
    ended = s_client(broker.port, "-tls1_3", "-ciphersuites", suite, files=broker.device("sensor-1"))
    assert (ended.status, ended.alert) == (1, 40), ended.text


@pytest.mark.parametrize("priority", ["NORMAL:-VERS-ALL:+VERS-TLS1.1", "NORMAL:-VERS-ALL:+VERS-TLS1.0"])
def test_old_versions_of_gnutls(broker, priority):
    ended = gnutls_cli(broker.port, "--priority", f"{priority}:%COMPAT", files=broker.device("sensor-1"))
    assert ended.status == 1
    assert "version" in ended.text.lower()


@pytest.mark.parametrize(
    ("hello", "answer"),
    [
        # SSL 3.0: a ClientHello with TLS_RSA_WITH_AES_128_CBC_SHA and no extensions
        (b"\x16\x03\x00\x00\x2d\x01\x00\x00\x29\x03\x00" + bytes(32) + b"\x00\x00\x02\x00\x2f\x01\x00", b"\x02\x46"),
        # SSL 2.0: CLIENT-HELLO
        (b"\x80\x1c\x01\x00\x02\x00\x03\x00\x00\x00\x10\x01\x00\x80" + bytes(16), b""),
    ],
    ids=["ssl3", "ssl2"],
)
def test_ssl(broker, hello, answer):
    with socket.create_connection(("127.0.0.1", broker.port)) as peer:
        peer.settimeout(raw_mqtt.SECONDS)
        peer.sendall(hello)
        assert peer.recv(100)[5:] == answer  # protocol_version, or nothing that SSL 2.0 could read
        assert peer.recv(100) == b""


def test_the_own_client_agrees_on_a_post_quantum_group(broker, client_id):
    files = broker.device("sensor-1")
    identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
    connection = Connection.open(Target.parse(broker.url), identity, client_id=client_id)
    with connection:
        assert connection.connack()["tls"]["group"] == "X25519MLKEM768"
    tls = broker.wait_event("connected", client_id=client_id)["tls"]
    assert (tls["version"], tls["group"]) == ("TLS 1.3", "X25519MLKEM768")


@pytest.mark.parametrize(
    ("version", "groups", "found"),
    [
        ("-tls1_2", "X25519:P-256", "X25519"),
        ("-tls1_2", "P-384:P-256", "secp384r1"),  # the client's order
        ("-tls1_3", "X25519:P-256", "X25519"),
        ("-tls1_3", "P-256", "secp256r1"),
        ("-tls1_3", "P-384", "secp384r1"),
        ("-tls1_3", "P-521:P-384", "secp384r1"),  # no key share fits: HelloRetryRequest
    ],
)
def test_groups(broker, client_id, version, groups, found):
    _, tls = says_hello(broker, client_id, version, "-groups", groups)
    assert tls["group"] == found


def test_alpn_is_answered(broker, client_id):
    ended, _ = says_hello(broker, client_id, "-alpn", "x-unknown,mqtt")
    assert "ALPN protocol: mqtt" in ended.text


# --- resumption ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(broker, tmp_path, client_id, version):
    ticket = tmp_path / "ticket"
    first, tls = says_hello(broker, client_id, version, "-sess_out", ticket)
    assert ("New, TLSv1" in first.text, tls["resumed"]) == (True, False)
    again = client_id + ":again"
    second, tls = says_hello(broker, again, version, "-sess_in", ticket)
    assert ("Reused, TLSv1" in second.text, tls["resumed"]) == (True, True)
    assert broker.wait_event("connected", client_id=again)["device"] == "sensor-1"


def test_early_data_is_never_offered(broker, tmp_path, client_id):
    """A CONNECT in early data could be replayed by whoever recorded it (RFC 8446 section 8)."""
    ended, _ = says_hello(broker, client_id, "-tls1_3", "-sess_out", tmp_path / "ticket")
    assert "Max Early Data: 0" in ended.text


def test_a_resumed_session_is_still_that_of_its_certificate(broker, tmp_path, client_id):
    """Whoever holds the ticket of sensor-1 is sensor-1, whatever certificate lies beside it."""
    ticket = tmp_path / "ticket"
    says_hello(broker, client_id, "-sess_out", ticket)
    stdin = raw_mqtt.connect("sensor-2")
    ended = s_client(broker.port, "-sess_in", ticket, files=broker.device("sensor-2"), stdin=stdin)
    assert "Reused" in ended.text
    record = broker.wait_event("refused", cause="client-id-mismatch", client_id="sensor-2")
    assert record["certificate"]["device"] == "sensor-1"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_change_of_trust_ends_resumption(tmp_path, version):
    """The ticket was given under another CA: a full handshake follows, and the old certificate is looked at anew."""
    before, after = ThrowawayCA(), ThrowawayCA(fleet="fleet-test")
    ticket = tmp_path / "ticket"
    with EphemeralBroker(ca=before) as broker:
        files = broker.device("sensor-1")
        says_hello(broker, "sensor-1", version, "-sess_out", ticket)
        broker.reload(ca=after)
        ended = s_client(broker.port, version, "-sess_in", ticket, files=files, stdin=raw_mqtt.connect("sensor-1"))
        assert (ended.status, ended.alert) == (1, 48), ended.text
        assert "Reused" not in ended.text
        broker.wait_event("refused", cause="untrusted-issuer")


def test_a_reload_without_change_costs_no_full_handshake(ca, tmp_path):
    ticket = tmp_path / "ticket"
    with EphemeralBroker(ca=ca) as broker:
        says_hello(broker, "sensor-1:a", "-sess_out", ticket)
        broker.reload()
        ended, tls = says_hello(broker, "sensor-1:b", "-sess_in", ticket)
        assert ("Reused" in ended.text, tls["resumed"]) == (True, True)


def test_established_connections_stay_at_a_reload(ca):
    with EphemeralBroker(ca=ca) as broker, Wire.join(broker.port, broker.device("sensor-1"), "sensor-1") as wire:
        broker.reload(ca=ThrowawayCA())
        wire.round_trip()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_expires_before_it_is_resumed(ca, tmp_path, version):
    """Connecting again and again by tickets: resumed while the certificate holds; from its end on a full handshake
    follows, in which it is refused."""
    short = _ending_soon(ca).write(tmp_path / "short")
    with EphemeralBroker(ca=ca) as broker:
        context = client_context(short)
        context.minimum_version = context.maximum_version = version

        def come(session):
            with Wire.open(broker.port, None, context=context, session=session) as wire:
                wire.send(raw_mqtt.connect("sensor-1"))
                connack = wire.packet()
                assert connack.kind == CONNACK
                assert wire.socket.session_reused == (session is not None)
                if connack.body[1] != 0:  # the end came between handshake and CONNECT
                    raise ConnectionError(connack.reason_string(2))
                return wire.socket.session

        def come_again_and_again():
            session = None
            for attempt in itertools.count(1):
                session = come(session)
                attempts.append(attempt)

        attempts = []
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)expired|reset"):
            come_again_and_again()
        assert len(attempts) >= 2
        record = broker.wait_event("refused", cause="certificate-expired")
        assert record["certificate"]["device"] == "sensor-1"


# --- handshakes and traffic ---------------------------------------------------------------------------------------


def test_stalled_handshakes_hold_up_nobody(ca):
    """50 peers that say nothing, or half of something, while messages flow and others come in."""
    with EphemeralBroker(ca=ca) as broker, ExitStack() as stack:
        wire = stack.enter_context(Wire.join(broker.port, broker.device("sensor-1"), "sensor-1"))
        wire.send(raw_mqtt.subscribe("devices/sensor-1/#"))
        wire.packet()
        for number in range(50):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 10))
            peer.sendall(b"\x16\x03\x01\x01\x00\x01"[: number % 7])
        for number in range(500):
            wire.send(raw_mqtt.publish("devices/sensor-1/x", str(number).encode()))
            assert wire.packet().body.endswith(str(number).encode())
        for number in range(10):
            Wire.join(broker.port, broker.device("sensor-1"), f"sensor-1:{number}").close()
        assert broker.refusals() == []


def test_more_stalled_handshakes_than_are_allowed_at_once(ca):
    """Who has no place waits to be accepted; established traffic goes on, and the newcomer comes in after some time."""
    limits = {"max_handshakes": 5, "handshake_timeout_ms": 300}
    with EphemeralBroker(ca=ca, limits=limits) as broker, ExitStack() as stack:
        wire = stack.enter_context(Wire.join(broker.port, broker.device("sensor-1"), "sensor-1"))
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 10))
        wire.round_trip()
        Wire.join(broker.port, broker.device("sensor-1"), "sensor-1:late").close()
        wire.round_trip()
        assert {record["cause"] for record in broker.refusals()} <= {"handshake-stalled", "crowded-out"}


def test_silent_connections_make_room_for_those_who_speak(ca):
    """Fifteen silent peers in front of five places with a minute each: a client gets in long before that minute."""
    limits = {"max_handshakes": 5, "handshake_timeout_ms": 60_000}
    with EphemeralBroker(ca=ca, limits=limits) as broker, ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 10))
        Wire.join(broker.port, broker.device("sensor-1"), "sensor-1").close()
        assert {record["cause"] for record in broker.refusals()} == {"crowded-out"}


# --- tools --------------------------------------------------------------------------------------------------------


def _ending_soon(ca):
    """A device certificate with two seconds to live."""
    now = ca.now
    try:
        ca.now = signing.utc_now() + timedelta(seconds=2) - profiles.device_profile("default").lifetime
        return ca.issue_client("sensor-1")
    finally:
        ca.now = now
