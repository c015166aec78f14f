"""Devices of a factory, and requests, that try to get more than they were given; and what a crash leaves undone.

Knows nothing of HTTP.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from sealmq.datafolder import DataFolder
from sealmq.errors import Environment, NotSo
from sealmq.pki import profiles, requests, revocation, signing
from sealmq.pki.authority import Authority
from sealmq.pki.enrolment import RENEWALS, Issued, by_certificate, by_factory_certificate
from sealmq.pki.fingerprints import certificate_sha256
from sealmq.pki.operations import device_add, device_approve, device_revoke
from sealmq.pki.registry import Approval, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sealmq.pki.signing import Issuer

    Three = tuple[DataFolder, Authority, Registry]

NOW = signing.utc_now()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    """Folder, CA and registry of a fleet that was made an hour ago."""
    folder = DataFolder.create_or_open(tmp_path / "data")
    with Registry.open(folder) as registry:
        yield folder, Authority.create(folder, now=NOW - timedelta(hours=1)), registry


@pytest.fixture
def factory() -> Issuer:
    """A CA whose devices may ask."""
    profile = dataclasses.replace(profiles.ROOT, label="Factory")
    return signing.sign_ca(profile, fleet="factory", number=1, now=NOW - timedelta(hours=1))


def made_by(factory: Issuer, common_name: str) -> x509.Certificate:
    return signing.sign_leaf(
        profiles.DEVICE_PROFILES["default"],
        issuer=factory,
        public_key=signing.new_key().public_key(),
        common_name=common_name,
        names=[],
        now=NOW - timedelta(minutes=30),
    )


def ask(three: Three, factory: Issuer, certificate: x509.Certificate) -> Issued | Approval:
    _, authority, registry = three
    return by_factory_certificate(
        authority,
        registry,
        certificate=certificate,
        factories=[factory.certificate],
        request=requests.build(signing.new_key(), subject=x509.Name([]), names=[]),
        peer="192.0.2.7:1000",
        now=NOW,
    )


def test_one_approval_asked_for_twice_at_once_is_one_certificate(
    three: Three, factory: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request comes when the first has looked at the approval and has not used it up."""
    certificate, registry = made_by(factory, "sensor-9"), three[2]
    ask(three, factory, certificate)
    device_approve(*three, id="sensor-9", now=NOW)
    look, begun = registry.approvals.ask, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        second: list[Future[Issued | Approval]] = []

        def look_and_dawdle(asked: Approval, *, at_most: int) -> Approval | None:
            found = look(asked, at_most=at_most)
            if not begun.is_set():
                begun.set()
                second.append(pool.submit(ask, three, factory, certificate))
                wait(second, timeout=0.5)  # as it should be, it waits for the first one to end
            return found

        monkeypatch.setattr(registry.approvals, "ask", look_and_dawdle)
        answers = [ask(three, factory, certificate), second[0].result(10)]
    assert sum(isinstance(answer, Issued) for answer in answers) == 1
    assert len(registry.device("sensor-9").certificates) == 1


def test_a_device_cannot_sit_on_the_id_that_another_would_be_given(three: Three, factory: Issuer) -> None:
    """An id that was made up of a certificate's digest belongs to that certificate alone."""
    first, victim = made_by(factory, "sensor-9"), made_by(factory, "sensor-9")
    squatter = made_by(factory, f"factory-{certificate_sha256(victim)[:16]}")
    names = [answer.device_id for answer in (ask(three, factory, one) for one in (first, squatter, victim))]
    assert names[2] == f"factory-{certificate_sha256(victim)[:16]}"
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    "beginning", [b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----"]
)
def test_a_request_of_beginnings_alone_costs_nothing(beginning: bytes) -> None:
    """Each of them used to be followed to the end of the text: two seconds in which nobody else was answered."""
    text = (beginning * 2000)[: requests.LARGEST]
    before = time.process_time()
    with pytest.raises(NotSo) as caught:
        requests.accept(text)
    assert caught.value.code == "request-invalid"
    assert time.process_time() - before < 0.3


def test_a_revocation_that_ended_before_its_list_is_made_good(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a full disk, or a kill between the two, the list used to be taken for fresh for half a day."""
    folder, authority, registry = three
    device_add(*three, id="sensor-1", now=NOW)
    revocation.write_crl(folder, authority, registry, now=NOW)
    assert not revocation.crl_is_due(folder, authority, registry, now=NOW)

    def full(*_: object, **__: object) -> None:
        raise Environment("disk is full", code="disk-full")

    with monkeypatch.context() as patch:
        patch.setattr(revocation, "write_public", full)
        assert device_revoke(*three, id="sensor-1", now=NOW)["crl"] is None
    assert revocation.crl_is_due(folder, authority, registry, now=NOW)
    revocation.write_crl(folder, authority, registry, now=NOW)
    assert not revocation.crl_is_due(folder, authority, registry, now=NOW)


def test_a_device_that_renews_without_end_is_stopped(three: Three) -> None:
    """One valid certificate used to be enough to fill the disk with rows, fifty a second."""
    _, authority, registry = three
    device_add(*three, id="sensor-1", now=NOW)
    sha256 = registry.device("sensor-1").certificates[0].sha256
    request = requests.build(signing.new_key(), subject=x509.Name([]), names=[])

    def renew(after: timedelta) -> None:
        by_certificate(authority, registry, sha256=sha256, request=request, now=NOW + after)

    for minute in range(RENEWALS - 1):
        renew(timedelta(minutes=minute))
    with pytest.raises(NotSo) as caught:
        renew(timedelta(hours=12))
    assert caught.value.code == "renewals-too-many"
    renew(timedelta(days=1, minutes=5))


def test_a_list_of_many_grows_no_faster_than_they_do(three: Three) -> None:
    """A fleet that was thrown out at once used to stop everything for the square of its size."""
    _, authority, registry = three
    device_add(*three, id="sensor-1", now=NOW)
    model = dataclasses.replace(registry.device("sensor-1").certificates[0], revoked_at=NOW)

    def seconds_for(count: int) -> float:
        records = [dataclasses.replace(model, serial=f"{number + 1:x}") for number in range(count)]
        stand_in: Any = SimpleNamespace(reasons=dict, revoked_certificates=lambda: records)
        before = time.process_time()
        revocation.crl(authority.device_issuer, stand_in, now=NOW)
        return time.process_time() - before

    assert seconds_for(40_000) < 8 * max(seconds_for(10_000), seconds_for(10_000))
