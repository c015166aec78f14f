"""What is asked about a certificate, and what is answered: a question, the paths found, and the steps of each.

It knows nothing of how a step is decided.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealmq.pki.profiles import Usage

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from sealmq.pki.names import Host


class Verdict(enum.Enum):
    """How a step ends. `NOTED` is no fault, but a person should know."""

    PASSED = "passed"
    NOTED = "noted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Question:
    """Is a certificate good for `purpose`, under the name `host` (None: any), at the time `at` (with a time zone)?

    `anchors` are trusted as they are, whether self-signed or not. `intermediates` may help to reach one; nothing is
    trusted for being among them. `crls` are consulted for the certificates whose issuer signed them.
    """

    at: datetime
    anchors: tuple[x509.Certificate, ...]
    purpose: Usage = Usage.SERVER
    host: Host | None = None
    intermediates: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One check of the certificate at `position` of a path, 0 being the one asked about.

    `check` says what was looked at, `what` in one clause what was found. A failed step has a `fault`, a stable slug,
    and its `mend`.
    """

    check: str
    position: int
    verdict: Verdict
    what: str
    fault: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates from the one asked about upwards, each issued by the next; `anchored` when the last is an anchor."""

    certificates: tuple[x509.Certificate, ...]
    anchored: bool
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def failed(self) -> tuple[Step, ...]:
        """The steps that failed, in order; a path without any is valid."""
        return tuple(step for step in self.steps if step.verdict is Verdict.FAILED)

    @property
    def is_valid(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


@dataclass(frozen=True, slots=True)
class Report:
    """Every path that was found, the best first; there is at least one.

    `is_complete` is False when the search ended before all paths were seen: someone laid out a maze.
    """

    paths: tuple[Path, ...]
    is_complete: bool = True

    @property
    def best(self) -> Path:
        """A valid path when there is one, else the one with the fewest faults."""
        return self.paths[0]

    @property
    def is_valid(self) -> bool:
        """Whether one valid path was found."""
        return self.best.is_valid
