"""The settings in force as rows a person can read: value, unit, where it came from, what it means.

It refuses to know how rows are printed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sealmq.config import schema
from sealmq.config.settings import toml_value

if TYPE_CHECKING:
    from sealmq.config.settings import Settings


@dataclass(frozen=True)
class Row:
    """One setting: `value` as the file would spell it; `danger` when it stands in `[dangerous]` and is in force."""

    setting: str
    value: str
    unit: str
    origin: str
    meaning: str
    danger: bool

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


def explain(settings: Settings) -> list[Row]:
    """Every setting, in the order of the file."""
    in_force = {name for name, _, _ in settings.dangerous()}
    return [
        Row(
            setting=f"{table}.{key}",
            value=toml_value(schema.value_of(settings.config, table, key)),
            unit=schema.unit_of(table, key),
            origin=settings.origin(f"{table}.{key}"),
            meaning=schema.meaning_of(table, key),
            danger=table == "dangerous" and key in in_force,
        )
        for table in schema.tables()
        for key in schema.settings_in(table)
    ]
