"""Pins: SHA-256 hashes of public keys, as text and in a file, and how many there have to be.

It refuses to know certificates; `sealmq.pki.fingerprints` hashes their keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PREFIX = "sha256:"
_DIGITS = 64
LEAST = 2
_HEAD = "# SHA-256 of public keys, one of which has to be in the chain of the broker\n"


def parse(text: str) -> str:
    """A pin as 64 hexadecimal digits; `sha256:` before them may stand. Raises `UsageError`."""
    digits = text.strip().lower().removeprefix(PREFIX)
    if len(digits) != _DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise UsageError(
            f"pin {text!r} is not a SHA-256 in hexadecimal", mend="`sealmq pin show` prints pins", code="pin-invalid"
        )
    return digits


def checked(pins: Iterable[str]) -> tuple[str, ...]:
    """The pins, each once. Raises `UsageError` when there is no backup among them (RFC 7469, section 4.3)."""
    found = tuple(dict.fromkeys(parse(text) for text in pins))
    if len(found) < LEAST:
        raise UsageError(
            "a single pin is given: when that key is lost, every device that pins it is lost too",
            mend="add a backup pin, of the CA or of a key kept offline",
            code="pin-backup",
        )
    return found


def read_list(path: Path) -> tuple[str, ...]:
    """The pins in a file: one per line, then perhaps a word on whose it is; `#` begins a comment."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "not text").lower()
        raise ConfigError(f"file {path} cannot be read: {reason}", mend="check path, owner and mode") from None
    words = [line.partition("#")[0].split() for line in lines]
    return tuple(parse(line[0]) for line in words if line)


def append(path: Path, added: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Add `(pin, whose)` to a file of pins, made when there is none; all pins in it.

    Raises as `checked` and `read_list` do; nothing is written when a backup would be missing.
    """
    from sealmq.secretfiles import write_public

    known = read_list(path) if path.exists() else ()
    fresh = {parse(pin): whose for pin, whose in added}
    every = checked((*known, *fresh))
    before = path.read_text("utf-8") if path.exists() else _HEAD
    lines = [f"{PREFIX}{pin} {whose}".rstrip() for pin, whose in fresh.items() if pin not in known]
    write_public(path, "\n".join([before.rstrip("\n"), *lines, ""]).encode())
    return every
