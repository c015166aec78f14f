"""A service with its HTTPS door, on a stand-in for the data plane, and what tests send to that door.

Knows nothing of what is right.
"""

import base64
import contextlib
import http.client
import socket
import ssl
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from sealmq.pki import requests, signing
from sealmq.pki.operations import device_token

NOW = signing.utc_now()
DAY = timedelta(days=1)


class Door:
    """A running service with its HTTPS door, and a client of it."""

    def __init__(self, service, log):
        self.service = service
        self.log = log
        self.host, port = service.urls()[-1].removeprefix("https://").split(":")
        self.port = int(port)

    def token(self, device_id="sensor-1", *, now=NOW):
        return device_token(*self.three(), id=device_id, new=True, now=now)["token"]

    def three(self):
        return self.service.folder, self.service.authority, self.service.registry

    def context(self, identity=None):
        context = ssl.create_default_context(cadata=self.service.authority.server_ca_pem().decode())
        if identity is not None:
            context.load_cert_chain(*identity)
        return context

    def ask(self, method, path, body=None, *, identity=None, headers=None):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=10, context=self.context(identity))
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    @contextlib.contextmanager
    def connection(self):
        """A TLS connection to write on by hand."""
        raw = socket.create_connection((self.host, self.port))
        with raw, self.context().wrap_socket(raw, server_hostname=self.host) as connection:
            yield connection

    def basic(self, device_id, token):
        return {"Authorization": "Basic " + base64.b64encode(f"{device_id}:{token}".encode()).decode()}

    def refused(self):
        """The last refusal as the broker remembers it."""
        return self.service.refusals.last(1)[0]


def csr(common_name=None, *names, key=None):
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return requests.build(key or signing.new_key(), subject=x509.Name(subject), names=list(names))


def der(pem):
    return b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
