"""What ends when, as an operation: everything that `pki.expiry` knows, by time left.

It knows nothing of configuration: the files that it names are given.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.pki import signing
from sealmq.pki.expiry import Expiring, Inventory, Kind, due_below, inventory
from sealmq.pki.operations.results import iso

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.operations.results import Result
    from sealmq.pki.registry import Registry


def expiry(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,
    *,
    files: Sequence[tuple[str, str]],
    now: datetime | None = None,
) -> Result:
    """`certificates`, the first to end first, and `unreadable`, files that could not be read.

    A certificate has `kind` (`ca`, `server`, `chain`, `client-ca`, `crl`, `device`), `name`, `not_after`,
    `seconds_left` (below 0 when it is over), `lasts`, its whole life in seconds, and `file`, empty for devices. `files`
    are pairs of kind and path.
    """
    now = now or signing.utc_now()
    named = [(Kind(kind), Path(path)) for kind, path in files]
    return as_result(inventory(folder, authority, registry, files=named), now)


def as_result(found: Inventory, now: datetime) -> Result:
    """An inventory as `expiry` gives it back."""
    return {"certificates": [_row(one, now) for one in found.found], "unreadable": list(found.unreadable)}


def ending(certificates: Sequence[Result], *, within: timedelta) -> list[Result]:
    """Those of `expiry` that end within that time, but for those that are still to be renewed before (`due_below`)."""
    return [
        one
        for one in certificates
        if timedelta(seconds=one["seconds_left"]) <= due_below([within], life=timedelta(seconds=one["lasts"]))[0]
    ]


def _row(one: Expiring, now: datetime) -> Result:
    return {
        "kind": one.kind,
        "name": one.name,
        "not_after": iso(one.end),
        "seconds_left": int(one.left(now).total_seconds()),
        "lasts": int((one.end - one.begin).total_seconds()),
        "file": one.file,
    }
