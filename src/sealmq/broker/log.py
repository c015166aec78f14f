"""The broker's log on stderr: one record per fact, as text for people or as JSON for machines.

It refuses to know what is done about a fact, and it writes nothing that a peer could use to forge a line.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from sealmq.broker.logstream import LogStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from sealmq.broker.facts import Facts

Logger = Any  # structlog's bound loggers are made at run time; their methods are info(event, **fields) and the like

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_EVENT_LEVELS: dict[str, str] = dict.fromkeys(
    (
        "refused",
        "denied",
        "dropped",
        "lost",
        "cloned",
        "fell-back",
        "sightings-lost",
        "revocation-unwritten",
        "revocation-lost",
    ),
    "warning",
) | {"failure": "error"}
_STORE_LEVELS = {"full": "warning", "failed": "error"}
_RECORDS_PER_SECOND = 50  # of one kind; the rest is counted, so that a flood of bad connections cannot fill the disk
_CERTIFICATE_FIELDS = ("device", "subject", "issuer", "serial", "not_before", "not_after")


def make(*, level: str, form: str, stream: TextIO | None = None) -> Logger:
    """A logger that writes to `stream` (stderr when None); `level` and `form` are the values of `[log]`."""
    render = _as_json if form == "json" else _as_text
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream if stream is not None else _standard_error(render)),
        processors=[structlog.processors.add_log_level, render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return logger.bind()  # what wrap_logger gives would make the logger anew for each record


def _standard_error(render: Callable[[object, str, MutableMapping[str, Any]], str]) -> TextIO:
    def told(lost: int) -> str:
        summary = f"{lost} records were lost while nobody read the log"
        return render(None, "warning", {"event": "log-lost", "level": "warning", "summary": summary, "count": lost})

    try:
        descriptor = sys.stderr.fileno()
    except io.UnsupportedOperation:  # it was replaced by something in memory
        return sys.stderr
    return cast("TextIO", LogStream(descriptor, told=told))


class EventLog:
    """The sink that writes the data plane's events, each at its level, with a budget per kind and second."""

    def __init__(self, logger: Logger, *, now: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.Lock()
        self._second = int(now())
        self._written: dict[str, int] = {}

    def note(self, facts: Facts) -> None:
        """Write events; those of a kind that has used up this second's budget are counted and not read."""
        with self._lock:
            suppressed = self._turn_second()
            room = self._take_room(facts.counts)
        for kind, count in suppressed.items():
            self._logger.warning("suppressed", kind=kind, count=count)
        for index, (name, *_) in enumerate(facts.outlines if room else ()):
            if name in room:
                fields = dict(facts.read(index))
                del fields["event"]
                getattr(self._logger, _level(name, fields))(name, **fields)
                room[name] -= 1
                if not room[name]:
                    del room[name]

    def _take_room(self, counts: Mapping[str, int]) -> dict[str, int]:
        """How many of each kind may be written now; a kind that the level leaves out is not counted either."""
        room = {}
        for name, count in counts.items():
            if name == "store" or self._logger.is_enabled_for(_LEVELS[_level(name, {})]):
                written = self._written.get(name, 0)
                self._written[name] = written + count
                room[name] = min(count, _RECORDS_PER_SECOND - written)
        return {name: count for name, count in room.items() if count > 0}

    def _turn_second(self) -> dict[str, int]:
        second = int(self._now())
        if second == self._second:
            return {}
        over = {kind: n - _RECORDS_PER_SECOND for kind, n in self._written.items() if n > _RECORDS_PER_SECOND}
        self._second = second
        self._written = {}
        return over


def _level(name: str, fields: dict[str, Any]) -> str:
    if name == "store":
        return _STORE_LEVELS.get(str(fields.get("health")), "info")
    return _EVENT_LEVELS.get(name, "info")


class Bridge(logging.Handler):
    """Takes what libraries log through the standard module and writes it as records of ours."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message; its traceback only in the debug record."""
        self._logger.warning("library", source=record.name, summary=record.getMessage())


def clean(value: object) -> str:
    """A value as one line: what is not printable is escaped, so that a peer's bytes cannot start a new record."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def certificate_line(certificate: dict[str, Any]) -> str:
    """The fields of a certificate in a refusal as one line."""
    found = [
        f"{name.replace('_', ' ')} {clean(certificate[name])}" for name in _CERTIFICATE_FIELDS if certificate.get(name)
    ]
    return ", ".join(found)


def sentence(name: str, fields: Mapping[str, Any]) -> str:
    """An event in plain words, one line."""
    words = _SENTENCES.get(name)
    if words is not None:
        return words(Words(fields))
    what = {key: word for key, value in fields.items() if (word := _word(key, value))}
    rest = [f"{key}={value}" for key, value in what.items() if key not in ("at", "level", "mend", "summary")]
    return " ".join([f"{name}:", what["summary"], *rest] if "summary" in what else [name, *rest])


class Words:
    """The fields of an event as clean text, each when it is asked for; one that is missing is empty."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __getitem__(self, key: str) -> str:
        return _word(key, self._fields.get(key))


def _word(key: str, value: object) -> str:
    return "" if value is None else clean(_tls(value) if key == "tls" else value)


def _tls(tls: object) -> str:
    return " ".join(str(tls[key]) for key in ("version", "group") if tls.get(key)) if isinstance(tls, dict) else ""


def _refused(what: Words) -> str:
    place = f"{what['listener']} {what['stage']}".strip()
    return f"refused {what['peer']} ({place}): {what['summary'] or what['cause']} [{what['cause']}]"


def _connected(what: Words) -> str:
    return f"connected {what['client_id']} from {what['peer']} (MQTT {what['protocol']}, {what['tls'] or 'no TLS'})"


def _disconnected(what: Words) -> str:
    return f"disconnected {what['client_id']} from {what['peer']}: {what['summary'] or what['cause']}"


def _denied(what: Words) -> str:
    return f"denied {what['client_id']}: {what['action']} {what['topic']}: {what['rule'] or 'no rule allows it'}"


def _dropped(what: Words) -> str:
    return f"dropped {what['count']} messages for {what['client_id']}: {what['cause']}"


def _lost(what: Words) -> str:
    return f"lost {what['count']} events that came faster than they could be handed on"


def _store(what: Words) -> str:
    return what["summary"]


def _dangerous(what: Words) -> str:
    return f"DANGEROUS {what['setting']} = {what['value']}: {what['meaning']}"


_SENTENCES: dict[str, Callable[[Words], str]] = {
    "refused": _refused,
    "connected": _connected,
    "disconnected": _disconnected,
    "denied": _denied,
    "dropped": _dropped,
    "lost": _lost,
    "store": _store,
    "dangerous": _dangerous,
}


@lru_cache(maxsize=1)
def _local(second: int) -> str:
    """A second since the epoch as people here write it; many records are of the same."""
    return datetime.fromtimestamp(second, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _as_text(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
    at = fields.get("at")
    moment = _local(int(at // 1000 if isinstance(at, int | float) else time.time()))
    name, level = str(fields.pop("event")), str(fields.pop("level"))
    mark = "" if level in ("info", "debug", "critical") else f"{level} "
    lines = [f"{moment} {mark}{sentence(name, fields)}"]
    certificate = fields.get("certificate")
    if name == "refused" and isinstance(certificate, dict) and (found := certificate_line(certificate)):
        lines.append(f"    certificate: {found}")
    if fields.get("mend"):
        lines.append(f"    mend: {clean(fields['mend'])}")
    return "\n".join(lines)


def _as_json(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
    at = fields.get("at")
    when = datetime.fromtimestamp(at / 1000, UTC) if isinstance(at, int | float) else datetime.now(UTC)
    moment = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    rest = {key: value for key, value in fields.items() if key not in ("at", "event", "level")}
    return json.dumps({"at": moment, "level": fields["level"], "event": fields["event"], **rest}, default=str)
