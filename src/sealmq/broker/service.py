"""Everything that one `sealmq up` runs on one data folder: lock, CA, node, log, control socket and HTTPS door.

It refuses to know the command line and signals; whoever starts it also decides when it stops or reloads.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Any

from sealmq.broker import certificates, keeping, log, nodeconfig, soundness
from sealmq.broker.control import ControlServer
from sealmq.broker.expiry import ExpiryWatch, files_that_end
from sealmq.broker.facts import Facts
from sealmq.broker.handle import Broker
from sealmq.broker.identities import Identities
from sealmq.broker.publicname import PublicName
from sealmq.broker.refusals import Refusals
from sealmq.broker.tickets import TicketKeys
from sealmq.broker.upkeep import Upkeep, described, shown
from sealmq.broker.webhook import Webhook
from sealmq.config.settings import Settings
from sealmq.datafolder import DataFolder
from sealmq.errors import SealmqError
from sealmq.pki import psk
from sealmq.pki.authority import Authority
from sealmq.pki.expiry import Inventory, Kind, inventory
from sealmq.pki.operations.expiry import as_result
from sealmq.pki.registry import Registry
from sealmq.pki.revocation import denylist
from sealmq.pki.signing import utc_now
from sealmq.secretfiles import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from sealmq.broker.certificates import Material
    from sealmq.broker.doorkeys import DoorKeys
    from sealmq.broker.https import Https
    from sealmq.config.rules import Rule

_STATUS_REFUSALS = 20
_STATUS_CLIENTS = 100
_LONGEST_RECORDING = 600.0  # seconds that a recording stays armed; it keeps secrets in memory
_SLICE_MS = 1000


class Service:
    """A broker with all that belongs to it; a context manager. Calling order: enter, `reload` as often as wanted, exit.

    `folder`, `authority`, `registry`, `broker`, `refusals`, `logger`, `settings`, `material` (the certificates in
    force), `ticket_keys` and `first_start` (no CA was there) can be read in between.
    """

    folder: DataFolder
    authority: Authority
    registry: Registry
    broker: Broker
    settings: Settings
    logger: log.Logger
    ticket_keys: TicketKeys
    material: Material

    def __init__(
        self,
        data: Path,
        read_settings: Callable[[], Settings],
        *,
        sinks: Sequence[Callable[[Facts], None]] = (),
        log_to: Any = None,  # noqa: ANN401  any text stream
    ) -> None:
        """`read_settings` is called at the start and at each reload; it raises `ConfigError` when they are not whole.

        Events go to `sinks` besides log and refusals; the log goes to `log_to`, stderr when None.
        """
        self._data = data
        self._read_settings = read_settings
        self._sinks = list(sinks)
        self._log_to = log_to
        self._stack = contextlib.ExitStack()
        self._https: Https | None = None
        self._door_keys: DoorKeys | None = None
        self._changing = threading.RLock()  # held while the data plane is told what to do anew
        self._started = time.time()
        self.refusals = Refusals()
        self.first_start = False

    def __enter__(self) -> Service:
        """Start everything. Raises the `SealmqError` of the part that cannot start; then nothing is left running."""
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything, the node last but for the lock; clients get two seconds to take their leave."""
        self._stack.close()

    def urls(self) -> list[str]:
        """One URL per listener, MQTT first: `mqtts://…`, `wss://…/mqtt`, `mqtts+psk://…`, `mqtt://…`, `https://…`."""
        return [*self.broker.urls(), *([self._https.url] if self._https else [])]

    def reload(self) -> None:
        """Take settings, rules and certificates anew. Raises `SealmqError`; then the old ones stay in force.

        A change of `[listen]`, `[durability]`, `[log]` or `[dangerous]` waits for the next start, and the log says so.
        """
        wanted = self._read_settings()
        fixed = {name: getattr(self.settings.config, name) for name in ("listen", "durability", "log", "dangerous")}
        waiting = [f"[{name}]" for name, value in fixed.items() if getattr(wanted.config, name) != value]
        settings = Settings(wanted.config.model_copy(update=fixed), wanted.origins, wanted.file)
        material = self._sound(settings)
        self._take(settings, nodeconfig.load_rules(settings, self.folder), material)
        self._upkeep.settled()
        if waiting:
            summary = f"change of {', '.join(waiting)} waits for the next start"
            self.logger.warning("reload", summary=summary, mend="restart the broker")
        self.logger.info("reload", summary="settings, rules and certificates are taken anew")

    def put_in_force(self, material: Material) -> None:
        """Show and trust these certificates from now on, under the settings and rules in force; no session is dropped.

        Raises `ConfigError`; then nothing changed.
        """
        with self._changing:
            self._take(self.settings, self._rules, material)

    def status(self) -> dict[str, Any]:
        """What `sealmq status` shows, as plain data."""
        return {
            "data": str(self.folder.path),
            "pid": os.getpid(),
            "version": _version(),
            "fleet": self.folder.fleet,
            "started_at": int(self._started * 1000),
            "uptime_s": int(time.time() - self._started),
            "listeners": self.urls(),
            "certificates": described(self.material),
            "counts": self._counts(),
            "durability": self.settings.config.durability.model_dump(),
            "clients": [session for session in self.broker.sessions() if session["connected"]][:_STATUS_CLIENTS],
            "dangerous": [
                {"setting": name, "value": value, "meaning": meaning}
                for name, value, meaning in self.settings.dangerous()
            ],
            "refused": {"by_cause": self.refusals.by_cause(), "last": self.refusals.last(_STATUS_REFUSALS)},
        }

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.settings = self._read_settings()  # before the folder is made: a slip leaves nothing behind
        _raise_open_files()
        settings = self.settings.config
        self.folder = DataFolder.create_or_open(self._data)
        stack.enter_context(self.folder.lock())
        for place in (self.folder.path, *(one for one in self.folder.path.iterdir() if one.is_dir())):
            sweep(place)
        self.first_start = not self.folder.ca_dir.is_dir()
        self.authority = Authority.open_or_create(self.folder)
        self.registry = stack.enter_context(Registry.open(self.folder))
        self.logger = log.make(level=settings.log.level, form=settings.log.format, stream=self._log_to)
        for name, value, meaning in self.settings.dangerous():
            self.logger.critical("dangerous", setting=name, value=value, meaning=meaning)  # whatever the log level is
        self.ticket_keys = TicketKeys.open(self.folder, now=utc_now())
        self._public = PublicName(self.folder, lambda: self.settings, self.logger)
        self.material = self._sound(self.settings)
        self._rules = nodeconfig.load_rules(self.settings, self.folder)
        self._event_log = log.EventLog(self.logger)
        self._identities = Identities(
            self.folder,
            self.authority,
            self.registry,
            settings=lambda: self.settings,
            tell=lambda event: self._hand_on(Facts.told(event)),
            changing=self._changing,
            reconfigure=self._reconfigure,
        )
        self.broker = Broker.start(
            self._node_config(self.settings, self._rules, self.material), sinks=[self._hand_on, self._identities.note]
        )
        stack.callback(self._identities.stop)
        stack.callback(self.broker.stop)
        self._identities.serve(self.broker)
        webhook = Webhook(warn=self.logger.warning)
        stack.callback(webhook.stop)
        self._expiry = ExpiryWatch(
            self._what_ends,
            settings=lambda: self.settings,
            publisher=lambda: self.broker,
            warn=self.logger.warning,
            post=webhook.post,
        )
        if settings.listen.https:
            self._https = self._open_https(settings.listen.https)
            stack.callback(self._https.stop)
            self._https.start()
        self._upkeep = Upkeep(
            self,
            public=self._public.identity,
            often=[self._identities.write_ends],
            hourly=[self._identities.refresh_crl, self._identities.forget_expired, self._expiry.look],
        )
        self._upkeep.start()
        stack.callback(self._upkeep.stop)
        self._public.on_change = self._upkeep.look_soon
        self._public.start()
        stack.callback(self._public.stop)
        self.logger.info("certificates", summary=f"shown: {shown(self.material)}")
        waiting = {"trace-record": self._record, "refusals": self._refusals}
        control = ControlServer(self.folder, self._verbs(), waiting)
        control.on_fault = lambda verb, fault: self.logger.error("control", verb=verb, summary=repr(fault))
        control.start()
        stack.callback(control.stop)

    def _open_https(self, address: str) -> Https:
        from sealmq.broker.doorkeys import DoorKeys
        from sealmq.broker.https import Https, application

        self._door_keys = DoorKeys(self.material, self._identities.trust_devices)
        app = application(
            urls=self.urls,
            ca_pem=lambda: self.authority.server_ca_pem() if self.material.built_in else None,
            stats=self._counts,
            refusals=self.refusals.by_cause,
            fleet=self.folder.fleet,
            version=_version(),
            crl=self._identities.crl,
            ending=lambda: self._expiry.latest,
            more=self._identities.registrar().routes(),
        )
        return Https(app, address=address, context=self._door_keys.context, logger=self.logger)

    def _sound(self, settings: Settings) -> Material:
        """The certificates as the files have them now. Raises `ConfigError` when they cannot be put in force."""
        found = certificates.read(settings, self.folder, self.authority, self._public.identity(settings))
        soundness.check(found, now=utc_now())
        return found

    def _reconfigure(self) -> None:
        """Hand groups, deny list, users and keys to the data plane as they are now; no edit of a file takes effect."""
        with self._changing:
            self.broker.reload(self._node_config(self.settings, self._rules, self.material))

    def _take(self, settings: Settings, rules: tuple[Rule, ...], material: Material) -> None:
        with self._changing:
            prepared = self._door_keys.prepare(material) if self._door_keys else {}
            self.broker.reload(self._node_config(settings, rules, material))
            self.settings, self._rules, self.material = settings, rules, material
            if self._door_keys:
                self._door_keys.take(prepared)

    def _node_config(self, settings: Settings, rules: tuple[Rule, ...], material: Material) -> str:
        return nodeconfig.compose(
            settings,
            self.folder,
            rules,
            material,
            _version(),
            revoked=denylist(self.registry, now=utc_now()),
            ticket_keys=self.ticket_keys.for_engine(),
            groups=self.registry.groups(),
            psk=psk.for_engine(self.folder, self.registry),
        )

    def _what_ends(self) -> Inventory:
        shown_now = [(Kind.SERVER, identity.certificate_file) for identity in self.material.identities()]
        named = files_that_end(self.settings, self.folder)
        return inventory(self.folder, self.authority, self.registry, files=[*shown_now, *named])

    def _counts(self) -> dict[str, Any]:
        return {**self.broker.stats(), **self._identities.counts(), **self._upkeep.figures()}

    def _hand_on(self, facts: Facts) -> None:
        """Events, of the data plane or of ours, to everybody who listens."""
        for sink in (self.refusals.note, self._event_log.note, *self._sinks):
            sink(facts)

    def _record(self, args: dict[str, Any], is_over: Callable[[], bool]) -> dict[str, Any]:
        """Record the next handshake of `device` (None: of anyone) within `seconds`; `recording` None if none came."""
        device, seconds = args.get("device"), min(float(args["seconds"]), _LONGEST_RECORDING)
        who = f"device {device}" if device else "whoever comes next"
        until, found = time.monotonic() + seconds, None
        self._tell("recording", state="armed", summary=f"armed for {who}, {seconds:g} s at most")
        end = "nobody came"
        try:
            # in slices, so that a command that was interrupted does not keep the recorder
            while found is None and not is_over() and (left := until - time.monotonic()) > 0:
                found = self.broker.record_next(device, timeout_ms=min(_SLICE_MS, int(left * 1000) + 1))
            if found is not None:
                peer = found.get("peer") or found.get("refusal", {}).get("peer", "")
                end = f"recorded {peer}, {found.get('outcome', '')}"
        except SealmqError as error:
            end = error.message
            raise
        finally:
            self._tell("recording", state="over", summary=f"{end}; no longer armed")
        return {"recording": found}

    def _tell(self, name: str, **fields: object) -> None:
        self.logger.info(name, **fields)
        told = Facts.told({"event": name, "at": int(time.time() * 1000), **fields})
        for sink in self._sinks:
            sink(told)

    def _refusals(self, args: dict[str, Any], is_over: Callable[[], bool]) -> dict[str, Any]:
        """The refusals after number `after`, waiting up to `seconds` for one; `last` is the number of the latest."""
        until = time.monotonic() + min(float(args.get("seconds", 0)), _LONGEST_RECORDING)
        while True:
            left = until - time.monotonic()
            last, found = self.refusals.after(int(args.get("after", 0)), wait=max(0.0, min(left, _SLICE_MS / 1000)))
            if found or left <= 0 or is_over():
                return {"last": last, "refusals": found}

    def _rotate(self, args: dict[str, Any]) -> dict[str, Any]:
        """A step of a rotation, in force when this returns: what is shown and trusted follows the CA."""
        from sealmq.pki.operations import ca_rotate

        found = ca_rotate(self.folder, self.authority, self.registry, **args)
        self._upkeep.at_once()
        return found

    def _verbs(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        from sealmq.pki.operations import OPERATIONS

        def through(operation: Callable[..., dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
            return lambda args: operation(self.folder, self.authority, self.registry, **args)

        verbs = {name: through(operation) for name, operation in OPERATIONS.items()}
        verbs |= self._identities.verbs()
        verbs |= keeping.verbs(self.broker, self.folder)
        verbs["ca-rotate"] = self._rotate
        verbs["expiry"] = lambda _args: as_result(self._what_ends(), utc_now())
        verbs["status"] = lambda _args: self.status()
        verbs["sessions"] = lambda _args: {"sessions": self.broker.sessions()}
        return verbs


def _version() -> str:
    from sealmq import __version__

    return str(__version__)


def _raise_open_files() -> None:
    """Each connection is an open file; the usual soft limit of 1,024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
