"""`Authority`: what the CA of a fleet signs with, what its peers are told to trust, and how both change at once.

It knows nothing of why they change. Whoever calls `create`, `open_or_create`, `commit` or `ensure_server_certificate`
owns the data folder (`DataFolder.lock`).
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from sealmq.errors import ConfigError, DataFolderError, UsageError
from sealmq.pki import profiles, signing
from sealmq.pki.authority import files, record, servercert
from sealmq.pki.authority.files import Member
from sealmq.pki.authority.record import FIRST, Kind, Record, State
from sealmq.pki.names import Host, check_device_id, check_host, device_uri
from sealmq.secretfiles import new_private_dir, write_public

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from sealmq.datafolder import DataFolder
    from sealmq.pki.signing import Bundle, Issuer

_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # a clock before that has never been set
_TOLD = (State.SIGNING, State.PUBLISHED, State.DRAINING)


class Authority:
    """The CA of one fleet, in memory; made by `create`, `open` or `open_or_create`. May be shared by threads.

    A step of a rotation replaces all that it holds in one assignment, so whoever keeps an `Authority` sees it. Prints
    without keys.
    """

    def __init__(self, folder: DataFolder, state: Record, members: Sequence[Member]) -> None:
        """For the constructors below only."""
        self.fleet = folder.fleet
        self._folder = folder
        self._held = (state, tuple(members))
        self._changing = threading.RLock()

    def __repr__(self) -> str:
        return f"Authority({self.fleet!r}, {[member.entry.stem for member in self.members]})"

    @classmethod
    def create(cls, folder: DataFolder, *, now: datetime | None = None) -> Authority:
        """A new CA in `folder.ca_dir`, all of it or nothing: a crash or a full disk half way leaves no CA.

        Raises `Environment`, with code `folder-exists` when there is a CA already; `ConfigError` with code
        `clock-wrong` when `now` is a time before there was such a program.
        """
        now = now or signing.utc_now()
        if now < _EARLIEST:
            raise ConfigError(
                f"clock of this machine says {now:%Y-%m-%d %H:%M} UTC: a CA made then would soon be past its time",
                mend="set the clock, best by a time service: timedatectl set-ntp true",
                code="clock-wrong",
            )
        root = signing.sign_ca(profiles.ROOT, fleet=folder.fleet, number=1, now=now)
        devices = signing.sign_ca(profiles.DEVICE_ISSUER, fleet=folder.fleet, number=1, now=now, issuer=root)
        servers = signing.sign_ca(profiles.SERVER_ISSUER, fleet=folder.fleet, number=1, now=now, issuer=root)
        members = [Member(FIRST.signing(kind), made) for kind, made in zip(Kind, (root, devices, servers), strict=True)]
        with new_private_dir(folder.ca_dir) as making:
            for member in members:
                files.write(making, member)
        return cls(folder, FIRST, members)

    @classmethod
    def open(cls, folder: DataFolder) -> Authority:
        """The CA in `folder.ca_dir`. What a rotation that was cut short left to do is done.

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
        state = record.load(folder.ca_dir)
        files.destroy_keys(folder.ca_dir, state)  # a crash may have come before it
        return cls(folder, state, files.load(folder.ca_dir, state))

    @classmethod
    def open_or_create(cls, folder: DataFolder) -> Authority:
        """Like `open`, and like `create` when the folder has no CA yet."""
        return cls.open(folder) if folder.ca_dir.is_dir() else cls.create(folder)

    @property
    def record(self) -> Record:
        """Every CA there ever was, the retired ones too, and what each is for."""
        return self._held[0]

    @property
    def members(self) -> tuple[Member, ...]:
        """Every CA that still has its key, oldest first."""
        return self._held[1]

    def members_of(self, kind: Kind, *states: State) -> Iterator[Member]:
        """Those of a kind in any of the states, oldest first."""
        return (member for member in self.members if member.entry.kind is kind and member.entry.state in states)

    def signs(self, kind: Kind) -> Member:
        """The one of that kind that signs now."""
        return next(self.members_of(kind, State.SIGNING))

    @property
    def root(self) -> Issuer:
        """The root that issuing CAs are signed with."""
        return self.signs(Kind.ROOT).issuer

    @property
    def device_issuer(self) -> Issuer:
        """The issuing CA that device certificates are signed with."""
        return self.signs(Kind.DEVICES).issuer

    @property
    def server_issuer(self) -> Issuer:
        """The issuing CA that the broker's certificates are signed with."""
        return self.signs(Kind.SERVERS).issuer

    @property
    def root_pem(self) -> bytes:
        """The certificate of the root that signs, PEM."""
        return signing.certificate_pem(self.root.certificate)

    def device_issuers(self) -> list[Member]:
        """The issuing CAs whose device certificates are accepted, the one that signs now first."""
        accepted = self.members_of(Kind.DEVICES, State.SIGNING, State.DRAINING)
        return sorted(accepted, key=lambda member: -member.entry.number)

    def client_ca_pem(self) -> bytes:
        """What the broker trusts for clients, PEM: the issuing CAs for devices, and nothing above them.

        A device that sends its leaf alone still verifies. With a root in it, a retired issuing CA would still get its
        devices in through that root.
        """
        return signing.certificate_pem(*(member.certificate for member in self.device_issuers()))

    def server_ca_pem(self) -> bytes:
        """What devices trust for the broker, PEM: the root that signs, and during a rotation the other one too.

        It is the `ca.pem` beside a device's certificate, and what `bundle` numbers.
        """
        roots = sorted(self.members_of(Kind.ROOT, *_TOLD), key=lambda member: _TOLD.index(member.entry.state))
        return signing.certificate_pem(*(member.certificate for member in roots))

    def bundle(self) -> tuple[bytes, int]:
        """`server_ca_pem` and its version, which grows whenever the set of roots changes."""
        with self._changing:
            return self.server_ca_pem(), self.record.bundle

    def bridges(self) -> list[x509.Certificate]:
        """What stands behind the issuing CA in the broker's chain, for devices that know the root before alone."""
        signs = self.signs(Kind.ROOT)
        crossing = signs.bridge is not None and any(self.members_of(Kind.ROOT, State.DRAINING))
        return [signs.bridge] if signs.bridge is not None and crossing else []

    def issue_device(self, device_id: str, profile: str = "default", *, now: datetime | None = None) -> Bundle:
        """A new key and certificate for a device; nothing is written or recorded.

        Raises `UsageError` for an id or a profile that cannot be used, `ConfigError` when the issuing CA has expired.
        """
        check_device_id(device_id)
        row = profiles.device_profile(profile)
        key, issuer = signing.new_key(), self.device_issuer
        leaf = signing.sign_leaf(
            row,
            issuer=issuer,
            public_key=key.public_key(),
            common_name=device_id,
            names=[x509.UniformResourceIdentifier(device_uri(self.fleet, device_id))],
            now=now or signing.utc_now(),
        )
        return signing.Bundle(signing.certificate_pem(leaf, issuer.certificate), signing.key_pem(key))

    def issue_server(self, names: Sequence[Host], *, now: datetime | None = None) -> Bundle:
        """A new key and certificate for a server that is reached under `names`; nothing is written or recorded.

        The subject is `<fleet> broker`, no host name, so that no client is tempted to match it. Raises `UsageError`
        when `names` is empty or holds what is neither a host name nor an address, `ConfigError` when the issuing CA
        has expired.
        """
        hosts = list(dict.fromkeys(check_host(name) for name in names))
        if not hosts:
            raise UsageError("server certificate needs at least one name", mend="give a host name or an address")
        key, issuer = signing.new_key(), self.server_issuer
        leaf = signing.sign_leaf(
            profiles.SERVER,
            issuer=issuer,
            public_key=key.public_key(),
            common_name=f"{self.fleet} broker",
            names=signing.general_names(hosts),
            now=now or signing.utc_now(),
        )
        chain = signing.certificate_pem(leaf, issuer.certificate, *self.bridges())
        return signing.Bundle(chain, signing.key_pem(key))

    def ensure_server_certificate(
        self, extra_names: Sequence[Host] = (), *, not_for: Sequence[Host] = (), now: datetime | None = None
    ) -> Bundle:
        """The broker's certificate in `server/`, reissued when it no longer does; see `servercert`.

        It names this machine and `extra_names`, and none of `not_for`, for which another certificate is shown.

        Raises `Environment` when it cannot be written, `UsageError` for an impossible name.
        """
        with self._changing:
            now = now or signing.utc_now()
            return servercert.ensure(self, self._folder.server_dir, extra_names, not_for=not_for, now=now)

    def changing(self) -> AbstractContextManager[bool]:
        """Nobody else changes this CA inside the block; needed around what leads to a `commit`."""
        return self._changing

    def commit(self, state: Record, *new: Member) -> None:
        """Take another state, with new members when it names some: all of it or nothing, on disk when this returns.

        The keys of what the state says is retired are removed at the end. Raises `Environment`; then nothing changed.
        """
        ca_dir = self._folder.ca_dir
        with self._changing:
            if new and not (ca_dir / record.NAME).exists():  # from here on, a lost record is damage and not a first CA
                write_public(ca_dir / record.NAME, record.dump(self.record))
            for member in new:
                files.write(ca_dir, member)
            write_public(ca_dir / record.NAME, record.dump(state))
            self._held = (state, _members(state, (*self.members, *new)))
            files.destroy_keys(ca_dir, state)


def _members(state: Record, known: Sequence[Member]) -> tuple[Member, ...]:
    by_name = {(member.entry.kind, member.entry.number): member for member in known}
    return tuple(
        Member(entry, found.issuer, found.bridge)
        for entry in state.entries
        if entry.state is not State.RETIRED and (found := by_name.get((entry.kind, entry.number))) is not None
    )
