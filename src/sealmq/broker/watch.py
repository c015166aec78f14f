"""Files that others write, taken as one generation: looked at now and then, checked, and handed on when they are sound.

It refuses to know what is in the files and what becomes of a new generation.

A file counts as changed when its inode, size or time of change does, and as new when its content does. A generation
that is not sound is looked at once more before anything is said: whoever renews writes one file after the other.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Generic, TypeVar

from sealmq.errors import SealmqError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Generation = TypeVar("Generation")
_Mark = tuple[int, int, int] | None  # inode, size, time of change; None when the file is not there


class Watch(Generic[Generation]):
    """Calls `take` with each new sound generation; `look` is to be called every few seconds, from one thread.

    `read` gives what the files hold as one generation and raises `SealmqError` when they cannot be taken. `complain`
    gets what was wrong with a generation that has stood for two looks, once; the old one stays in force.
    """

    def __init__(
        self,
        files: Callable[[], Sequence[Path]],
        read: Callable[[], Generation],
        take: Callable[[Generation], None],
        complain: Callable[[SealmqError], None],
    ) -> None:
        """Nothing is looked at yet; the first `look` takes the files as they are for the ones in force."""
        self._files = files
        self._read = read
        self._take = take
        self._complain = complain
        self._marks: dict[Path, _Mark] | None = None
        self._contents: dict[Path, str] = {}
        self._doubted: dict[Path, str] | None = None
        self.fault: SealmqError | None = None
        """What is wrong with the files as they are now, None when they are in force."""

    def settle(self) -> None:
        """What the files hold now is in force: after a start, and after a reload that took them."""
        self._marks = self._marked()
        self._contents = self._digests()
        self._doubted, self.fault = None, None

    def look(self) -> bool:
        """Take the files if they have changed and are sound; whether they were taken."""
        marks = self._marked()
        if self._marks is None:
            self.settle()
            return False
        if marks == self._marks and self._doubted is None:
            return False
        contents = self._digests()
        self._marks = marks
        if contents == self._contents:
            self._doubted, self.fault = None, None
            return False
        if self.fault is not None and contents == self._doubted:
            return False  # it has been told
        try:
            self._take(self._read())
        except SealmqError as error:
            if contents == self._doubted:
                self.fault = error
                self._complain(error)
            self._doubted = contents
            return False
        self._contents, self._doubted, self.fault = contents, None, None
        return True

    def _marked(self) -> dict[Path, _Mark]:
        return {path: _mark(path) for path in self._files()}

    def _digests(self) -> dict[Path, str]:
        return {path: _digest(path) for path in self._files()}


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable: {error.errno}"
