"""Which CA keys a fleet has and what each is for at the moment: the file `ca/generations.json`.

It knows nothing of keys or certificates, and nothing of when a state may change; the rotation decides.

The file is the truth about the CA and lies beside the keys, so that a backup of the folder `ca` is whole by itself. It
is replaced at once: a step of a rotation writes the new keys and certificates first and this file last, so a crash
before that leaves files that nobody names, and the next step writes them again. A folder whose CA was never rotated has
none.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealmq.errors import DataFolderError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "generations.json"
_FORMAT = 1


class Kind(enum.StrEnum):
    """What a CA key signs."""

    ROOT = "root"
    DEVICES = "devices"
    SERVERS = "servers"


class State(enum.StrEnum):
    """The life of a CA key, in its order. Issuing CAs begin at `SIGNING` and are never `DRAINED`."""

    STAGED = "staged"
    """It exists, nobody was told."""
    PUBLISHED = "published"
    """Devices are given it as trusted; nothing is signed with it yet."""
    SIGNING = "signing"
    """What is issued now is issued under it."""
    DRAINING = "draining"
    """A successor signs; what this one has issued is still accepted."""
    DRAINED = "drained"
    """Nothing under it is accepted and no device is given it any more; its key still exists."""
    RETIRED = "retired"
    """Its key is gone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One CA key: the `number` of its kind, and the number of the `root` that signed it (its own for a root).

    `since` is when it got its state, None for a CA as it was made. `bridged` roots have a second certificate, signed by
    the root before them.
    """

    kind: Kind
    number: int
    state: State
    root: int
    since: datetime | None = None
    bridged: bool = False

    @property
    def stem(self) -> str:
        """The name of its files without their ending."""
        return str(self.kind) if self.number == 1 else f"{self.kind}-{self.number}"


@dataclass(frozen=True, slots=True)
class Record:
    """All CA keys, oldest first, and the version of the bundle of roots that devices are given, which begins at 1."""

    entries: tuple[Entry, ...]
    bundle: int = 1
    bundle_since: datetime | None = None

    def signing(self, kind: Kind) -> Entry:
        """The one that signs now."""
        return next(entry for entry in self.of(kind, State.SIGNING))

    def of(self, kind: Kind, *states: State) -> tuple[Entry, ...]:
        """Those of a kind in any of the states (none named: in any at all)."""
        return tuple(entry for entry in self.entries if entry.kind is kind and (entry.state in states or not states))

    def next_number(self, kind: Kind) -> int:
        """The number of the next key of that kind."""
        return 1 + max(entry.number for entry in self.of(kind))

    def put(self, *changed: Entry) -> Record:
        """With these entries in the place of those of the same kind and number, or behind all others."""
        news = {(entry.kind, entry.number): entry for entry in changed}
        kept = [news.pop((entry.kind, entry.number), entry) for entry in self.entries]
        return replace(self, entries=(*kept, *news.values()))

    def republished(self, now: datetime) -> Record:
        """With the next version of the bundle."""
        return replace(self, bundle=self.bundle + 1, bundle_since=now)


FIRST = Record(tuple(Entry(kind, 1, State.SIGNING, root=1) for kind in Kind))
"""A CA as it is made."""


def load(ca_dir: Path) -> Record:
    """The record in that folder, `FIRST` when there is none. Raises `DataFolderError` with code `ca-damaged`."""
    path = ca_dir / NAME
    try:
        return _parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        if any(ca_dir.glob("*-2.pem")):  # written only after this file, by the first step of a rotation
            raise _damaged(f"CA file {path} is gone") from None
        return FIRST
    except OSError as error:
        raise _damaged(f"CA file {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError):
        raise _damaged(f"CA file {path} is damaged") from None


def dump(record: Record) -> bytes:
    """The content of the file."""
    document = {
        "format": _FORMAT,
        "bundle": {"version": record.bundle, "since": _stamp(record.bundle_since)},
        "authorities": [
            {
                "kind": entry.kind,
                "number": entry.number,
                "state": entry.state,
                "root": entry.root,
                "since": _stamp(entry.since),
                "bridged": entry.bridged,
            }
            for entry in record.entries
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _parse(document: dict[str, Any]) -> Record:
    if document["format"] > _FORMAT:
        raise DataFolderError(
            f"file {NAME} of the CA was written by a newer sealmq",
            mend="run the newer sealmq, or name another folder with --data",
            code="data-folder-newer",
        )
    entries = tuple(
        Entry(
            Kind(item["kind"]),
            int(item["number"]),
            State(item["state"]),
            int(item["root"]),
            _moment(item["since"]),
            bool(item["bridged"]),
        )
        for item in document["authorities"]
    )
    bundle = document["bundle"]
    record = Record(entries, int(bundle["version"]), _moment(bundle["since"]))
    if any(len(record.of(kind, State.SIGNING)) != 1 for kind in Kind):
        raise ValueError("not one of each kind signs")
    gone = {entry.number for entry in record.of(Kind.ROOT, State.RETIRED)}
    if any(entry.root in gone and entry.state is not State.RETIRED for entry in record.entries):
        raise ValueError("an issuing CA outlives its root")
    return record


def _damaged(message: str) -> DataFolderError:
    return DataFolderError(message, mend="restore the folder `ca` from a backup", code="ca-damaged")


def _stamp(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
