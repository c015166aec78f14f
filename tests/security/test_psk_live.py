"""A broker with a listener for pre-shared keys, from the command line's side: added, used, revoked, while it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from stock_clients import mosquitto_pub

from programs import Program
from sealmq.cli.app import run
from sealmq.testing import EphemeralBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stock_clients import Ended

    Command = Callable[..., dict[str, object]]


@pytest.fixture(scope="module")
def broker() -> Iterator[EphemeralBroker]:
    with EphemeralBroker(psk=True) as running:
        yield running


@pytest.fixture
def sealmq(broker: EphemeralBroker, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*args: str) -> dict[str, object]:
        assert run(["--json", "--data", str(broker.folder.path), *args]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return call


def line(broker: EphemeralBroker, device: str) -> list[str]:
    identity, key = (broker.folder.devices_dir / device / "psk.txt").read_text().strip().split(":")
    return ["--psk-identity", identity, "--psk", key]


def publish(broker: EphemeralBroker, device: str, *words: str) -> Ended:
    port = broker.port_of("psk")
    return mosquitto_pub(port, *words, "-q", "1", client_id=f"{device}:pub", topic=f"devices/{device}/x")


def test_the_ready_line_has_a_scheme_of_its_own(broker: EphemeralBroker) -> None:
    assert broker.broker.urls()[-1] == f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}"


def test_a_key_is_good_at_once_and_its_end_too(
    broker: EphemeralBroker, sealmq: Callable[..., dict[str, object]]
) -> None:
    sealmq("device", "add", "small-1", "--psk")
    words = line(broker, "small-1")
    assert publish(broker, "small-1", *words).status == 0
    reach = ["-h", broker.host, "-p", str(broker.port_of("psk")), "-i", "small-1:sub", "-V", "5"]
    with Program("mosquitto_sub", *reach, *words, "-t", "devices/small-1/#", "-d") as listening:
        listening.expect("Subscribed")
        assert sealmq("device", "revoke", "small-1")["sessions_closed"] == 1
        listening.expect("DISCONNECT")
    assert publish(broker, "small-1", *words).status != 0
    broker.wait_event("refused", cause="revoked")
    sealmq("device", "retire", "small-1")
    sealmq("device", "add", "small-1", "--psk", "--reuse-retired")
    assert line(broker, "small-1") != words
    assert publish(broker, "small-1", *words).status != 0
    assert publish(broker, "small-1", *line(broker, "small-1")).status == 0


def test_rules_of_groups_hold_for_devices_with_keys() -> None:
    rules = """
        [[rule]]
        name = "plant"
        who = "group:plant"
        actions = ["publish"]
        topics = ["plant/#"]
    """
    with EphemeralBroker(psk=True, rules=rules) as broker:
        run(["--data", str(broker.folder.path), "device", "add", "in", "--psk", "--group", "plant"])
        run(["--data", str(broker.folder.path), "device", "add", "out", "--psk"])
        for device in ("in", "out"):
            words = ["-q", "1", "-V", "5", *line(broker, device)]
            mosquitto_pub(broker.port_of("psk"), *words, client_id=f"{device}:pub", topic="plant/line-1")
        broker.wait_event("denied", device="out")  # written by another thread than the one that answers
        assert [event["device"] for event in broker.events() if event["event"] == "denied"] == ["out"]
