"""Connections and tickets of the HTTPS door from before a revocation or the end of a root: each request is judged anew.

Knows nothing of how a revocation reaches the data plane.
"""

import contextlib
import http.client
import socket
import ssl

import pytest
from enrol_door import csr, der

from sealmq.broker import control

RENEW = "/.well-known/est/simplereenroll"


def revoke(door):
    control.call(door.service.folder, "device-revoke", {"id": "sensor-1"})


def retire(door):
    control.call(door.service.folder, "device-retire", {"id": "sensor-1"})


def drain(door):
    for step in ("stage", "publish", "switch", "drain"):
        control.call(door.service.folder, "ca-rotate", {"kind": "root", "step": step, "force": True})


ENDS = {
    "revoked": (revoke, "device-revoked"),
    "retired": (retire, "device-retired"),
    "drained": (drain, "certificate-untrusted"),
}


@pytest.fixture(params=ENDS)
def end(request):
    """What happens to the device, and the cause that it is told."""
    return ENDS[request.param]


class Client:
    """A device with one TLS context, so that a later connection can show the ticket of an earlier one."""

    def __init__(self, door, identity, version):
        self.door = door
        self.context = door.context(identity)
        self.context.minimum_version = self.context.maximum_version = version

    @contextlib.contextmanager
    def connected(self, ticket=None):
        raw = socket.create_connection((self.door.host, self.door.port), timeout=10)
        with raw, self.context.wrap_socket(raw, server_hostname=self.door.host, session=ticket) as connection:
            yield connection

    def trust_the_present_root(self):
        self.context.load_verify_locations(cadata=self.door.service.authority.server_ca_pem().decode())


def asked(connection, method, path, body=b""):
    """Status and cause of the answer; the connection stays open."""
    head = f"{method} {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status, answer.headers.get("Sealmq-Cause")


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def client(request, at_door, identity):
    return Client(at_door, identity(at_door), request.param)


def test_a_connection_of_before_asks_in_vain(at_door, client, end):
    ends, cause = end
    with client.connected() as connection:
        assert asked(connection, "GET", "/renewal-info") == (200, None)
        ends(at_door)
        assert asked(connection, "GET", "/renewal-info") == (403, cause)
        assert asked(connection, "POST", RENEW, der(csr("sensor-1"))) == (403, cause)
    assert len(at_door.service.registry.device("sensor-1").certificates) == 1


def test_a_ticket_of_before_opens_nothing(at_door, client, end):
    ends, cause = end
    with client.connected() as first:
        assert asked(first, "GET", "/renewal-info") == (200, None)
        ticket = first.session
    ends(at_door)
    client.trust_the_present_root()
    # refused in the handshake, or told why: with the ticket the certificate of before is still known to the TLS library
    with contextlib.suppress(ssl.SSLError, ConnectionError), client.connected(ticket) as again:
        assert asked(again, "POST", RENEW, der(csr("sensor-1"))) == (403, cause)
    assert len(at_door.service.registry.device("sensor-1").certificates) == 1


def test_who_is_trusted_no_more_confirms_no_bundle(at_door, client):
    with client.connected() as connection:
        assert asked(connection, "GET", "/renewal-info") == (200, None)
        drain(at_door)
        assert asked(connection, "GET", "/.well-known/est/cacerts") == (200, None)
    _, version = at_door.service.authority.bundle()
    assert at_door.service.registry.bundles.confirmed(version) == {}
