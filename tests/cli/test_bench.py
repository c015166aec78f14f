"""`sealmq bench` against our broker: every kind of load, and figures that add up."""

from __future__ import annotations

import json
import os

import pytest

from programs import run_sealmq
from sealmq.testing import EphemeralBroker


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker() as running:
        running.device("load")
        yield running


def bench(broker, *words):
    return run_sealmq("--data", broker.folder.path, "bench", broker.url, *words, "--as", "load", "--json")


@pytest.mark.parametrize(
    ("kind", "connections", "published", "delivered"),
    [
        ("pair", 6, 600, 600),
        ("pub", 3, 600, 0),
        ("fan-in", 4, 600, 600),
        ("fan-out", 4, 200, 600),
    ],
)
@pytest.mark.parametrize("qos", ["0", "1"])
def test_messages_add_up(broker, kind, connections, published, delivered, qos):
    done = bench(broker, kind, "-n", "3", "--count", "200", "-q", qos)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["connections"], found["published"], found["delivered"]) == (connections, published, delivered)
    assert found["per_second"] > 0
    assert (found["latency_ms"] is None) == (delivered == 0)
    assert found["connect_ms"]["p50"] <= found["connect_ms"]["max"]


def test_a_rate_is_kept(broker):
    found = json.loads(bench(broker, "sparse", "-n", "2", "--count", "5", "--rate", "50").stdout)
    assert found["delivered"] == 10
    assert found["seconds"] >= 4 / 50


@pytest.mark.parametrize(("flags", "resumed"), [([], 0), (["--resume"], 8)])
def test_a_storm_of_connections(broker, flags, resumed):
    found = json.loads(bench(broker, "connect", "-n", "8", *flags, "--pid", str(os.getpid())).stdout)
    assert (found["connections"], found["resumed"]) == (8, resumed)
    assert found["broker"]["cpu_ms_per_connection"] > 0


def test_what_is_refused_is_status_1(broker):
    done = bench(broker, "pair", "-t", "elsewhere", "-n", "1", "--count", "1")
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_a_storm_on_nobody(broker):
    done = run_sealmq("--data", broker.folder.path, "bench", "mqtts://127.0.0.1:1", "connect", "--as", "load")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: nothing listens on 127.0.0.1:1")


@pytest.mark.parametrize("words", [["tornado"], ["pair", "--resume"], ["pair", "-s", "3"]])
def test_wrong_words(broker, words):
    assert bench(broker, *words).returncode == 2


def test_a_broker_that_bounds_the_pace_of_an_address_is_told_of():
    with EphemeralBroker(limits={"max_connect_rate_per_address": 100}) as broker:
        broker.device("load")
        done = bench(broker, "connect", "-n", "400")
        assert done.returncode == 1
        assert "error: after " in done.stderr
        assert "limits.max_connect_rate_per_address" in done.stderr
