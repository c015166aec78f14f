"""The table of the registry about trust: which device has confirmed that it holds which version of the bundle.

It knows nothing of what is in a bundle or of what depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki.registry.file import RegistryFile, moment, seconds

if TYPE_CHECKING:
    from datetime import datetime


class Bundles:
    """Confirmations of bundles of roots, by device and version; part of a `Registry`."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def confirm(self, device_id: str, version: int, *, at: datetime) -> None:
        """Note that a device holds a version of the bundle; the first time counts."""
        statement = "INSERT OR IGNORE INTO bundle_confirmations (device_id, version, at) VALUES (?, ?, ?)"
        self._file.change(statement, (device_id, version, seconds(at)))

    def confirmed(self, version: int) -> dict[str, datetime]:
        """The devices that hold that version of the bundle or a later one, by id, and since when."""
        rows = self._file.rows(
            "SELECT device_id, min(at) AS since FROM bundle_confirmations WHERE version >= ? GROUP BY device_id"
            " ORDER BY device_id",
            (version,),
        )
        return {row["device_id"]: moment(row["since"]) for row in rows}
