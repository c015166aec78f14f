"""The errors sealmq raises on purpose: one tree, each with its sentence, its mend and the exit status it stands for.

It knows nothing of how an error is shown; `sealmq.cli` prints it, and nothing else turns it into words.

```
SealmqError            2  everything below; nothing else is raised on purpose
├── UsageError         2  the words of a command make no sense
├── ConfigError        2  a setting, or a file that a setting names, cannot be honoured
│   └── DataFolderError   the data folder is missing, newer than this sealmq, or not a data folder
├── Environment        2  the machine refuses: disk full, permission denied, port in use, folder locked
├── NotSo              1  the thing asked about is not so: not found, refused, check failed
├── PeerFault          1  the other side broke the protocol or the agreement
└── LocalMisuse        2  the calling program broke the contract of a function
```
"""

from __future__ import annotations

from typing import ClassVar


class SealmqError(Exception):
    """An error with one sentence (`message`), what to do about it (`mend`) and a stable slug (`code`).

    `message` is lower case without a full stop, its subject first. `mend` and `code` are empty when there is none.
    `exit_status` is what a command that ends with this error returns to the shell.
    """

    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, mend: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend
        self.code = code

    def __str__(self) -> str:
        return self.message


class UsageError(SealmqError):
    """The words of a command, or the combination of its options, make no sense."""


class ConfigError(SealmqError):
    """A setting, or a file that a setting names, cannot be honoured."""


class DataFolderError(ConfigError):
    """The data folder is missing, not a data folder, or of a format that this sealmq does not know."""


# The house's word for "the machine refuses"; an -Error suffix would say nothing more.
class Environment(SealmqError):  # noqa: N818
    """The machine refuses: disk full, permission denied, port in use, data folder locked by another process."""


class NotSo(SealmqError):  # noqa: N818
    """The thing asked about is not so: a device not found, a request refused, a check failed."""

    exit_status: ClassVar[int] = 1


class PeerFault(SealmqError):  # noqa: N818
    """The other side broke the protocol or the agreement."""

    exit_status: ClassVar[int] = 1


class LocalMisuse(SealmqError):  # noqa: N818
    """The calling program broke the contract of a function of this package."""
