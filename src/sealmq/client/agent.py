"""The agent on a device: it enrols once, renews in time, and swaps keys only after the new one has worked.

It refuses to know how the server is asked and how a key is proven; both are handed to it, as are clock and chance, so
that a test lives through a year in a moment.

One round (`round`) does what is due and says in how many seconds the next one is. What goes wrong is told and tried
again along `LADDER`; a device that is revoked or retired is over, and `round` raises that.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from sealmq.errors import NotSo, SealmqError
from sealmq.pki import devicefiles
from sealmq.pki.profiles import RENEW_BELOW
from sealmq.secretfiles import ensure_private_dir, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from sealmq.client.registration import RenewalInfo
    from sealmq.pki.devicefiles import DeviceFiles
    from sealmq.pki.tokens import EnrolmentUri

LADDER = (60, 300, 900, 3600, 3 * 3600, 6 * 3600)
"""Seconds to the next try after the first, second, … failure in a row; the last step goes on."""

JITTER = 0.2
"""By how much of itself a pause is longer or shorter, so that a fleet that failed together does not come together."""

_LONGEST_PAUSE = 24 * 3600.0
_OVER = {"device-revoked", "device-retired", "certificate-revoked"}


class Server(Protocol):
    """Who is asked for certificates; `registration.RegistrationServer` over HTTPS."""

    def roots_by_pin(self, pin: str) -> bytes: ...
    def roots(self, files: DeviceFiles) -> bytes: ...
    def enrol(self, request: bytes, *, token: str, ca_pem: bytes) -> bytes: ...
    def renew(self, request: bytes, files: DeviceFiles) -> bytes: ...
    def renewal_info(self, files: DeviceFiles) -> RenewalInfo: ...


class Agent:
    """The renewals of one device, whose files are `files`. `round` as often as it says."""

    def __init__(
        self,
        files: DeviceFiles,
        server: Server,
        *,
        prove: Callable[[DeviceFiles, str, int | None], None],
        tell: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float],
        uri: EnrolmentUri | None = None,
    ) -> None:
        """`prove` connects to the broker with a pair and raises when it cannot; it is also given the device's id and
        the server's MQTTS port.

        `uri` is for the first time, when there is no certificate yet. `chance` gives 0 to 1.
        """
        self._files = files
        self._server = server
        self._prove = prove
        self._tell = tell
        self._now = now
        self._chance = chance
        self._uri = uri
        self._failures = 0
        self._due: tuple[datetime, datetime] | None = None
        self._bundle: int | None = None

    def round(self) -> float:
        """Do what is due; the seconds until the next round.

        Raises `NotSo` when the device is revoked or retired, or has no certificate and no `uri`.
        """
        try:
            pause = self.step()
        except SealmqError as error:
            if error.code in _OVER | {"not-enrolled"}:
                raise
            step = LADDER[min(self._failures, len(LADDER) - 1)]
            self._failures += 1
            pause = self._jittered(step)
            self._tell(f"{error.message}; next try in {pause:.0f} s" + (f" (mend: {error.mend})" if error.mend else ""))
            return pause
        self._failures = 0
        return pause

    def step(self) -> float:
        """Like `round`, but raises whatever goes wrong: for a single run."""
        devicefiles.recover(self._files)
        if not self._files.exist() or not self._files.fit():
            self._enrol()
        info = self._ask()
        if self._files.staged.fit():  # a renewal of before whose proof has not come yet
            self._put_in_place(info)
            info = self._ask()
        now, due = self._now(), self._moment_in_window(info)
        if now < due:
            return min((due - now).total_seconds(), self._jittered(info.retry_after if info else _LONGEST_PAUSE))
        self._tell(f"renewing: {info.reason if info else 'a third of its life is left'}")
        self._renew()
        self._put_in_place(info)
        return self._jittered(60.0)

    def _enrol(self) -> None:
        if self._uri is None:
            raise NotSo(
                f"device folder {self._files.cert.parent} holds no certificate with its key",
                mend="enrol with the URI that `sealmq device add ID --token` prints: --enrol URI",
                code="not-enrolled",
            )
        ensure_private_dir(self._files.cert.parent)
        ca_pem = self._server.roots_by_pin(self._uri.pin)
        write_public(self._files.ca, ca_pem)
        key_pem, request = _request(self._uri.device_id)
        write_private(self._files.key, key_pem)  # on disk before the token is spent
        chain = self._server.enrol(request, token=self._uri.token, ca_pem=ca_pem)
        write_public(self._files.cert, chain)
        self._tell(
            f"device {self._uri.device_id} is enrolled, until {self._certificate().not_valid_after_utc:%Y-%m-%d}"
        )

    def _ask(self) -> RenewalInfo | None:
        """The server's window; None when it does not answer, and the certificate says by itself when it is due."""
        try:
            info = self._server.renewal_info(self._files)
        except NotSo as error:
            if error.code != "server-unreachable":
                raise
            self._tell(f"{error.message}; going by the certificate's own dates")
            return None
        if info.bundle != self._bundle:  # the roots may have changed: fetching them also tells the server we have them
            write_public(self._files.ca, self._server.roots(self._files))
            self._bundle = info.bundle
        return info

    def _moment_in_window(self, info: RenewalInfo | None) -> datetime:
        certificate = self._certificate()
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if info is not None:
            window = info.start, info.end
        else:
            middle = begin + (end - begin) * (1 - RENEW_BELOW)
            window = middle - (end - begin) * 0.05, middle + (end - begin) * 0.05
        if self._due is None or not window[0] <= self._due[0] <= window[1] or self._due[1] != end:
            self._due = window[0] + (window[1] - window[0]) * self._chance(), end
        return self._due[0]

    def _renew(self) -> None:
        key_pem, request = _request(self._device_id())
        chain = self._server.renew(request, self._files)
        devicefiles.stage(self._files, cert_chain_pem=chain, key_pem=key_pem)

    def _put_in_place(self, info: RenewalInfo | None) -> None:
        """Prove the second slot and let it take the first one's place; unproven, it waits for the next round."""
        staged = self._files.staged
        if _leaf(staged).not_valid_after_utc - self._now() < timedelta(0):
            devicefiles.discard(self._files)
            return
        self._prove(staged, self._device_id(), info.mqtts_port if info else None)
        devicefiles.promote(self._files)
        self._due = None
        self._tell(
            f"device {self._device_id()} has a new key, until {self._certificate().not_valid_after_utc:%Y-%m-%d}"
        )

    def _device_id(self) -> str:
        from cryptography.x509.oid import NameOID

        return str(self._certificate().subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def _certificate(self) -> x509.Certificate:
        return _leaf(self._files)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - JITTER + 2 * JITTER * self._chance())


def prove_by_connecting(host: str) -> Callable[[DeviceFiles, str, int | None], None]:
    """A proof for `Agent`: an MQTT connection to `host` with the new pair, ended at once."""

    def prove(files: DeviceFiles, device_id: str, port: int | None) -> None:
        from sealmq.client.connection import Connection, Identity
        from sealmq.client.target import Target

        identity = Identity.read(ca=files.ca, certificate=files.cert, key=files.key)
        target = Target("mqtts", host, port or 8883)
        with contextlib.closing(Connection.open(target, identity, client_id=f"{device_id}:agent")):
            pass

    return prove


def _request(device_id: str) -> tuple[bytes, bytes]:
    """A new key and a request for it, both PEM."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from sealmq.pki import requests, signing

    key = signing.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    return signing.key_pem(key), requests.build(key, subject=subject, names=[])


def _leaf(files: DeviceFiles) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(files.cert.read_bytes())
