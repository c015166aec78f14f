"""What pins of the fleet still hold after a renewal or a change of CA, and a no to what would strand devices.

It knows nothing of how a CA is changed; `rotation` does. The pins that devices were given stand in `pins.txt` of the
data folder. A device connects as long as one of them is of a key in the chain that it verifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealmq.errors import NotSo
from sealmq.pki.authority import Kind, State
from sealmq.pki.fingerprints import spki_sha256
from sealmq.tls import pins

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority

FILE = "pins.txt"
_RENEWAL = "renewal of the server certificate"
_SERVERS = "ca rotate servers"
_SWITCH = "ca rotate root --switch"
_DRAIN = "ca rotate root --drain"


@dataclass(frozen=True, slots=True)
class Outlook:
    """One thing to come: `event`, and which pins hold after it."""

    event: str
    holding: tuple[str, ...]


def pins_path(folder: DataFolder) -> Path:
    """Where the pins that devices were given are written down."""
    return folder.path / FILE


def keys(authority: Authority) -> dict[str, str]:
    """The SPKI hash of every CA there is now or soon, with the words for whose it is."""
    found = {}
    for kind in (Kind.SERVERS, Kind.ROOT):
        for member in authority.members_of(kind, *State):
            found[spki_sha256(member.certificate)] = f"{kind} {member.entry.number} ({member.entry.state})"
    return found


def outlook(authority: Authority, pinned: tuple[str, ...]) -> list[Outlook]:
    """Which pins hold now, and after each thing that may come."""
    roots = (State.SIGNING, State.DRAINING)
    now = _hashes(authority, Kind.ROOT, *roots) | _hashes(authority, Kind.SERVERS, State.SIGNING)
    is_under_way = bool(_hashes(authority, Kind.ROOT, State.DRAINING))
    coming = [("now", now), (_RENEWAL, now), (_SERVERS, _hashes(authority, Kind.ROOT, *roots))]
    if is_under_way:  # the bridge from the old root goes
        signing = _hashes(authority, Kind.ROOT, State.SIGNING) | _hashes(authority, Kind.SERVERS, State.SIGNING)
        coming.append((_DRAIN, signing))
    else:
        fresh = _hashes(authority, Kind.ROOT, State.STAGED, State.PUBLISHED)
        old = _hashes(authority, Kind.ROOT, State.SIGNING)
        coming += [(_SWITCH, fresh | old), (_DRAIN, fresh)]
    return [Outlook(event, tuple(pin for pin in pinned if pin in kept)) for event, kept in coming]


def require(folder: DataFolder, authority: Authority, event: str) -> None:
    """Raise `NotSo` with code `pins-strand` when devices that pin would not connect any more after `event`."""
    path = pins_path(folder)
    if not path.exists():
        return
    pinned = pins.read_list(path)
    for one in outlook(authority, pinned):
        if one.event == event and pinned and not one.holding:
            raise NotSo(
                f"{event} would strand every device that pins: none of the {len(pinned)} pins holds after it",
                mend="give devices a pin that lasts first: `sealmq pin plan`; --force goes on without them",
                code="pins-strand",
            )


def _hashes(authority: Authority, kind: Kind, *states: State) -> set[str]:
    return {spki_sha256(member.certificate) for member in authority.members_of(kind, *states)}
