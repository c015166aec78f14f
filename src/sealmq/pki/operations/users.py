"""What can be done with the users of a data folder: added, listed, removed.

It knows nothing of passwords: it is given their hashes, so that none crosses `control.sock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki import signing, users
from sealmq.pki.operations.results import iso

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.operations.results import Result
    from sealmq.pki.registry import Registry


def user_add(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001 - every operation has the same first three
    registry: Registry,  # noqa: ARG001
    *,
    name: str,
    hash: str,  # noqa: A002 - the name in the protocol of `control.sock`
    replace: bool = False,
    now: datetime | None = None,
) -> Result:
    """Add a user by the argon2id hash of the password: `name`, `created_at`. Raises `NotSo` with code `user-exists`."""
    made = users.User(users.check_user_name(name), hash, iso(now or signing.utc_now()))
    users.put(folder, made, replace=replace)
    return {"name": made.name, "created_at": made.created_at}


def user_list(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001
    registry: Registry,  # noqa: ARG001
) -> Result:
    """Every user: `users`, a list of `name` and `created_at`."""
    return {"users": [{"name": user.name, "created_at": user.created_at} for user in users.load(folder)]}


def user_remove(
    folder: DataFolder,
    authority: Authority,  # noqa: ARG001
    registry: Registry,  # noqa: ARG001
    *,
    name: str,
) -> Result:
    """Forget a user: `name`. Raises `NotSo` with code `user-unknown`."""
    users.remove(folder, name)
    return {"name": name}
