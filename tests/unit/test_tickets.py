"""Ticket keys: three of them, turned every twelve hours, kept over restarts, replaced when they cannot be trusted."""

import json
from datetime import timedelta

import pytest

from sealmq.broker.tickets import TURN, TicketKeys
from sealmq.datafolder import DataFolder
from sealmq.pki.signing import utc_now

NOW = utc_now()


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


def names(keys):
    return [key["name"] for key in keys.for_engine()]


def test_the_file_is_secret_and_the_shape_is_that_of_the_data_plane(folder):
    keys = TicketKeys.open(folder, now=NOW)
    assert (folder.path / "tickets.json").stat().st_mode & 0o777 == 0o600
    [one] = keys.for_engine()
    assert (len(one["name"]), len(one["key"])) == (32, 64)
    assert one["key"] not in repr(keys._keys)


def test_a_restart_keeps_them(folder):
    first = TicketKeys.open(folder, now=NOW).for_engine()
    assert TicketKeys.open(folder, now=NOW + TURN - timedelta(seconds=1)).for_engine() == first


def test_a_turn_puts_a_new_one_first_and_forgets_the_fourth(folder):
    keys = TicketKeys.open(folder, now=NOW)
    seen = [names(keys)[0]]
    for number in range(1, 5):
        assert not keys.turn(now=NOW + number * TURN - timedelta(seconds=1))
        assert keys.turn(now=NOW + number * TURN)
        seen.insert(0, names(keys)[0])
        assert names(keys) == seen[:3]
    assert len(set(seen)) == 5


def test_after_a_long_stop_nothing_old_opens(folder):
    before = names(TicketKeys.open(folder, now=NOW))
    after = names(TicketKeys.open(folder, now=NOW + 3 * TURN))
    assert len(after) == 1
    assert not set(before) & set(after)


def test_a_key_from_the_future_is_forgotten(folder):
    wrong = names(TicketKeys.open(folder, now=NOW + timedelta(days=400)))
    assert not set(wrong) & set(names(TicketKeys.open(folder, now=NOW)))


@pytest.mark.parametrize("damage", ["garbage", "short key", "not hex", "exposed", "another shape"])
def test_what_cannot_be_trusted_is_replaced(folder, damage):
    before = names(TicketKeys.open(folder, now=NOW))
    path = folder.path / "tickets.json"
    document = json.loads(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"\x00")
    elif damage == "exposed":
        path.chmod(0o644)
    elif damage == "another shape":
        path.write_text("{}")
    else:
        document[0]["key"] = "ab" if damage == "short key" else "x" * 64
        path.write_text(json.dumps(document))
    assert names(TicketKeys.open(folder, now=NOW)) != before
    assert path.stat().st_mode & 0o777 == 0o600
