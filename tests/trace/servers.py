"""Servers that a trace is pointed at: openssl's, mosquitto, ones that misbehave; with certificates made for the test.

Knows nothing of traces.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import threading
import time
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

HOST = "127.0.0.1"
DAY = dt.timedelta(days=1)


class Certified:
    """A certificate for localhost, self-made, with its key in files: `cert`, `key`; `cert` is its own trust anchor."""

    def __init__(self, directory: Path, key: PrivateKeyTypes, *, names: int = 1) -> None:
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server under test")])
        listed = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        listed += [x509.DNSName(f"host-{number}.example") for number in range(1, names)]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.SubjectAlternativeName(listed), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.cert = directory / "server.pem"
        self.key = directory / "server.key"
        self.ca = self.cert
        self.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.key.write_bytes(key.private_bytes(*form))


def ecdsa(directory: Path) -> Certified:
    return Certified(directory, ec.generate_private_key(ec.SECP256R1()))


def rsa_2048(directory: Path) -> Certified:
    return Certified(directory, rsa.generate_private_key(65537, 2048))


@contextlib.contextmanager
def s_server(files: Certified, *options: object) -> Iterator[tuple[str, Program]]:
    """`openssl s_server` on a free port; `tls://localhost:PORT` and the program."""
    command = ("openssl", "s_server", "-accept", f"{HOST}:0", "-cert", files.cert, "-key", files.key)
    with Program(*command, *options) as program:
        port = program.expect(r"ACCEPT .*:(\d+)")[1]
        yield f"tls://{HOST}:{port}", program


@contextlib.contextmanager
def s_server_psk(key: str, *options: object, identity: str = "sensor-1") -> Iterator[int]:
    """`openssl s_server` with a pre-shared key and no certificate on a free port, which it is."""
    command = ("openssl", "s_server", "-accept", f"{HOST}:0", "-nocert", "-psk_identity", identity, "-psk", key)
    with Program(*command, *options) as program:
        yield int(program.expect(r"ACCEPT .*:(\d+)")[1])


@contextlib.contextmanager
def mosquitto(directory: Path, files: Certified, *settings: str) -> Iterator[str]:
    """Debian's broker with TLS on a free port; its `mqtts://` URL."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    lines = [f"listener {port} {HOST}", f"certfile {files.cert}", f"keyfile {files.key}", "allow_anonymous true"]
    config = directory / "mosquitto.conf"
    config.write_text("\n".join([*lines, "user root", *settings]) + "\n")
    with Program("mosquitto", "-v", "-c", config) as program:
        program.expect("mosquitto version .* running")
        yield f"mqtts://{HOST}:{port}"


@contextlib.contextmanager
def gnutls(files: Certified, *options: object) -> Iterator[str]:
    """GnuTLS' server on a free port, sending back what it gets; its `tls://` URL."""
    with _gnutls("--x509certfile", files.cert, "--x509keyfile", files.key, *options) as port:
        yield f"tls://{HOST}:{port}"


@contextlib.contextmanager
def _gnutls(*options: object) -> Iterator[int]:
    """It takes no port 0; one that was free a moment ago may be taken again, and then it says so and goes on."""
    for _ in range(20):
        with socket.create_server((HOST, 0)) as probe:
            port = probe.getsockname()[1]
        with Program("gnutls-serv", "--echo", "--port", port, *options) as program:
            if program.expect(r"listening on IPv4 \S+ port \d+\.\.\.(.*)")[1] == "done":
                _await_accepting(port)  # it says so after bind, and before listen
                yield port
                return
    raise AssertionError("no port is free for gnutls-serv")


def _await_accepting(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((HOST, port), 10).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"


@contextlib.contextmanager
def mosquitto_psk(directory: Path, line: str) -> Iterator[str]:
    """Debian's broker with `line` as its `psk_file` on a free port; its `mqtts+psk://` URL."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    (directory / "psk").write_text(f"{line}\n")
    lines = [f"listener {port} {HOST}", f"psk_file {directory / 'psk'}", "psk_hint the plant", "allow_anonymous true"]
    config = directory / "mosquitto-psk.conf"
    config.write_text("\n".join([*lines, "user root"]) + "\n")
    with Program("mosquitto", "-v", "-c", config) as program:
        program.expect("mosquitto version .* running")
        yield f"mqtts+psk://{HOST}:{port}"


@contextlib.contextmanager
def gnutls_psk(directory: Path, line: str) -> Iterator[str]:
    """GnuTLS' server with `line` as its password file and no certificate on a free port; its `tls+psk://` URL."""
    (directory / "psk").write_text(f"{line}\n")
    with _gnutls("--pskpasswd", directory / "psk", "--priority", "NORMAL:-KX-ALL:+PSK:+ECDHE-PSK") as port:
        yield f"tls+psk://{HOST}:{port}"


@contextlib.contextmanager
def raw(answer: Callable[[socket.socket], object], *, scheme: str = "mqtts") -> Iterator[str]:
    """A server that hands each connection to `answer` and closes it afterwards; its URL."""
    with socket.create_server((HOST, 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"{scheme}://{HOST}:{listener.getsockname()[1]}"
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(15)
