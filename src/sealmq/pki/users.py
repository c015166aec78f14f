"""Users with passwords, for clients that cannot hold a certificate: `users.json` in the data folder, mode 0600.

It knows nothing of connections or of rules. A password is kept as an argon2id hash (RFC 9106) and never as itself; the
data plane verifies.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, Environment, NotSo, UsageError
from sealmq.secretfiles import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.datafolder import DataFolder

SHORTEST, LONGEST = 12, 1024
"""Bytes of a password. Anybody who reaches the port may guess."""

# The second choice of OWASP's list, for a server: a login takes 20 MB and some 30 ms, and guesses cost no less.
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)
_RESERVED = {"anonymous", "user"}


@dataclass(frozen=True, slots=True)
class User:
    """One user; `hash` in PHC form, `created_at` ISO 8601, UTC."""

    name: str
    hash: str = field(repr=False)
    created_at: str


def check_user_name(text: str) -> str:
    """`text` when it can name a user: it stands in topics as `{id}` does. Raises `UsageError`, `user-name-invalid`."""
    if _NAME.fullmatch(text) and text not in _RESERVED:
        return text
    raise UsageError(
        f"user name {text[:80]!r} cannot be used",
        mend="use 1 to 64 letters, digits, - _ . and @ (no topic characters)",
        code="user-name-invalid",
    )


def password_hash(password: bytes) -> str:
    """The argon2id hash of a password, in PHC form, with a salt of its own.

    Raises `UsageError` with code `password-unfit` when it is too short or too long, `Environment` when the TLS library
    of this machine has no argon2id.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"password has {len(password)} bytes",
            mend=f"use {SHORTEST} to {LONGEST}; a machine can keep a long one: openssl rand -base64 24",
            code="password-unfit",
        )
    salt = secrets.token_bytes(16)
    try:
        kdf = Argon2id(salt=salt, length=32, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
        return kdf.derive_phc_encoded(password)
    except UnsupportedAlgorithm:
        raise Environment(
            "the OpenSSL that the package `cryptography` uses here has no argon2id",
            mend="install cryptography from its wheel, which brings a current OpenSSL",
            code="argon2-missing",
        ) from None


def load(folder: DataFolder) -> list[User]:
    """Every user, by name. Raises `DataFolderError` with code `users-damaged`, `Environment` for an exposed file."""
    path = _path(folder)
    if not path.exists():
        return []
    try:
        entries = json.loads(read_private(path))["users"]
        return sorted((User(**entry) for entry in entries), key=lambda user: user.name)
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        raise DataFolderError(
            f"file of users {path} is damaged",
            mend="restore it from a backup, or remove it and add the users again",
            code="users-damaged",
        ) from None


def put(folder: DataFolder, user: User, *, replace: bool) -> None:
    """Add a user, or give one that is there another password. Whoever calls owns the folder.

    Raises `NotSo` with code `user-exists` when the user is there and not to be replaced.
    """
    known = load(folder)
    others = [other for other in known if other.name != user.name]
    if not replace and len(others) < len(known):
        raise NotSo(
            f"user {user.name} exists already",
            mend=f"give a new password with: sealmq user add {user.name} --replace",
            code="user-exists",
        )
    _save(folder, [*others, user])


def remove(folder: DataFolder, name: str) -> None:
    """Forget a user. Raises `NotSo` with code `user-unknown`; whoever calls owns the folder."""
    known = load(folder)
    if all(user.name != name for user in known):
        raise NotSo(f"user {name} does not exist", mend="see `sealmq user list`", code="user-unknown")
    _save(folder, [user for user in known if user.name != name])


def for_engine(folder: DataFolder) -> list[dict[str, str]]:
    """The users in the shape of `users` of a `NodeConfig`."""
    return [{"name": user.name, "hash": user.hash} for user in load(folder)]


def _save(folder: DataFolder, users: list[User]) -> None:
    document = {"users": [asdict(user) for user in users]}
    write_private(_path(folder), json.dumps(document, indent=2).encode() + b"\n")


def _path(folder: DataFolder) -> Path:
    return folder.path / "users.json"
