"""Telling in time that something ends: in the log, as a retained MQTT message, and to a webhook.

It refuses to know what there is and how long it lasts (`pki.expiry`), and it renews nothing. Each thing is told of once
per threshold that it falls below, and once when it is renewed; devices are told of together, since there may be many.
What was told is not kept over a restart.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sealmq.config.duration import format_duration, parse_duration
from sealmq.pki.expiry import Expiring, Inventory, Kind
from sealmq.pki.signing import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder

TOPIC = "$sealmq/expiry"
EXPIRED = "expired"

_NAMED_DEVICES = 20
_MENDS = {
    Kind.CA: "see `sealmq ca show`; an issuing CA gets a successor by itself, a root with `sealmq ca rotate`",
    Kind.SERVER: "replace the file that [tls] names, the broker takes it as it runs; the built-in one renews itself",
    Kind.CHAIN: "put the present CA certificate into the file behind the certificate of the broker",
    Kind.CLIENT_CA: "put the present CA certificate into the file that tls.client_ca names",
    Kind.CRL: "fetch the present list from its CA and replace the file that tls.crl names",
    Kind.DEVICE: "let them renew (`sealmq agent`, EST, `sealmq device renew`), or end them: `sealmq device retire`",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told: `state` is `expired`, a threshold such as `7d`, or `renewed`.

    `topic` is where the retained message stands; `summary` one sentence; `fields` the facts for machines.
    """

    topic: str
    state: str
    summary: str
    mend: str
    fields: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As the MQTT message and the webhook have it."""
        return {"state": self.state, "summary": self.summary, "mend": self.mend, **self.fields}


class Judge:
    """Decides what is new; no clock, no I/O. `take` is given an inventory and the time, as often as wanted."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], timedelta] = {}
        self._devices: dict[str, timedelta] = {}

    def take(self, found: Iterable[Expiring], thresholds: Sequence[timedelta], *, now: datetime) -> list[Notice]:
        """What has fallen below a threshold since the last time, and what has been renewed."""
        short: dict[tuple[str, str], tuple[timedelta, Expiring]] = {}
        devices: dict[str, tuple[timedelta, Expiring]] = {}
        for one in found:
            level = _level(one, thresholds, now)
            if level is None:
                continue
            place = devices if one.kind is Kind.DEVICE else short
            key: Any = one.name if one.kind is Kind.DEVICE else (one.kind, one.name)
            if key not in place or level < place[key][0]:
                place[key] = (level, one)
        return [*self._singly(short, now), *self._together(devices, now)]

    def _singly(self, short: dict[tuple[str, str], tuple[timedelta, Expiring]], now: datetime) -> list[Notice]:
        told = self._told
        new = [(level, one) for key, (level, one) in short.items() if key not in told or level < told[key]]
        renewed = [key for key in told if key not in short]
        self._told = {key: level for key, (level, _) in short.items()}
        return [
            *(_about(one, level, now) for level, one in new),
            *(_renewed(kind, name) for kind, name in renewed),
        ]

    def _together(self, short: dict[str, tuple[timedelta, Expiring]], now: datetime) -> list[Notice]:
        told = self._devices
        new = [level for name, (level, _) in short.items() if name not in told or level < told[name]]
        self._devices = {name: level for name, (level, _) in short.items()}
        if new:
            return [_about_devices(list(short.values()), min(new), now)]
        if told and not short:
            return [Notice(f"{TOPIC}/devices", "renewed", "no device certificate is short of time any more", "")]
        return []


class Publisher(Protocol):
    """The part of a broker that publishes."""

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """A message of the broker itself."""


class ExpiryWatch:
    """Looks, judges and tells; `look` is one round. `latest` is what the last round found, for metrics."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        *,
        settings: Callable[[], Settings],
        publisher: Callable[[], Publisher],
        warn: Callable[..., None],
        post: Callable[[str, dict[str, Any], Path | None], None],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`warn` is a logger's `warning`; `post` hands a document to a URL, trusting a CA file, and returns at once."""
        self._inventory = inventory
        self._settings = settings
        self._publisher = publisher
        self._warn = warn
        self._post = post
        self._now = now
        self._judge = Judge()
        self.latest: tuple[Expiring, ...] = ()

    def look(self) -> None:
        """One round. Raises `SealmqError` when the registry cannot be read."""
        found, now = self._inventory(), self._now()
        self.latest = found.found
        for path in found.unreadable:
            self._warn(
                "expiry", summary=f"{path} cannot be read, so nobody can tell when it ends", mend="check the file"
            )
        thresholds = [parse_duration(text) for text in self._settings().config.expiry.thresholds]
        for notice in self._judge.take(found.found, thresholds, now=now):
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        is_over = notice.state == "renewed"
        if not is_over:
            self._warn("expiry", summary=notice.summary, mend=notice.mend)
        payload = b"" if is_over else json.dumps(notice.document()).encode()  # an empty one takes the retained one away
        self._publisher().publish(notice.topic, payload, retain=True)
        if url := self._settings().config.expiry.webhook:
            self._post(url, notice.document(), self._settings().path("expiry.webhook_ca"))


def files_that_end(settings: Settings, folder: DataFolder) -> list[tuple[Kind, Path]]:
    """The files that the configuration names, the built-in server certificate where it is in use, and what ACME got."""
    named = settings.path("tls.certificate")
    own = [folder.server_dir / "cert.pem"] if named is None else []
    own += [folder.path / "acme" / "public.pem"] if settings.config.tls.acme.names else []
    found = [(Kind.SERVER, path) for path in own if path.exists()]  # a broker makes them when it runs
    found += [(Kind.SERVER, named)] if named is not None else []
    for entry in settings.config.tls.also:
        path = settings.resolve("tls.also", entry.certificate)
        found += [(Kind.SERVER, path)] if path is not None else []
    for kind, setting in ((Kind.CLIENT_CA, "tls.client_ca"), (Kind.CRL, "tls.crl")):
        path = settings.path(setting)
        found += [(kind, path)] if path is not None else []
    return found


def _level(one: Expiring, thresholds: Sequence[timedelta], now: datetime) -> timedelta | None:
    """The shortest threshold that it has fallen below, zero when it is over, None while there is time."""
    left = one.left(now)
    if left <= timedelta(0):
        return timedelta(0)
    return min((level for level in one.due_below(thresholds) if left <= level), default=None)


def _about(one: Expiring, level: timedelta, now: datetime) -> Notice:
    fields = {
        "kind": str(one.kind),
        "name": one.name,
        "not_after": one.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds_left": int(one.left(now).total_seconds()),
        "file": one.file,
    }
    what = {Kind.CRL: "revocation list of", Kind.SERVER: "certificate of the broker", Kind.CA: "CA"}.get(one.kind, "CA")
    return Notice(
        _topic(one.kind, one.name), _state(level), f"{what} {one.name} {_ends(one, now)}", _MENDS[one.kind], fields
    )


def _about_devices(short: list[tuple[timedelta, Expiring]], level: timedelta, now: datetime) -> Notice:
    by_end = sorted((one for _, one in short), key=lambda one: one.end)
    over = sum(one.left(now) <= timedelta(0) for one in by_end)
    count, first = len(by_end), by_end[0]
    fields = {
        "kind": str(Kind.DEVICE),
        "count": count,
        "expired": over,
        "not_after": first.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "devices": [one.name for one in by_end[:_NAMED_DEVICES]],
    }
    which = f"that of {first.name}" if count == 1 else f"the first that of {first.name}"
    what = "1 device certificate is" if count == 1 else f"{count} device certificates are"
    summary = f"{what} short of time, {over} of them over; {which} {_ends(first, now)}"
    return Notice(f"{TOPIC}/devices", _state(level), summary, _MENDS[Kind.DEVICE], fields)


def _renewed(kind: str, name: str) -> Notice:
    return Notice(_topic(kind, name), "renewed", f"{kind} {name} is renewed or gone", "", {"kind": kind, "name": name})


def _state(level: timedelta) -> str:
    return EXPIRED if level == timedelta(0) else format_duration(level)


def _ends(one: Expiring, now: datetime) -> str:
    left = one.left(now)
    if left <= timedelta(0):
        return f"ended on {one.end:%Y-%m-%d %H:%M} UTC"
    days, hours = left.days, left.seconds // 3600
    span = f"{days} days" if days > 1 else f"{24 * days + hours} hours"
    return f"ends in {span}, on {one.end:%Y-%m-%d %H:%M} UTC"


def _topic(kind: str, name: str) -> str:
    """One level for the kind and one for the name; what cannot stand in a level becomes `-`."""
    return f"{TOPIC}/{kind}/{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-') or 'unnamed'}"
