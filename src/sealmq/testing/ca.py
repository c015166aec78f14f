"""A CA for one test: good certificates of the product's own profiles, and faulty ones, each with one fault.

It knows nothing of data folders or of the registry; it lives in memory, and its keys are new every time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from sealmq.pki import profiles, signing
from sealmq.pki.names import Host, check_device_id, check_host, device_uri
from sealmq.secretfiles import ensure_private_dir, write_private, write_public

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


class Fault(enum.Enum):
    """What is wrong with a certificate; everything else about it is right."""

    EXPIRED = "expired"
    """It expired yesterday."""
    NOT_YET_VALID = "not-yet-valid"
    """It begins tomorrow."""
    WRONG_USAGE = "wrong-usage"
    """Its extended key usage is that of the other side, signed by the CA of its own side."""
    OTHER_CA = "other-ca"
    """A CA with the same names and other keys issued it."""
    SELF_SIGNED = "self-signed"
    """It signed itself, and its file holds nothing else."""
    MISSING_INTERMEDIATE = "missing-intermediate"
    """It is good, but its file holds the leaf alone."""
    NO_DEVICE_URI = "no-device-uri"
    """Clients: the subject alternative name holds a mail address in place of the device's URI."""
    COMMON_NAME_ONLY = "common-name-only"
    """The name is in the common name alone, there is no subject alternative name."""
    OTHER_FLEET = "other-fleet"
    """Clients: the URI is that of a device of another fleet."""
    NO_IDENTITY = "no-identity"
    """Clients: neither a common name nor a device's URI."""
    WRONG_NAME = "wrong-name"
    """Servers: it is for `elsewhere.invalid`."""


_CLIENT_ONLY = {Fault.NO_DEVICE_URI, Fault.OTHER_FLEET, Fault.NO_IDENTITY}
_SERVER_ONLY = {Fault.WRONG_NAME}


@dataclass(frozen=True, slots=True)
class Files:
    """Where `Issued.write` put things; `ca` is what the owner of the certificate trusts for its peer."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its chain (`cert_pem`), its key and the CA to trust for the other side, all PEM bytes."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    ca_pem: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf, parsed."""
        return x509.load_pem_x509_certificate(self.cert_pem)

    def write(self, directory: Path) -> Files:
        """Write `cert.pem`, `key.pem` (0600) and `ca.pem` into `directory` (0700), made when missing."""
        ensure_private_dir(directory)
        files = Files(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
        write_private(files.key, self.key_pem)
        write_public(files.cert, self.cert_pem)
        write_public(files.ca, self.ca_pem)
        return files


class ThrowawayCA:
    """A root with an issuing CA for devices and one for servers, of the same profiles as the product's.

    They are dated 100 days back, so that leaves can have expired within their issuer's life. `fleet` is the host part
    of the devices' URIs. `now` is the time the leaves are issued for, by default the real one.
    """

    def __init__(self, *, fleet: str = "fleet-test", now: datetime | None = None) -> None:
        """Make the keys and certificates; about a millisecond."""
        self.fleet = fleet
        self.now = now or signing.utc_now()
        made = self.now - timedelta(days=100)
        self._root = signing.sign_ca(profiles.ROOT, fleet=fleet, number=1, now=made)
        self._devices = signing.sign_ca(profiles.DEVICE_ISSUER, fleet=fleet, number=1, now=made, issuer=self._root)
        self._servers = signing.sign_ca(profiles.SERVER_ISSUER, fleet=fleet, number=1, now=made, issuer=self._root)

    @property
    def root_pem(self) -> bytes:
        """The root, PEM: what clients trust for the server."""
        return signing.certificate_pem(self._root.certificate)

    @property
    def client_ca_pem(self) -> bytes:
        """What a server trusts for clients, PEM: the issuing CA for devices and the root."""
        return signing.certificate_pem(self._devices.certificate, self._root.certificate)

    def issue_client(
        self, device_id: str = "sensor-1", *, profile: str = "default", fault: Fault | None = None
    ) -> Issued:
        """A certificate for a device, good or with one fault.

        Raises `UsageError` for an impossible id or profile, ValueError for a fault that only servers can have.
        """
        if fault in _SERVER_ONLY:
            raise ValueError(f"{fault} is a fault of server certificates")
        check_device_id(device_id)
        fleet = "fleet-elsewhere" if fault is Fault.OTHER_FLEET else self.fleet
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(device_uri(fleet, device_id))]
        if fault in {Fault.NO_DEVICE_URI, Fault.NO_IDENTITY}:
            names = [x509.RFC822Name(f"{device_id}@example.invalid")]
        common_name = None if fault is Fault.NO_IDENTITY else device_id
        return self._issue(profiles.device_profile(profile), common_name, names, fault)

    def issue_server(self, *hosts: Host, fault: Fault | None = None) -> Issued:
        """A certificate for a server, by default for localhost, 127.0.0.1 and ::1, good or with one fault.

        With `COMMON_NAME_ONLY` the first host becomes the common name. Raises `UsageError` for an impossible host name,
        ValueError for a fault that only clients can have.
        """
        if fault in _CLIENT_ONLY:
            raise ValueError(f"{fault} is a fault of client certificates")
        checked = [check_host(host) for host in hosts or ("localhost", "127.0.0.1", "::1")]
        if fault is Fault.WRONG_NAME:
            checked = ["elsewhere.invalid"]
        common_name = str(checked[0]) if fault is Fault.COMMON_NAME_ONLY else f"{self.fleet} broker"
        return self._issue(profiles.SERVER, common_name, signing.general_names(checked), fault)

    def _issue(
        self,
        profile: profiles.LeafProfile,
        common_name: str | None,
        names: list[x509.GeneralName],
        fault: Fault | None,
    ) -> Issued:
        client = profile.usage is profiles.Usage.CLIENT
        issuer = self._devices if client else self._servers
        now = self.now
        key = signing.new_key()
        match fault:
            case Fault.EXPIRED:
                now -= profile.lifetime + timedelta(days=1)
            case Fault.NOT_YET_VALID:
                now += profile.backdate + timedelta(days=1)
            case Fault.WRONG_USAGE:
                profile = replace(profile, usage=profiles.Usage.SERVER if client else profiles.Usage.CLIENT)
            case Fault.OTHER_CA:
                other = ThrowawayCA(fleet=self.fleet, now=now)
                issuer = other._devices if client else other._servers
            case Fault.SELF_SIGNED:
                leaf = signing.self_sign_leaf(profile, key=key, common_name=common_name, names=names, now=now)
                return self._issued([leaf], key, client=client)
            case Fault.COMMON_NAME_ONLY:
                names = []
        leaf = signing.sign_leaf(
            profile, issuer=issuer, public_key=key.public_key(), common_name=common_name, names=names, now=now
        )
        chain = [leaf] if fault is Fault.MISSING_INTERMEDIATE else [leaf, issuer.certificate]
        return self._issued(chain, key, client=client)

    def _issued(self, chain: list[x509.Certificate], key: signing.PrivateKey, *, client: bool) -> Issued:
        ca_pem = self.root_pem if client else self.client_ca_pem
        return Issued(signing.certificate_pem(*chain), signing.key_pem(key), ca_pem)
