"""A broker with certificate files of others: names by SNI, lists of revoked certificates, and files that change."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import raw_mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from raw_mqtt import Wire

from programs import Program, sealmq
from sealmq.pki import signing
from sealmq.testing import Fault, ThrowawayCA

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0  # seconds; the files are looked at every five


class Site:
    """The files of a broker in one folder, the CA that issues them, and the broker that is to take them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = ThrowawayCA()
        self.root = folder / "root.pem"
        self.root.write_bytes(self.ca.root_pem)
        (folder / "ca.pem").write_bytes(self.ca.client_ca_pem)
        self.write("cert", self.ca.issue_server("main.example", "localhost", "127.0.0.1"))
        self.write("also", self.ca.issue_server("also.example"))
        self.revoke()
        lines = ['certificate = "cert.pem"', 'key = "cert.key"', 'client_ca = "ca.pem"', 'crl = "crl.pem"']
        also = ["[[tls.also]]", 'certificate = "also.pem"', 'key = "also.key"']
        (folder / "sealmq.toml").write_text("\n".join(["[tls]", *lines, *also]))

    def write(self, name: str, issued) -> None:
        """As one who renews does: the certificate, then the key."""
        (self.folder / f"{name}.pem").write_bytes(issued.cert_pem)
        (self.folder / f"{name}.key").write_bytes(issued.key_pem)

    def revoke(self, *issued, at=None) -> None:
        """A list that names these clients."""
        moment = at or signing.utc_now()
        signer = self.ca._devices
        builder = x509.CertificateRevocationListBuilder().issuer_name(signer.certificate.subject)
        builder = builder.last_update(moment).next_update(moment + timedelta(hours=1))
        builder = builder.add_extension(x509.CRLNumber(int(moment.timestamp())), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        for one in issued:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(moment).build())
        crl = builder.sign(signer.key, hashes.SHA256())
        (self.folder / "crl.pem").write_bytes(crl.public_bytes(serialization.Encoding.PEM))

    def run(self) -> Program:
        words = ("--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", "--config", self.folder / "sealmq.toml")
        return sealmq("--data", self.folder / "data", "up", *words)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "fleet").write_text("fleet-test")
    return Site(tmp_path)


def ports(up: Program) -> list[int]:
    return [int(up.expect(r"^ready \w+://.*:(\d+)")[1]) for _ in range(2)]


def serial(port: int, name: str, root: Path) -> int:
    """The serial number of the certificate that is shown to one who asks for `name`, and that names it."""
    context = ssl.create_default_context(cafile=root)
    context.set_alpn_protocols(["mqtt", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True)).serial_number


def gets_in(port: int, files, client_id: str) -> bool:
    try:
        with Wire.open(port, files) as wire:
            wire.send(raw_mqtt.connect(client_id))
            return wire.packet().kind == raw_mqtt.CONNACK
    except (ssl.SSLError, EOFError, ConnectionError):
        return False


def test_names_swaps_and_revocation_with_a_client_that_stays(site):
    good = site.ca.issue_client("good").write(site.folder / "good")
    bad = site.ca.issue_client("bad")
    bad_files = bad.write(site.folder / "bad")
    with site.run() as up:
        mqtts, https = ports(up)
        with Wire.join(mqtts, good, "good") as stays:
            for port in (mqtts, https):
                assert serial(port, "main.example", site.root) != serial(port, "also.example", site.root)
            assert gets_in(mqtts, bad_files, "bad")

            fresh = site.ca.issue_server("also.example")
            site.write("also", fresh)
            up.expect("files are taken anew", PATIENCE)
            for port in (mqtts, https):
                assert serial(port, "also.example", site.root) == fresh.certificate.serial_number

            site.revoke(bad)
            up.expect("files are taken anew", PATIENCE)
            assert not gets_in(mqtts, bad_files, "bad")
            up.expect(r"refused .*\[revoked\]")

            before = serial(mqtts, "main.example", site.root)
            site.write("cert", site.ca.issue_server("main.example", fault=Fault.EXPIRED))
            up.expect("error certificates: tls.certificate = .*: certificate 1 expired on", PATIENCE)
            assert serial(mqtts, "main.example", site.root) == before

            stays.round_trip()


def test_a_stale_list_locks_nobody_out(site):
    files = site.ca.issue_client("good").write(site.folder / "good")
    site.revoke(at=signing.utc_now() - timedelta(days=3))
    with site.run() as up:
        mqtts, _ = ports(up)
        up.expect("error crl-stale: revocation list of .* is stale since")
        assert gets_in(mqtts, files, "good")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda site: site.write("cert", site.ca.issue_server(fault=Fault.EXPIRED)), "expired on"),
        (lambda site: (site.folder / "also.key").write_bytes(site.ca.issue_server().key_pem), "does not belong to"),
        (lambda site: (site.folder / "crl.pem").write_bytes(b"nothing"), "holds no revocation list"),
        (lambda site: (site.folder / "also.pem").unlink(), "cannot be read"),
    ],
    ids=["expired", "other key", "no list", "no file"],
)
def test_what_is_not_sound_is_an_error_at_the_start(site, spoil, words):
    spoil(site)
    with site.run() as up:
        assert up.wait() == 2
        assert words in up.err
        assert "mend: " in up.err
        assert "Traceback" not in up.err
