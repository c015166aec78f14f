"""Owns what became of one foreign test, and which of the explanations in verdicts.toml it has.

Refuses to explain by itself: a failure without a written reason is an open one.
"""

from __future__ import annotations

import enum
import fnmatch
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

VERDICTS = Path(__file__).with_name("verdicts.toml")


class Result(enum.Enum):
    """How a test ended, before anyone judges it."""

    PASSED = "passed"
    FAILED = "failed"
    FOREIGN = "not applicable"


class Whose(enum.Enum):
    """On whose side the reason for a failure lies."""

    OURS = "ours"
    THEIRS = "theirs"
    POLICY = "policy"
    OPEN = "unexplained"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: its suite and name, how it ended, the last it said; with a verdict once it is judged."""

    suite: str
    name: str
    result: Result
    said: str = ""
    whose: Whose | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Names (glob patterns) of tests of a suite whose failure has one reason; `said`: and the words it then has."""

    suite: str
    tests: tuple[str, ...]
    whose: Whose
    why: str
    said: str = ""

    def covers(self, outcome: Outcome) -> bool:
        """Whether it is about this failure."""
        is_named = any(fnmatch.fnmatchcase(outcome.name, one) for one in self.tests)
        return self.suite == outcome.suite and is_named and self.said in outcome.said


def verdicts(path: Path = VERDICTS) -> list[Verdict]:
    """The written reasons."""
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("verdict", [])
    return [Verdict(**one | {"tests": tuple(one["tests"]), "whose": Whose(one["whose"])}) for one in found]


def judged(outcomes: list[Outcome], written: list[Verdict]) -> tuple[list[Outcome], list[Verdict]]:
    """The outcomes with their reasons, and the verdicts that no failure needs any more."""
    used: set[int] = set()

    def judge(outcome: Outcome) -> Outcome:
        if outcome.result is not Result.FAILED:
            return outcome
        for number, verdict in enumerate(written):
            if verdict.covers(outcome):
                used.add(number)
                return replace(outcome, whose=verdict.whose, why=verdict.why)
        return replace(outcome, whose=Whose.OPEN)

    found = [judge(outcome) for outcome in outcomes]
    suites = {outcome.suite for outcome in outcomes}
    idle = [one for number, one in enumerate(written) if number not in used and one.suite in suites]
    return found, idle
