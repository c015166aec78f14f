"""A clock that stands at 1970: nothing is signed that nobody could verify, and the clock is named.

Knows nothing of how it came to stand there; what must not wait for it goes on.
"""

from datetime import UTC, datetime

import pytest

from sealmq.cli.app import run
from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError
from sealmq.pki import signing
from sealmq.pki.authority import Authority

THEN = datetime(1970, 1, 1, 0, 10, tzinfo=UTC)
MADE = "clock of this machine says 1970-01-01 00:10 UTC, but the CA was made at "


@pytest.fixture
def sealmq(tmp_path, capsys):
    def call(*args):
        return run(["--data", str(tmp_path / "data"), *args]), capsys.readouterr().err

    return call


@pytest.fixture
def at_1970(monkeypatch):
    return lambda: monkeypatch.setattr(signing, "utc_now", lambda: THEN)


def test_no_ca_is_made(sealmq, at_1970, tmp_path):
    at_1970()
    status, err = sealmq("device", "add", "sensor-1")
    assert status == 2
    assert err.startswith("error: clock of this machine says 1970-01-01 00:10 UTC: a CA made then")
    assert "mend: set the clock" in err
    assert not (tmp_path / "data" / "ca").exists()


@pytest.mark.parametrize(
    "verb",
    [
        "device add sensor-2",
        "device token sensor-1",
        "device renew sensor-1",
        "ca rotate devices",
        "ca rotate servers",
        "ca rotate root --stage",
    ],
)
def test_nothing_is_signed(sealmq, at_1970, verb):
    assert sealmq("device", "add", "sensor-1")[0] == 0
    at_1970()
    status, err = sealmq(*verb.split())
    assert (status, err[: len(MADE) + 7]) == (2, f"error: {MADE}")


def test_the_broker_does_not_start_with_a_certificate_from_1970(tmp_path):
    authority = Authority.create(DataFolder.create_or_open(tmp_path / "data"))
    with pytest.raises(ConfigError) as caught:
        authority.ensure_server_certificate(now=THEN)
    assert caught.value.code == "clock-wrong"


def test_revoking_does_not_wait_for_the_clock(sealmq, at_1970):
    assert sealmq("device", "add", "sensor-1")[0] == 0
    at_1970()
    assert sealmq("device", "revoke", "sensor-1") == (0, "")
