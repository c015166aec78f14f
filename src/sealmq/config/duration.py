"""Lengths of time as people write them: `30d`, `12h`, `90m`, `45s`.

It refuses to know calendars: a day has 24 hours, and there is nothing longer than days.
"""

from __future__ import annotations

import re
from datetime import timedelta

from sealmq.config.address import BadValue

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """`30d` as a `timedelta`; one number and one unit of d, h, m, s, more than nothing. Raises `BadValue`."""
    found = re.fullmatch(r"([0-9]{1,9})([dhms])", text.strip().lower(), re.ASCII)
    if found is None:
        raise BadValue("is not a length of time", "write a number and a unit: 30d, 12h, 90m or 45s")
    length = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if not timedelta(0) < length <= _LONGEST:
        raise BadValue("is not a sensible length of time", "give more than nothing and at most 36500d")
    return length


def format_duration(length: timedelta) -> str:
    """The shortest spelling that `parse_duration` takes: `30d`, `90m`."""
    seconds = int(length.total_seconds())
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
