"""The short form of `make powerloss`, and proof that the same run finds out a broker that does not wait for the disk.

Knows nothing of how the run is played.
"""

from __future__ import annotations

import secrets

import pytest

from crash.rounds import report
from powerloss import disk, rounds

pytestmark = [
    pytest.mark.skipif(disk.missing() is not None, reason=str(disk.missing())),
    pytest.mark.timeout(300),  # the file system may have to be built
]


def test_nothing_acknowledged_is_lost_with_the_power(tmp_path):
    outcome = rounds.run(tmp_path, count=4, seed=secrets.randbelow(1_000_000))
    assert not outcome.violations, report(outcome)
    assert outcome.rounds == 4
    for what in ("acknowledged at QoS 1", "acknowledged at QoS 2", "retained acknowledged", "sessions resumed"):
        assert outcome.counts[what] > 0, report(outcome)
    assert outcome.counts["unsynced changes at a cut"] > 0, report(outcome)


def test_a_broker_that_does_not_wait_for_the_disk_is_found_out(tmp_path):
    outcome = rounds.run(tmp_path, count=10, seed=1, settings='[durability]\ndefault = "os"\n')
    assert outcome.violations, report(outcome)
