"""The listeners for certificates keep to small records for clients that ask for them, with mbedTLS, wolfSSL, GnuTLS."""

import sys
from pathlib import Path

import pytest

from sealmq.testing import EphemeralBroker

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench import constrained

SEALED = 81  # bytes that protection adds at most: nonce, tag, or MAC and padding


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker() as running:
        yield running


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    return constrained.build(tmp_path_factory.mktemp("clients"))


def through(broker, clients, library, **options):
    files = broker.device("sensor-1")
    who = {"ca": files.ca, "cert": files.cert, "key": files.key}
    done = constrained.run(clients[library], port=broker.port, device="sensor-1", **who, **options)
    assert not done.fault
    return done.connections[-1]


def test_without_being_asked_a_message_goes_in_one_record(broker, clients):
    found = through(broker, clients, "mbedtls", payload=6000)
    assert found["session"]["largest_record"] > 6000


@pytest.mark.parametrize(
    ("library", "version"), [("mbedtls", "1.2"), ("wolfssl", "1.2"), ("gnutls", "1.2"), ("gnutls", "1.3")]
)
def test_everything_fits_buffers_of_4_kib(broker, clients, library, version):
    """The flight of a P-256 chain of two certificates, and 6,000 bytes of data; the client gives up beyond that."""
    found = through(broker, clients, library, version=version, fragment=4096, limit=4096, payload=6000)
    assert found["handshake"]["largest_record"] <= 2048
    assert 4000 < found["session"]["largest_record"] <= 4096 + SEALED


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("library", ["mbedtls", "wolfssl"])
def test_rfc_6066_binds_data_and_cuts_no_handshake_message(broker, clients, library, size):
    """mbedTLS before 3.6.3 cannot put a message together that comes in two records."""
    found = through(broker, clients, library, version="1.2", fragment=size, payload=6000)
    assert size < found["session"]["largest_record"] <= size + SEALED


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_rfc_8449_binds_every_record(broker, clients, version, size):
    found = through(broker, clients, "gnutls", version=version, fragment=size, limit=size, payload=6000)
    assert size - 64 < found["session"]["largest_record"] <= size + SEALED


@pytest.mark.parametrize(
    ("library", "version"), [("mbedtls", "1.2"), ("wolfssl", "1.2"), ("gnutls", "1.2"), ("gnutls", "1.3")]
)
def test_a_ticket_is_good_with_each_stack(broker, clients, library, version):
    assert through(broker, clients, library, version=version, again=1)["resumed"]
