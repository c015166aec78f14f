"""The CA of a data folder: its root, its two issuing CAs, and the certificates they issue by the house's profiles.

It knows nothing of which devices exist or of who asked; the registry remembers, and `operations` decides.

```
<fleet> Root 1        ca/root.pem     ca/root.key      10 years, path length 1
├── <fleet> Devices 1 ca/devices.pem  ca/devices.key   1 year, clientAuth, may sign no host names
│   └── device certificates
└── <fleet> Servers 1 ca/servers.pem  ca/servers.key   1 year, serverAuth
    └── server/cert.pem, server/key.pem                the broker's own
```

Whoever calls `create`, `open_or_create` or `ensure_server_certificate` owns the data folder (`DataFolder.lock`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sealmq.errors import DataFolderError, Environment, UsageError
from sealmq.pki import profiles, signing
from sealmq.pki.names import Host, check_device_id, check_host, device_uri, machine_hosts
from sealmq.secretfiles import ensure_private_dir, new_private_dir, read_private, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from sealmq.datafolder import DataFolder
    from sealmq.pki.signing import Bundle, Issuer

_RESTORE = "restore the folder `ca` from a backup; without it no device of this fleet can get a new certificate"


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA of one fleet, in memory; made by `create`, `open` or `open_or_create`. Prints without keys."""

    fleet: str
    root: Issuer
    device_issuer: Issuer
    server_issuer: Issuer
    server_dir: Path

    @classmethod
    def create(cls, folder: DataFolder, *, now: datetime | None = None) -> Authority:
        """A new CA in `folder.ca_dir`, all of it or nothing: a crash or a full disk half way leaves no CA.

        Raises `Environment`, with code `folder-exists` when there is a CA already.
        """
        now = now or signing.utc_now()
        root = signing.sign_ca(profiles.ROOT, fleet=folder.fleet, number=1, now=now)
        devices = signing.sign_ca(profiles.DEVICE_ISSUER, fleet=folder.fleet, number=1, now=now, issuer=root)
        servers = signing.sign_ca(profiles.SERVER_ISSUER, fleet=folder.fleet, number=1, now=now, issuer=root)
        with new_private_dir(folder.ca_dir) as making:
            for name, issuer in (("root", root), ("devices", devices), ("servers", servers)):
                write_private(making / f"{name}.key", signing.key_pem(issuer.key))
                write_public(making / f"{name}.pem", signing.certificate_pem(issuer.certificate))
        return cls(folder.fleet, root, devices, servers, folder.server_dir)

    @classmethod
    def open(cls, folder: DataFolder) -> Authority:
        """The CA in `folder.ca_dir`.

        Raises `DataFolderError` with code `ca-missing` when there is none, `ca-damaged` when a file is gone,
        unreadable as a certificate or key, or does not fit the others; `Environment` when the system forbids or a key
        is open to others.
        """
        if not folder.ca_dir.is_dir():
            raise DataFolderError(
                f"data folder {folder.path} holds no CA yet",
                mend="run `sealmq up` or `sealmq device add ID` to make one",
                code="ca-missing",
            )
        root = _load(folder.ca_dir, "root")
        devices = _load(folder.ca_dir, "devices", signed_by=root)
        servers = _load(folder.ca_dir, "servers", signed_by=root)
        return cls(folder.fleet, root, devices, servers, folder.server_dir)

    @classmethod
    def open_or_create(cls, folder: DataFolder) -> Authority:
        """Like `open`, and like `create` when the folder has no CA yet."""
        return cls.open(folder) if folder.ca_dir.is_dir() else cls.create(folder)

    @property
    def root_pem(self) -> bytes:
        """The root certificate, PEM."""
        return signing.certificate_pem(self.root.certificate)

    @property
    def device_issuer_pem(self) -> bytes:
        """The certificate of the issuing CA for devices, PEM."""
        return signing.certificate_pem(self.device_issuer.certificate)

    @property
    def server_issuer_pem(self) -> bytes:
        """The certificate of the issuing CA for servers, PEM."""
        return signing.certificate_pem(self.server_issuer.certificate)

    def client_ca_pem(self) -> bytes:
        """What the broker trusts for clients, PEM: the issuing CA for devices, then the root.

        With the issuing CA in it a device that sends its leaf alone still verifies; with the root in it so do
        libraries that accept nothing but a self-signed anchor. The issuing CA for servers cannot be used to get in
        through the root: its extended key usage is serverAuth alone.
        """
        return self.device_issuer_pem + self.root_pem

    def server_ca_pem(self) -> bytes:
        """What devices trust for the broker, PEM: the root. It is the `ca.pem` beside a device's certificate."""
        return self.root_pem

    def issue_device(self, device_id: str, profile: str = "default", *, now: datetime | None = None) -> Bundle:
        """A new key and certificate for a device; nothing is written or recorded.

        Raises `UsageError` for an id or a profile that cannot be used, `ConfigError` when the issuing CA has expired.
        """
        check_device_id(device_id)
        row = profiles.device_profile(profile)
        key = signing.new_key()
        leaf = signing.sign_leaf(
            row,
            issuer=self.device_issuer,
            public_key=key.public_key(),
            common_name=device_id,
            names=[x509.UniformResourceIdentifier(device_uri(self.fleet, device_id))],
            now=now or signing.utc_now(),
        )
        return _bundle(leaf, self.device_issuer, key)

    def issue_server(self, names: Sequence[Host], *, now: datetime | None = None) -> Bundle:
        """A new key and certificate for a server that is reached under `names`; nothing is written or recorded.

        The subject is `<fleet> broker`, no host name, so that no client is tempted to match it. Raises `UsageError`
        when `names` is empty or holds what is neither a host name nor an address, `ConfigError` when the issuing CA
        has expired.
        """
        hosts = list(dict.fromkeys(check_host(name) for name in names))
        if not hosts:
            raise UsageError("server certificate needs at least one name", mend="give a host name or an address")
        key = signing.new_key()
        leaf = signing.sign_leaf(
            profiles.SERVER,
            issuer=self.server_issuer,
            public_key=key.public_key(),
            common_name=f"{self.fleet} broker",
            names=signing.general_names(hosts),
            now=now or signing.utc_now(),
        )
        return _bundle(leaf, self.server_issuer, key)

    def ensure_server_certificate(self, extra_names: Sequence[Host] = (), *, now: datetime | None = None) -> Bundle:
        """The broker's certificate in `server/`, reissued when it no longer does.

        It names localhost, 127.0.0.1, ::1, the host name, the addresses of this machine and `extra_names`. It is
        reissued when less than a third of its life is left, a name is missing, another CA issued it, or its files are
        missing, damaged or do not fit each other. Raises `Environment` when it cannot be written, `UsageError` for an
        impossible name.
        """
        now = now or signing.utc_now()
        wanted = list(dict.fromkeys([*machine_hosts(), *(check_host(name) for name in extra_names)]))
        present = self._stored_server_certificate()
        if present is not None and self._still_serves(present.certificate, wanted, now):
            return present
        made = self.issue_server(wanted, now=now)
        ensure_private_dir(self.server_dir)
        # two files cannot be replaced at once: a crash in between leaves a pair that does not fit and is reissued
        write_private(self.server_dir / "key.pem", made.key_pem)
        write_public(self.server_dir / "cert.pem", made.cert_chain_pem)
        return made

    def _stored_server_certificate(self) -> Bundle | None:
        try:
            key = read_private(self.server_dir / "key.pem")
            bundle = signing.Bundle((self.server_dir / "cert.pem").read_bytes(), key)
            loaded = serialization.load_pem_private_key(key, password=None)
            fits = loaded.public_key() == bundle.certificate.public_key()
        except (Environment, OSError, ValueError, TypeError):
            return None  # whatever is wrong with it, a new one mends it
        return bundle if fits else None

    def _still_serves(self, certificate: x509.Certificate, wanted: list[Host], now: datetime) -> bool:
        try:
            certificate.verify_directly_issued_by(self.server_issuer.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
            return False
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        fresh = begin <= now and end - now >= profiles.RENEW_BELOW * (end - begin)
        return fresh and set(signing.general_names(wanted)) <= set(names)


def _bundle(leaf: x509.Certificate, issuer: Issuer, key: signing.PrivateKey) -> Bundle:
    return signing.Bundle(signing.certificate_pem(leaf, issuer.certificate), signing.key_pem(key))


def _load(folder: Path, name: str, *, signed_by: Issuer | None = None) -> Issuer:
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(read_private(key_path), password=None)
        certificate.verify_directly_issued_by(signed_by.certificate if signed_by else certificate)
    except FileNotFoundError as error:
        raise DataFolderError(f"CA file {error.filename} is gone", mend=_RESTORE, code="ca-damaged") from error
    except Environment as error:
        if error.code != "file-missing":
            raise
        raise DataFolderError(f"CA file {key_path} is gone", mend=_RESTORE, code="ca-damaged") from error
    except OSError as error:
        raise Environment(
            f"CA file {certificate_path} cannot be read: {(error.strerror or str(error)).lower()}",
            mend="run as the owner of the data folder",
            code="permission-denied",
        ) from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise DataFolderError(
            f"CA files {name}.pem and {name}.key in {folder} are damaged or not signed by the root beside them",
            mend=_RESTORE,
            code="ca-damaged",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise DataFolderError(
            f"CA key {key_path} does not belong to {certificate_path}", mend=_RESTORE, code="ca-damaged"
        )
    return signing.Issuer(certificate, key)
