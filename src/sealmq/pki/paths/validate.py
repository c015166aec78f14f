"""The answer to a question: every path that can be found, each with all its steps, the best one first.

It knows nothing of how a path is found or a step decided; it puts them in order.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sealmq.pki.paths import steps
from sealmq.pki.paths.build import Candidate, Search
from sealmq.pki.paths.constraints import name_constraints
from sealmq.pki.paths.hosts import name
from sealmq.pki.paths.model import Path, Question, Report, Step
from sealmq.pki.paths.revocation import revocation

if TYPE_CHECKING:
    from cryptography import x509

MOST_PATHS = 32
"""Paths that are told of; cross-signing two roots makes two."""

_CHECKS = (
    steps.form,
    steps.dates,
    steps.key,
    steps.signature,
    steps.identifiers,
    steps.basic_constraints,
    steps.path_length,
    steps.key_usage,
    steps.extended_key_usage,
    steps.critical_extensions,
    name,
    name_constraints,
    revocation,
    steps.trust,
)


def verify(certificate: x509.Certificate, question: Question) -> Report:
    """Whether `certificate` is valid, by each path there is: all steps are taken, the first fault ends nothing.

    Nothing is raised for a bad certificate. The work is bounded (`build.MOST_SIGNATURES`).
    """
    search = Search(question.anchors, question.intermediates)
    found = list(islice(search.candidates(certificate), MOST_PATHS + 1))
    paths = [_walk(candidate, question) for candidate in found[:MOST_PATHS]]
    paths.sort(key=lambda path: (not path.is_valid, not path.anchored, len(path.failed), len(path.certificates)))
    return Report(tuple(paths), is_complete=search.is_complete and len(found) <= MOST_PATHS)


def _walk(candidate: Candidate, question: Question) -> Path:
    taken: list[Step] = []
    for position in range(len(candidate.path)):
        place = steps.Place(candidate, position)
        taken.extend(step for check in _CHECKS if (step := check(place, question)) is not None)
    return Path(tuple(facts.certificate for facts in candidate.path), candidate.anchored, tuple(taken))
