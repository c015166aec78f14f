"""The public certificate of a broker: where it is kept, when ACME is asked for the next, and what came of it.

It refuses to know ACME and how a certificate is put in force. Whatever fails here, the broker goes on with what it has:
the certificate of the built-in CA is shown while there is no public one.

| when | why |
|---|---|
| there is none, it does not name what is configured, or it is not sound | it is needed |
| the time in the window that the server suggests (ARI, RFC 9773) has come | the server knows of incidents |
| a third of its life is left, and the server suggests nothing | one failure must not be the last chance |
| a twentieth is left, whatever the server suggests | it has to be tried now |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sealmq.broker import soundness
from sealmq.broker.certificates import PUBLIC, Identity
from sealmq.config.address import Address
from sealmq.errors import DataFolderError, Environment, SealmqError
from sealmq.pki import profiles, signing
from sealmq.pki.malformed import MALFORMED
from sealmq.secretfiles import ensure_private_dir, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

    from sealmq.broker.log import Logger
    from sealmq.config.schema import Acme
    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.pki.acme import AcmeServer, Challenge, Window

LADDER = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 2, 5, 10, 20, 40, 60, 120, 180, 360))
"""How long after each failure in a row the next attempt comes; the last one from then on."""

_JITTER = 0.2
_EMERGENCY = 1 / 20
_LOOK_SECONDS = 30.0
_ASK_AGAIN_AFTER_FAULT = timedelta(hours=6)
_STOP_SECONDS = 5.0
_STOPPED = "acme-stopped"


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often it has failed in a row for these settings, and when the next attempt may be."""

    wanted: str
    failures: int
    not_before: datetime


class PublicName:
    """`identity` is what can be shown now; `tick` is one look, to be called now and then; `start` and `stop` do that.

    `on_change` is called once there is a new certificate. The data folder is owned by the caller.
    """

    def __init__(
        self,
        folder: DataFolder,
        settings: Callable[[], Settings],
        logger: Logger,
        *,
        chance: random.Random | None = None,
    ) -> None:
        self._folder = folder.path / "acme"
        self._settings = settings
        self._logger = logger
        self.on_change: Callable[[], None] = lambda: None
        self._chance = chance or random.SystemRandom()
        self._window: Window | None = None
        self._chosen: datetime | None = None
        self._ask_at: datetime | None = None
        self._unwritten: Attempts | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sealmq-acme", daemon=True)

    def start(self) -> None:
        """Look by itself from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. An attempt that is waiting for the server is given up."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def identity(self, settings: Settings) -> Identity | None:
        """The public certificate when it is sound and names all that `settings` want, None otherwise."""
        return self._usable(settings.config.tls.acme, signing.utc_now())

    def tick(self, now: datetime) -> None:
        """Ask for a certificate when one is due. What comes of it is in the log; nothing is raised for a refusal."""
        acme = self._settings().config.tls.acme
        if not acme.names:
            return
        present = self._usable(acme, now)
        if present is not None:
            self._ask_for_window(acme, soundness.leaf(present), now)
        if self._attempts(acme, now).not_before > now or not self.is_due(present, now):
            return
        try:
            self._attempt(acme, present, now)
        except SealmqError as error:
            if error.code != _STOPPED:
                self._failed(acme, error, now)
        except Exception as error:  # noqa: BLE001  nonsense of a server, or a fault of ours: the ladder holds for it too
            self._failed(acme, SealmqError(f"order for a certificate failed: {error!r}", code="internal"), now)

    def is_due(self, present: Identity | None, now: datetime) -> bool:
        """Whether a new certificate is wanted now; the table above."""
        if present is None:
            return True
        leaf = soundness.leaf(present)
        life, left = leaf.not_valid_after_utc - leaf.not_valid_before_utc, leaf.not_valid_after_utc - now
        if left < _EMERGENCY * life:
            return True
        if self._chosen is not None:
            return now >= self._chosen
        return left < profiles.RENEW_BELOW * life

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick(signing.utc_now())
            except Exception as error:  # noqa: BLE001  a fault of ours must not end renewals for good
                self._logger.error("acme", summary=f"attempt failed: {error!r}")  # noqa: TRY400
            self._stopping.wait(_LOOK_SECONDS)

    def _usable(self, acme: Acme, now: datetime) -> Identity | None:
        path = self._folder / "public.pem"
        if not acme.names or not path.exists():
            return None
        try:
            key, begin, chain = read_private(path).partition(b"-----BEGIN CERTIFICATE-----")
            found = Identity(PUBLIC, begin + chain, key, path, path)
            soundness.check_identity(found, now=now)
            named = soundness.names(soundness.leaf(found))
        except SealmqError as error:
            self._logger.warning("acme", summary=f"{error.message}; it is not shown", mend="a new one is asked for")
            return None
        return found if {name.lower() for name in acme.names} <= set(named) else None

    def _attempt(self, acme: Acme, present: Identity | None, now: datetime) -> None:
        from sealmq.pki.acme import obtain
        from sealmq.pki.acme.renewalinfo import identifier

        server = self._server(acme)
        replaces = None if present is None else identifier(soundness.leaf(present))
        got = obtain(server, acme.names, self._challenge(acme), replaces=replaces, sleep=self._pause)
        path = self._folder / "public.pem"
        made = Identity(PUBLIC, got.chain_pem, got.key_pem, path, path)
        soundness.check_identity(made, now=signing.utc_now())
        write_private(path, got.key_pem + got.chain_pem)  # one file, so that both halves are of one renewal
        self._remember(Attempts(_wanted(acme), 0, now))
        self._chosen, self._ask_at = None, None
        until = soundness.leaf(made).not_valid_after_utc
        names = ", ".join(acme.names)
        self._logger.info(
            "acme", summary=f"public certificate for {names} is here, good until {until:%Y-%m-%d %H:%M} UTC"
        )
        self.on_change()

    def _failed(self, acme: Acme, error: SealmqError, now: datetime) -> None:
        failures = self._attempts(acme, now).failures + 1
        wait = LADDER[min(failures, len(LADDER)) - 1] * self._chance.uniform(1 - _JITTER, 1 + _JITTER)
        asked: timedelta | None = getattr(error, "retry_after", None)
        again = now + max(wait, asked or timedelta(0))
        self._remember(Attempts(_wanted(acme), failures, again))
        summary = f"{error.message}; attempt {failures}, the next one is at {again:%Y-%m-%d %H:%M:%S} UTC"
        self._logger.warning("acme", summary=summary, mend=error.mend)

    def _ask_for_window(self, acme: Acme, leaf: x509.Certificate, now: datetime) -> None:
        from sealmq.pki.acme import suggested_window

        if self._ask_at is not None and now < self._ask_at:
            return
        try:
            window = suggested_window(self._server(acme), leaf)
        except SealmqError as error:
            self._logger.info("acme", summary=f"no renewal window: {error.message}")
            self._ask_at = now + _ASK_AGAIN_AFTER_FAULT
            return
        self._ask_at = now + (window.ask_again if window else _ASK_AGAIN_AFTER_FAULT)
        if window is None:
            self._window, self._chosen = None, None
        elif (
            self._chosen is None
            or self._window is None
            or (window.start, window.end) != (self._window.start, self._window.end)
        ):
            self._window = window
            self._chosen = window.start + (window.end - window.start) * self._chance.random()
            summary = f"server suggests to renew between {window.start:%Y-%m-%d %H:%M} and {window.end:%Y-%m-%d %H:%M}"
            self._logger.info("acme", summary=f"{summary}; it will be at {self._chosen:%Y-%m-%d %H:%M}")

    def _server(self, acme: Acme) -> AcmeServer:
        from sealmq.pki.acme import AcmeServer
        from sealmq.pki.acme.server import LETS_ENCRYPT
        from sealmq.tls import client_context

        context = client_context(ca=self._settings().path("tls.acme.ca_file"))
        return AcmeServer(acme.directory or LETS_ENCRYPT, self._account_key(), acme.email, context)

    def _challenge(self, acme: Acme) -> Challenge:
        from sealmq.pki.acme import DnsHook, HttpListener

        return DnsHook(acme.dns_hook) if acme.challenge == "dns-01" else HttpListener(Address.parse(acme.http_address))

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._folder / "account.key"
        if not path.exists():
            ensure_private_dir(self._folder)
            write_private(path, signing.key_pem(signing.new_key()))
        try:
            key = serialization.load_pem_private_key(read_private(path), password=None)
        except MALFORMED:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise DataFolderError(
                f"account key {path} is damaged",
                mend="restore it from a backup, or remove it: a new account is made",
                code="acme-account",
            )
        return key

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Environment("broker is stopping, the order is given up", code=_STOPPED)

    def _attempts(self, acme: Acme, now: datetime) -> Attempts:
        none = Attempts(_wanted(acme), 0, now)
        found = self._unwritten or self._written()
        if found is None:
            return none
        # for other settings, or further ahead than ever: made by somebody else, or under another clock
        longest = timedelta(days=1) + LADDER[-1] * (1 + _JITTER)
        return found if found.wanted == none.wanted and found.not_before - now <= longest else none

    def _written(self) -> Attempts | None:
        try:
            document = json.loads(self._attempts_path.read_bytes())
            moment = datetime.fromtimestamp(document["not_before"], UTC)
            return Attempts(str(document["wanted"]), int(document["failures"]), moment)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def _remember(self, attempts: Attempts) -> None:
        """Over a restart too: a broker that is started again and again must not wear out the server's patience.

        While the disk is full, for this process at least: each order that could not be kept counts on the server.
        """
        document = {
            "wanted": attempts.wanted,
            "failures": attempts.failures,
            "not_before": attempts.not_before.timestamp(),
        }
        self._unwritten = attempts
        with contextlib.suppress(Environment):
            ensure_private_dir(self._folder)
            write_private(self._attempts_path, json.dumps(document).encode())
            self._unwritten = None

    @property
    def _attempts_path(self) -> Path:
        return self._folder / "attempts.json"


def _wanted(acme: Acme) -> str:
    return hashlib.sha256(acme.model_dump_json().encode()).hexdigest()
