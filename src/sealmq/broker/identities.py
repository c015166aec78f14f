"""What a running broker does about identities: it lets devices in, watches their certificates, and throws them out.

It refuses to know how certificates are made or refused, and how connections are closed; it joins those who do.
"""

from __future__ import annotations

import ssl
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509

from sealmq.broker.newkeys import NewKeys
from sealmq.broker.sightings import Sightings
from sealmq.config.duration import parse_duration
from sealmq.errors import ConfigError, DataFolderError, Environment, LocalMisuse, SealmqError
from sealmq.pki import psk, revocation, signing
from sealmq.pki.malformed import MALFORMED, whole
from sealmq.pki.operations import OPERATIONS, write_end
from sealmq.pki.registry import DeviceStatus
from sealmq.pki.renewal import Incident

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import timedelta

    from sealmq.broker.est import Registrar
    from sealmq.broker.facts import Event, Facts
    from sealmq.broker.handle import Broker
    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry

    Verb = Callable[[dict[str, Any]], dict[str, Any]]

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for: at this door an expired certificate may ask for
# the next one, and `pki.enrolment` looks at the dates.
_NO_CHECK_TIME = 0x200000
_CLONED = 0x98  # administrative action: MQTT 5, 3.14.2.1


class Identities:
    """The identities of one running broker. Calling order: make it, `note` as a sink, `serve`, `stop`."""

    def __init__(
        self,
        folder: DataFolder,
        authority: Authority,
        registry: Registry,
        *,
        settings: Callable[[], Settings],
        tell: Callable[[Event], None],
        changing: threading.RLock,
        reconfigure: Callable[[], None],
    ) -> None:
        """`reconfigure` hands groups, deny list, users and keys to the data plane anew.

        `changing` is held by whoever does that, so that a revocation cannot fall between reading and handing over.
        """
        self._folder = folder
        self._authority = authority
        self._registry = registry
        self._settings = settings
        self._tell = tell
        self._changing = changing
        self._reconfigure = reconfigure
        self._counts: Counter[str] = Counter(certificates_issued=0, certificates_cloned=0, devices_revoked=0)
        self._broker: Broker | None = None
        self._new_keys = NewKeys(self._key_seen)
        self._new_keys.expect(set(psk.awaited(folder)))
        self._sightings = Sightings(
            registry,
            tell=self._note_own,
            close=self._close_cloned,
            closes_clones=lambda: settings().config.identity.cloned == "close",
        )

    def note(self, facts: Facts) -> None:
        """Take events of the data plane."""
        self._sightings.note(facts)
        self._new_keys.note(facts)

    def serve(self, broker: Broker) -> None:
        """From here on sightings are written and connections can be closed."""
        self._broker = broker
        self._finish_purges()
        self.refresh_crl()
        self._sightings.start()

    def stop(self) -> None:
        """Write what is left of the sightings, and of what the disk refused."""
        self._new_keys.stop()
        self._sightings.stop()
        self.write_ends()
        for device in self._registry.unwritten():
            summary = f"revocation of device {device} was never written: the next start lets it in again"
            mend = f"free some space, then, before the next start: sealmq device revoke {device}"
            self._note_own({"event": "revocation-lost", "device": device, "summary": summary, "mend": mend})

    def counts(self) -> dict[str, int]:
        """Counters since the start: `certificates_issued`, `certificates_cloned`, `devices_revoked`."""
        return dict(self._counts)

    def registrar(self) -> Registrar:
        """Who answers enrolment requests."""
        from sealmq.broker.est import Registrar

        return Registrar(
            self._authority,
            self._registry,
            tell=self._note_own,
            grace=self._grace,
            incidents=self._incidents,
            factories=self._factories,
            mqtts_port=self._mqtts_port,
        )

    def trust_devices(self, context: ssl.SSLContext) -> None:
        """Let a server ask for, and accept, certificates of this fleet's devices and of the factory CAs.

        Raises `ConfigError` when `enrolment.factory_ca` cannot be read as certificates.
        """
        context.load_verify_locations(cadata=self._authority.client_ca_pem().decode())
        if factories := self._factories():
            context.load_verify_locations(cadata=signing.certificate_pem(*factories).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME

    def crl(self) -> bytes | None:
        """The revocation list for devices, PEM; None when none could be written yet."""
        try:
            return revocation.crl_path(self._folder).read_bytes()
        except OSError:
            return None

    def refresh_crl(self) -> None:
        """Write new revocation lists when those there are grow old or lack something; to be called now and then.

        Raises `Environment` when it cannot be written.
        """
        revocation.refresh_crl(self._folder, self._authority, self._registry, now=signing.utc_now())

    def write_ends(self) -> None:
        """Write the revocations that the disk refused, if it takes them by now; to be called every few seconds."""
        with self._changing:
            for device, ending in self._registry.unwritten().items():
                try:
                    write_end(self._registry, device, status=DeviceStatus.REVOKED, ending=ending)
                except (Environment, DataFolderError):
                    return
                summary = f"revocation of device {device} is on disk now"
                self._note_own({"event": "revocation-written", "device": device, "summary": summary})

    def forget_expired(self) -> None:
        """Drop from the registry the certificates that expired too long ago to matter; to be called now and then.

        Raises `Environment` when it cannot be written.
        """
        enrolment = self._settings().config.enrolment
        kept = max(parse_duration(enrolment.keep_expired), parse_duration(enrolment.grace))
        count = self._registry.forget_certificates(
            expired_before=signing.utc_now() - kept,
            issuers=[member.key_id for member in self._authority.device_issuers()],
        )
        if count:
            summary = f"{count} device certificates that expired more than {kept.days} days ago are forgotten"
            self._note_own({"event": "forgotten", "count": count, "summary": summary})

    def verbs(self) -> dict[str, Verb]:
        """The operations that concern live sessions or what the data plane was told, in their live form."""
        return {
            "device-add": lambda args: self._entered("device-add", args),
            "device-add-psk": lambda args: self._changed("device-add-psk", args),
            "device-renew": self._renewed,
            "device-token": lambda args: self._entered("device-token", args),
            "device-approve": lambda args: self._entered("device-approve", args),
            "device-revoke": lambda args: self._ended("device-revoke", args),
            "device-retire": lambda args: self._ended("device-retire", args, purge=self._purge),
            "user-add": lambda args: self._changed("user-add", args),
            "user-remove": lambda args: self._changed("user-remove", args),
        }

    def _changed(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Live when this returns; connections of users that are gone are closed by the data plane."""
        with self._changing:
            result = OPERATIONS[verb](self._folder, self._authority, self._registry, **args)
            self._reconfigure()
        return result

    def _renewed(self, args: dict[str, Any]) -> dict[str, Any]:
        with self._changing:
            result = OPERATIONS["device-renew"](self._folder, self._authority, self._registry, **args)
            if "identity" in result:
                self._reconfigure()
                self._new_keys.expect(set(psk.awaited(self._folder)))
        return result

    def _key_seen(self, identity: str) -> None:
        """The new key of a device was seen: the old one is dropped. Connections that it opened stay."""
        try:
            with self._changing:
                old = psk.settle(self._folder, identity)
                self._reconfigure()
        except SealmqError as error:  # a full disk: the old key stays until the new one is seen again after a start
            self._note_own({"event": "key-kept", "identity": identity, "summary": error.message, "mend": error.mend})
            return
        if old is not None:
            summary = f"device {old.device} uses its new pre-shared key {identity}; {old.identity} is gone"
            self._note_own({"event": "key-replaced", "device": old.device, "identity": identity, "summary": summary})

    def _entered(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        result = OPERATIONS[verb](self._folder, self._authority, self._registry, **args)
        if args.get("groups") or args.get("reuse_retired"):
            self._reconfigure()
        return result

    def _ended(self, verb: str, args: dict[str, Any], **more: Callable[[str], dict[str, int]]) -> dict[str, Any]:
        with self._changing:
            result = OPERATIONS[verb](
                self._folder, self._authority, self._registry, **args, close=self._running().revoke, **more
            )
        self._counts["devices_revoked"] += not result["already"]
        self._tell_of_the_end(verb, result)
        return result

    def _tell_of_the_end(self, verb: str, result: dict[str, Any]) -> None:
        unwritten = result["unwritten"]
        ended = "retired" if verb == "device-retire" and not unwritten else "revoked"
        closed = result["sessions_closed"]
        sessions = f"{closed} session{'' if closed == 1 else 's'} closed"
        summary = f"device {result['id']} is {ended} ({result['reason']}); {sessions}"
        self._note_own({"event": ended, "device": result["id"], "reason": result["reason"], "summary": summary})
        if unwritten:
            summary = f"device {result['id']} is out until this broker ends, no longer: {unwritten['message']}"
            mend = "free some space; it is then written, and `revocation-written` says so"
            event = {"event": "revocation-unwritten", "device": result["id"], "summary": summary, "mend": mend}
            self._note_own(event)

    def _purge(self, device: str) -> dict[str, int]:
        return self._running().purge_device(device)

    def _finish_purges(self) -> None:
        """Drop what retired devices left behind: the broker died in the middle of it, or none ran.

        A purge takes the sessions last, so who has none was purged whole.
        """
        if not (retired := set(self._registry.ids(DeviceStatus.RETIRED))):
            return
        for device in sorted(retired & {session.get("device") for session in self._running().sessions()}):
            self._purge(device)

    def _close_cloned(self, device: str) -> int:
        reason = "the certificate is in use from another address"
        return self._running().disconnect_device(device, reason_code=_CLONED, reason=reason)

    def _note_own(self, event: Event) -> None:
        if event["event"] == "issued":
            self._counts["certificates_issued"] += 1
        elif event["event"] == "cloned":
            self._counts["certificates_cloned"] += 1
        self._tell(event)

    def _grace(self) -> timedelta:
        return parse_duration(self._settings().config.enrolment.grace)

    def _incidents(self) -> list[Incident]:
        since = self._settings().config.identity.renew_issued_before
        return [Incident(datetime.fromisoformat(since), f"issued before {since}")] if since else []

    def _factories(self) -> list[x509.Certificate]:
        path = self._settings().path("enrolment.factory_ca")
        if path is None:
            return []
        try:
            return [whole(one) for one in x509.load_pem_x509_certificates(path.read_bytes())]
        except (OSError, *MALFORMED) as error:
            reason = getattr(error, "strerror", None) or "it holds no certificate in PEM form"
            raise ConfigError(
                f"enrolment.factory_ca = {path} cannot be read: {reason.lower()}",
                mend="name a PEM file with the certificates of the factory CAs",
                code="file-unreadable",
            ) from None

    def _mqtts_port(self) -> int | None:
        ports = [int(address.rpartition(":")[2]) for kind, address in self._running().addresses() if kind == "mqtts"]
        return ports[0] if ports else None

    def _running(self) -> Broker:
        if self._broker is None:
            raise LocalMisuse("Identities.serve comes before anything that needs the data plane")
        return self._broker
