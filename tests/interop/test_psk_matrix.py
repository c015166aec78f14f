"""Pre-shared keys with the stacks that small devices have: client by version by suite, a message there and back.

The clients in C are those of `make constrained`. mbedTLS 2.28 speaks TLS 1.2 alone.
"""

import sys
from pathlib import Path

import pytest

from programs import finished
from sealmq.testing import EphemeralBroker

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench import constrained

# TLS 1.2, by the names of: mbedTLS, wolfSSL, and GnuTLS as what is added to a priority string without key exchanges.
# Debian's wolfSSL is built without plain PSK, but for ChaCha20.
SUITES = {
    "ECDHE-PSK-CHACHA20-POLY1305": (
        "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "+ECDHE-PSK:-CIPHER-ALL:+CHACHA20-POLY1305",
    ),
    "ECDHE-PSK-AES128-CBC-SHA256": (
        "TLS-ECDHE-PSK-WITH-AES-128-CBC-SHA256",
        "ECDHE-PSK-AES128-CBC-SHA256",
        "+ECDHE-PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
    ),
    "PSK-AES128-GCM-SHA256": (
        "TLS-PSK-WITH-AES-128-GCM-SHA256",
        None,
        "+PSK:-CIPHER-ALL:+AES-128-GCM",
    ),
    "PSK-AES256-GCM-SHA384": (
        "TLS-PSK-WITH-AES-256-GCM-SHA384",
        None,
        "+PSK:-CIPHER-ALL:+AES-256-GCM",
    ),
    "PSK-CHACHA20-POLY1305": (
        "TLS-PSK-WITH-CHACHA20-POLY1305-SHA256",
        "PSK-CHACHA20-POLY1305",
        "+PSK:-CIPHER-ALL:+CHACHA20-POLY1305",
    ),
    "PSK-AES128-CCM": ("TLS-PSK-WITH-AES-128-CCM", None, "+PSK:-CIPHER-ALL:+AES-128-CCM"),
    "PSK-AES256-CCM": ("TLS-PSK-WITH-AES-256-CCM", None, "+PSK:-CIPHER-ALL:+AES-256-CCM"),
    "PSK-AES128-CCM8": ("TLS-PSK-WITH-AES-128-CCM-8", None, "+PSK:-CIPHER-ALL:+AES-128-CCM-8"),
    "PSK-AES256-CCM8": ("TLS-PSK-WITH-AES-256-CCM-8", None, "+PSK:-CIPHER-ALL:+AES-256-CCM-8"),
    "PSK-AES128-CBC-SHA256": (
        "TLS-PSK-WITH-AES-128-CBC-SHA256",
        None,
        "+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
    ),
}
SUITES13 = {
    "TLS_AES_128_GCM_SHA256": ("TLS13-AES128-GCM-SHA256", "+AES-128-GCM"),
    "TLS_CHACHA20_POLY1305_SHA256": ("TLS13-CHACHA20-POLY1305-SHA256", "+CHACHA20-POLY1305"),
    "TLS_AES_128_CCM_SHA256": ("TLS13-AES128-CCM-SHA256", "+AES-128-CCM"),
    "TLS_AES_128_CCM_8_SHA256": ("TLS13-AES128-CCM-8-SHA256", "+AES-128-CCM-8"),
}


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker(psk=True) as running:
        yield running


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    return constrained.build(tmp_path_factory.mktemp("clients"))


def through(broker, clients, library, **options):
    """What the client tells of its one connection."""
    line = broker.device_psk("small")
    done = constrained.run(clients[library], port=broker.port_of("psk"), device="small", psk=line, **options)
    assert not done.fault
    assert len(done.connections) == 1
    return done.connections[0]


def s_client(broker, *options):
    identity, key = broker.device_psk("small").split(":")
    reach = ["openssl", "s_client", "-connect", f"127.0.0.1:{broker.port_of('psk')}", "-psk_identity", identity]
    return finished(*reach, "-psk", key, *options)


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_12(broker, suite):
    done = s_client(broker, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert f"Cipher is {suite}\n" in done.stdout


@pytest.mark.parametrize("suite", SUITES13)
def test_openssl_13(broker, suite):
    done = s_client(broker, "-tls1_3", "-ciphersuites", suite)
    assert f"TLSv1.3, Cipher is {suite}\n" in done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_mbedtls_12(broker, clients, suite):
    name = SUITES[suite][0]
    assert through(broker, clients, "mbedtls", suite=name)["suite"] == name


@pytest.mark.parametrize("suite", [suite for suite, names in SUITES.items() if names[1]])
def test_wolfssl_12(broker, clients, suite):
    name = SUITES[suite][1]
    assert through(broker, clients, "wolfssl", version="1.2", suite=name)["version"] == "TLSv1.2"


@pytest.mark.parametrize("suite", SUITES13)
def test_wolfssl_13(broker, clients, suite):
    found = through(broker, clients, "wolfssl", version="1.3", suite=SUITES13[suite][0])
    assert (found["version"], found["suite"]) == ("TLSv1.3", SUITES13[suite][0])


@pytest.mark.parametrize("suite", SUITES)
def test_gnutls_12(broker, clients, suite):
    found = through(broker, clients, "gnutls", version="1.2", suite=f":-KX-ALL:{SUITES[suite][2]}")
    assert found["version"] == "TLS1.2"


@pytest.mark.parametrize("suite", SUITES13)
def test_gnutls_13(broker, clients, suite):
    found = through(broker, clients, "gnutls", version="1.3", suite=f":-CIPHER-ALL:{SUITES13[suite][1]}")
    assert found["version"] == "TLS1.3"


def test_mosquitto_pub_with_its_own_order(broker):
    """It offers TLS 1.3 with AES-256 first, and has no way to say otherwise."""
    identity, key = broker.device_psk("small").split(":")
    reach = ["mosquitto_pub", "-h", broker.host, "-p", broker.port_of("psk"), "--psk-identity", identity, "--psk", key]
    done = finished(*reach, "-i", "small:pub", "-t", "devices/small/x", "-m", "21", "-q", "1")
    assert done.returncode == 0
    seen = broker.wait_event("connected", client_id="small:pub")
    assert seen["tls"]["cipher"] == "TLS_AES_128_GCM_SHA256"


@pytest.mark.parametrize("library", ["mbedtls", "wolfssl", "gnutls"])
def test_a_wrong_key_gets_nowhere(broker, clients, library):
    identity = broker.device_psk("small").partition(":")[0]
    done = constrained.run(
        clients[library], port=broker.port_of("psk"), device="small", psk=f"{identity}:{'00' * 32}", version="1.2"
    )
    assert done.fault
    assert not done.connections


@pytest.mark.parametrize(
    ("library", "version"), [("mbedtls", "1.2"), ("wolfssl", "1.3"), ("gnutls", "1.2"), ("gnutls", "1.3")]
)
@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
def test_records_keep_within_what_the_client_asks_for(broker, clients, library, version, size):
    """RFC 6066 from mbedTLS and wolfSSL, RFC 8449 from GnuTLS; the client gives up on a larger record."""
    found = through(broker, clients, library, version=version, fragment=size, limit=size, payload=6000)
    assert size - 64 < found["session"]["largest_record"] <= size + 81
