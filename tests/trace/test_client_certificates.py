"""Client certificates that real servers refuse: openssl, mosquitto and GnuTLS, each fault with the cause named."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealmq import trace
from sealmq.trace.request import Bounds

QUICK = Bounds(connect=2, handshake=2, mqtt=1.0, settle=0.5, close=0.2)
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
FOR_CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
FORM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass
class Files:
    """A certificate with its key, and the CA that a server with it trusts."""

    cert: Path
    key: Path
    ca: Path
    crl: Path


class Authority:
    """A root that issues directly, and whose list revokes every serial number in `revoked`."""

    def __init__(self, directory: Path, name: str = "Devices") -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.revoked: list[int] = []
        certificate = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        usage: x509.ExtendedKeyUsage = FOR_CLIENTS,
        starts: datetime = NOW - DAY,
        lasts: timedelta = 2 * DAY,
    ) -> Files:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(servers.HOST))])
        made = self._signed(subject, key, usage, names, starts=starts, lasts=lasts)
        cert, path = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        path.write_bytes(key.private_bytes(*FORM))
        if name == "revoked":
            self.revoked.append(made.serial_number)
        return Files(cert, path, self.ca, self._list())

    def _list(self) -> Path:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(NOW - DAY).next_update(NOW + DAY)
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.ca.with_suffix(".crl")
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *extensions: x509.ExtensionType,
        starts: datetime = NOW - DAY,
        lasts: timedelta = 2 * DAY,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(starts).not_valid_after(starts + lasts)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


@contextlib.contextmanager
def openssl(_: Path, files: Files) -> Iterator[str]:
    options = (
        "-Verify",
        2,
        "-verify_return_error",
        "-CAfile",
        files.ca,
        "-crl_check",
        "-CRL",
        files.crl,
        "-purpose",
        "sslclient",
    )
    with servers.s_server(files, *options) as (url, _):
        yield url.replace("tls://", "mqtts://")


@contextlib.contextmanager
def mosquitto(directory: Path, files: Files) -> Iterator[str]:
    settings = ("require_certificate true", f"cafile {files.ca}", f"crlfile {files.crl}")
    with servers.mosquitto(directory, files, *settings) as url:
        yield url


@contextlib.contextmanager
def gnutls(_: Path, files: Files) -> Iterator[str]:
    trust = ("--require-client-cert", "--verify-client-cert", "--x509cafile", files.ca, "--x509crlfile", files.crl)
    with servers.gnutls(files, *trust) as url:
        yield url.replace("tls://", "mqtts://")


Server = Callable[[Path, Files], contextlib.AbstractContextManager[str]]


def altered(files: Files) -> Files:
    """The last byte of the signature is another."""
    made = x509.load_pem_x509_certificate(files.cert.read_bytes())
    der = bytearray(made.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    changed = x509.load_der_x509_certificate(bytes(der))
    files.cert.write_bytes(changed.public_bytes(serialization.Encoding.PEM))
    return files


def offered(authority: Authority, directory: Path) -> dict[str, Files | None]:
    """What a client may come with, by the cause that it is to be refused for."""
    other = directory / "other"
    other.mkdir()
    return {
        "no-client-certificate": None,
        "untrusted-issuer": Authority(other, "Others").issue("stranger"),
        "certificate-expired": authority.issue("expired", starts=NOW - 3 * DAY, lasts=DAY),
        "certificate-not-yet-valid": authority.issue("early", starts=NOW + DAY, lasts=DAY),
        "certificate-wrong-purpose": authority.issue("misused", usage=FOR_SERVERS),
        "revoked": authority.issue("revoked"),
        "certificate-bad-signature": altered(authority.issue("altered")),
    }


CAUSES = (
    "no-client-certificate",
    "untrusted-issuer",
    "certificate-expired",
    "certificate-not-yet-valid",
    "certificate-wrong-purpose",
    "revoked",
    "certificate-bad-signature",
)


# GnuTLS' server does not look at the purpose, and says access_denied of a revoked one as of anything else
MATRIX = [(server, cause) for server in (openssl, mosquitto) for cause in CAUSES] + [
    (gnutls, cause) for cause in CAUSES[:4]
]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize(("server", "cause"), MATRIX)
def test_a_client_certificate_is_refused(tmp_path: Path, server: Server, cause: str, tls: str) -> None:
    authority = Authority(tmp_path)
    mine = offered(authority, tmp_path)[cause]
    with server(tmp_path, authority.issue("broker", usage=FOR_SERVERS)) as url:
        seen = trace.record(
            url,
            ca=authority.ca,
            certificate=mine.cert if mine else None,
            key=mine.key if mine else None,
            tls=tls,
            bounds=QUICK,
        )
    assert (seen.outcome, seen.cause, seen.stopped_by) == ("failed", cause, "server"), (seen.summary, seen.evidence)
    assert seen.steps[-1].state.client_certificate == "refused"
    assert "CONNACK" not in [step.message for step in seen.steps]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_what_the_server_does_not_say_is_not_made_up(tmp_path: Path, tls: str) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("revoked")
    with gnutls(tmp_path, authority.issue("broker", usage=FOR_SERVERS)) as url:
        seen = trace.record(url, ca=authority.ca, certificate=mine.cert, key=mine.key, tls=tls, bounds=QUICK)
    assert (seen.cause, seen.stopped_by) == ("certificate-invalid", "server")
    assert seen.mend == "look into the server's log: it knows which check failed"


@pytest.mark.parametrize("server", [openssl, mosquitto, gnutls])
def test_a_good_one_is_not_so_that_the_fault_is_the_reason(tmp_path: Path, server: Server) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("sensor-1")
    with server(tmp_path, authority.issue("broker", usage=FOR_SERVERS)) as url:
        seen = trace.record(url, ca=authority.ca, certificate=mine.cert, key=mine.key, bounds=QUICK)
    assert seen.cause in ((None,) if server is mosquitto else ("connack-stalled", "not-mqtt"))
    assert seen.proofs.right == 4
