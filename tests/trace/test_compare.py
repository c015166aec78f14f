"""Two handshakes side by side: what each took, and what the second saved."""

import json
import os
from pathlib import Path

import pytest
import servers

from programs import run_sealmq
from sealmq import trace
from sealmq.testing import EphemeralBroker
from sealmq.trace.compare import compare, to_json


def test_full_and_resumed() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        again = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, resume=True)
    assert again.previous is not None
    found = compare(again.previous, again)
    rows = {row.name: row for row in found.rows}
    assert rows["bytes sent in the handshake"].difference == again.totals.handshake_sent - (
        again.previous.totals.handshake_sent
    )
    assert rows["bytes received in the handshake"].difference < -1000
    assert (rows["certificates shown by the server"].first, rows["certificates shown by the server"].second) == (2, 0)
    assert set(found.only_first) == {
        "server CertificateRequest",
        "server Certificate",
        "server CertificateVerify",
        "client Certificate",
        "client CertificateVerify",
    }
    assert found.only_second == ()
    assert "It resumed a session" in found.summary
    assert "bytes less" in found.summary
    assert json.loads(json.dumps(to_json(found)))["second"]["resumed"] is True


def test_the_handshake_is_the_sum_of_both_ways() -> None:
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        for version in ("1.2", "1.3"):
            seen = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, tls=version)
            totals = seen.totals
            assert totals.handshake_sent + totals.handshake_received == totals.handshake_bytes > 2000


def test_versions_by_the_command(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files) as (url, _):
        done = run_sealmq("trace", url, "--cafile", files.ca, "--compare", "1.3", "1.2", "--rounds", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["first"]["version"], found["second"]["version"]) == ("TLS 1.3", "TLS 1.2")
    trips = next(row for row in found["rows"] if row["name"].startswith("round trips"))
    assert trips["difference"] == 1  # RFC 8446, section 1.2: one less than RFC 5246
    assert "1 round trip more" in found["summary"]


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        (("full", "resumed"), "It resumed a session"),
        (("1.2", "1.3"), "1 round trip less"),
        (("full", "post-quantum"), "bytes more"),
    ],
)
def test_forms_of_one_broker_with_the_cpu_of_both_sides(forms: tuple[str, str], words: str) -> None:
    with EphemeralBroker() as broker:
        broker.device("sensor-1")
        command = ["--data", broker.folder.path, "trace", broker.url, "--as", "sensor-1", "--compare", *forms]
        done = run_sealmq(*command, "--pid", os.getpid(), "--rounds", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert words in found["summary"]
    assert found["second"]["resumed"] == (forms[1] == "resumed")
    assert found["second"]["group"] == ("X25519MLKEM768" if forms[1] == "post-quantum" else found["first"]["group"])
    for name in ("CPU of TLS in it, this side", "CPU of the server, in all"):
        assert min(rows[name]["first"], rows[name]["second"]) > 0
        assert rows[name]["unit"] == "ms CPU"


def test_two_recordings_and_a_table(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    kept = [tmp_path / f"{version}.json" for version in ("1.2", "1.3")]
    with servers.s_server(files) as (url, _):
        for version, path in zip(("1.2", "1.3"), kept, strict=True):
            assert run_sealmq("trace", url, "--cafile", files.ca, "--tls", version, "--save", path).returncode == 0
    done = run_sealmq("trace", "--compare", *kept)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("TLS 1.2", "TLS 1.3", "round trips, TCP's included", "DIFFERENCE", "1 round trip less"):
        assert words.upper() in done.stdout.upper()


def test_one_that_failed_is_said(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3") as (url, _):
        done = run_sealmq("trace", url, "--cafile", files.ca, "--compare", "1.3", "1.2")
    assert done.returncode == 1
    assert "The second failed" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["--compare", "a"],
        ["tls://h", "--compare", "a", "b"],
        ["tls://h", "--compare", "full", "1.1"],
        ["tls://h", "--compare", "full", "1.2", "--next"],
        ["tls://h", "--compare", "full", "resumed", "--resume"],
        ["tls://127.0.0.1:1", "--compare", "full", "resumed", "--pid", "4194304"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    done = run_sealmq("trace", *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "mend: " in done.stderr
