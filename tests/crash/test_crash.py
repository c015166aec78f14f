"""The short form of `make crash`: a few kills under load, and proof that the same run finds out a broker that forgets.

Knows nothing of how the run is played.
"""

from __future__ import annotations

import secrets

import pytest

from crash import rounds


@pytest.mark.parametrize(("mode", "count"), [("sync", 4), ("os", 2)])
def test_nothing_acknowledged_is_lost(tmp_path, mode, count):
    """A killed process takes nothing with it in either mode; what `sync` adds, the end of power would show."""
    settings = f'[durability]\ndefault = "{mode}"\n'
    outcome = rounds.run(tmp_path, rounds=count, seed=secrets.randbelow(1_000_000), settings=settings)
    assert not outcome.violations, rounds.report(outcome)
    assert outcome.rounds == count
    for what in ("acknowledged at QoS 1", "acknowledged at QoS 2", "retained acknowledged", "sessions resumed"):
        assert outcome.counts[what] > 0, rounds.report(outcome)
    assert "refused" not in outcome.counts, "its disk is well"


def test_a_broker_that_keeps_nothing_is_found_out(tmp_path):
    outcome = rounds.run(tmp_path, rounds=1, seed=1, settings='[durability]\ndefault = "memory"\n')
    assert outcome.rounds == 0
    assert any(sentence.startswith("retained message of ") for sentence in outcome.violations), rounds.report(outcome)
