"""What a running broker does by itself about certificates: files taken anew, renewals, ticket keys, successors of CAs.

It refuses to know how any of it is done, and how a generation is put in force; it says when, on a thread of its own.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sealmq.broker import certificates, soundness
from sealmq.broker.bundle import BundleTopic
from sealmq.broker.watch import Watch
from sealmq.config.duration import parse_duration
from sealmq.errors import SealmqError
from sealmq.pki import rotation, signing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sealmq.broker.certificates import Identity, Material
    from sealmq.broker.handle import Broker
    from sealmq.broker.log import Logger
    from sealmq.broker.tickets import TicketKeys
    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry

LOOK_SECONDS = 2.0
"""Between two looks at the files."""

_RENEW_EVERY = timedelta(hours=1)
_ALARM_EVERY = timedelta(days=1)
_NAMES = 4


class Running(Protocol):
    """The part of a service that is looked after."""

    folder: DataFolder
    authority: Authority
    registry: Registry
    broker: Broker
    settings: Settings
    logger: Logger
    ticket_keys: TicketKeys
    material: Material

    def put_in_force(self, material: Material) -> None:
        """Show and trust this from now on, no session dropped. Raises `ConfigError`; then nothing changed."""


class Upkeep:
    """Calling order: `start`, `settled` after each reload, `at_once` after a change of the CA, `stop`.

    `tick` is one round; `public` is the certificate that ACME got, None while there is none to show. What is in `often`
    is done in each round too, what is in `hourly` every hour.
    """

    def __init__(
        self,
        service: Running,
        *,
        public: Callable[[Settings], Identity | None] = lambda _settings: None,
        often: Sequence[Callable[[], None]] = (),
        hourly: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._service = service
        self._often = list(often)
        self._hourly = list(hourly)
        self._public = public
        self._watch: Watch[Material] = Watch(self._files, self._sound, self._take_files, self._complain)
        self._bundle = BundleTopic(service.broker, service.authority)
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sealmq-upkeep", daemon=True)
        self._renewed_at: datetime | None = None
        self._alarms: dict[str, datetime] = {}

    def start(self) -> None:
        """Begin; what the files hold now counts as in force."""
        self._watch.settle()
        self._bundle.look()
        self._thread.start()

    def stop(self) -> None:
        """End, after the round that is under way."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def settled(self) -> None:
        """The files were taken by a reload."""
        with self._turn:
            self._watch.settle()

    def at_once(self) -> None:
        """Something changed that cannot wait for the next round; done when this returns. Raises `SealmqError`."""
        with self._turn:
            self._renew(signing.utc_now())

    def look_soon(self) -> None:
        """Do the next round now, on its own thread."""
        self._renewed_at = None
        self._wake.set()

    def tick(self, now: datetime) -> None:
        """One round. What fails is in the log, and is tried again in the next one."""
        with self._turn:
            self._try(self._watch.look)
            self._try(lambda: self._turn_ticket_keys(now))
            self._try(lambda: self._raise_alarms(now))
            for duty in self._often:
                self._try(duty)
            if self._renewed_at is None or not timedelta(0) <= now - self._renewed_at < _RENEW_EVERY:
                self._renewed_at = now
                self._try(lambda: self._renew(now))
                for duty in self._hourly:
                    self._try(duty)

    def _try(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except SealmqError as error:
            summary = f"{error.message}; what was in force stays in force"
            self._service.logger.error("certificates", summary=summary, mend=error.mend)  # noqa: TRY400
        except Exception as error:  # noqa: BLE001  a fault of ours in one duty must not end the others
            self._service.logger.error("certificates", summary=f"upkeep failed: {error!r}")  # noqa: TRY400

    def figures(self) -> dict[str, int]:
        """For the metrics: `crl_seconds_left` (the least of the foreign CRLs), `certificate_files_unsound` 0 or 1."""
        now = signing.utc_now()
        ends = [end for _, end in soundness.crl_ends(self._service.material.client_crls_pem)]
        found = {"certificate_files_unsound": int(self._watch.fault is not None)}
        if ends:
            found["crl_seconds_left"] = int((min(ends) - now).total_seconds())
        return found

    def _run(self) -> None:
        while not self._stopping:
            self.tick(signing.utc_now())
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def _files(self) -> list[Path]:
        return certificates.files(self._service.settings)

    def _sound(self) -> Material:
        service = self._service
        public = self._public(service.settings)
        found = certificates.read(service.settings, service.folder, service.authority, public)
        soundness.check(found, now=signing.utc_now(), before=service.material)
        return found

    def _take_files(self, material: Material) -> None:
        self._service.put_in_force(material)
        self._service.logger.info("certificates", summary=f"files are taken anew: {shown(material)}")

    def _complain(self, error: SealmqError) -> None:
        summary = f"{error.message}; the certificates in force stay in force"
        self._service.logger.error("certificates", summary=summary, mend=error.mend)

    def _turn_ticket_keys(self, now: datetime) -> None:
        if self._service.ticket_keys.turn(now=now):
            self._service.put_in_force(self._service.material)

    def _renew(self, now: datetime) -> None:
        service = self._service
        grace = parse_duration(service.settings.config.enrolment.grace)
        for sentence in rotation.look_after(service.authority, service.registry, grace=grace, now=now):
            service.logger.info("ca", summary=sentence)
        public = self._public(service.settings)
        material = certificates.renewed(service.material, service.settings, service.folder, service.authority, public)
        if material != service.material:
            service.put_in_force(material)
            service.logger.info("renewed", summary=f"no session was dropped; {shown(material)}")
        if self._bundle.look():
            service.logger.info("ca", summary=f"bundle {service.authority.record.bundle} is at $ca/bundle")

    def _raise_alarms(self, now: datetime) -> None:
        """A foreign CRL past its time locks nobody out: who runs the CA has failed, not the devices."""
        for name, end in soundness.crl_ends(self._service.material.client_crls_pem):
            if now < end:
                self._alarms.pop(name, None)
            elif name not in self._alarms or now - self._alarms[name] >= _ALARM_EVERY:
                self._alarms[name] = now
                summary = f"revocation list of {name} is stale since {end:%Y-%m-%d %H:%M}, later ones are unknown"
                mend = "get the present list from that CA; clients are let in as long as the old one does not name them"
                self._service.logger.error("crl-stale", issuer=name, summary=summary, mend=mend)
        if rotation.root_is_due(self._service.authority, now=now) and "root" not in self._alarms:
            self._alarms["root"] = now
            summary = f"root lasts until {self._service.authority.root.certificate.not_valid_after_utc:%Y-%m-%d} only"
            self._service.logger.warning("ca", summary=summary, mend="replace it: sealmq ca rotate root --stage")


def described(material: Material) -> list[dict[str, Any]]:
    """What the broker shows: `source`, `names`, `issuer`, `not_after` (ISO 8601) of each certificate, default first."""
    found = []
    for identity in material.identities():
        leaf = soundness.leaf(identity)
        found.append(
            {
                "source": identity.setting,
                "names": soundness.names(leaf) or [leaf.subject.rfc4514_string()],
                "issuer": leaf.issuer.rfc4514_string(),
                "not_after": f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            }
        )
    return found


def shown(material: Material) -> str:
    """The same in words, for the log."""
    return "; ".join(
        f"{', '.join(one['names'][:_NAMES])} until {one['not_after']} ({one['source']})" for one in described(material)
    )
