"""The diagnosis made of a cause and the facts: its words, who stopped, and what did not happen because of it.

It refuses to know how a cause is recognised; the words stand in `table`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sealmq.trace.causes.table import CAUSES, OF_CLIENT

if TYPE_CHECKING:
    from sealmq.trace.causes.evidence import Evidence
    from sealmq.trace.model import StoppedBy


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found: the slug, by what it is known, who stopped (None: by how it ended), and values for the
    words."""

    slug: str
    evidence: str
    stopped_by: StoppedBy | None = None
    values: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause in words. `not_done` is what did not happen because of it."""

    slug: str
    sentence: str
    mend: str
    command: str
    evidence: str
    stopped_by: StoppedBy
    not_done: tuple[str, ...]


def diagnose(found: Found, evidence: Evidence) -> Diagnosis:
    """The words for what was found."""
    stopped_by = found.stopped_by or evidence.stopped_by
    rows = OF_CLIENT if stopped_by == "server" and found.slug in OF_CLIENT else CAUSES
    cause = rows[found.slug]
    values = _facts(evidence) | found.values
    return Diagnosis(
        found.slug,
        cause.sentence.format_map(values),
        cause.mend.format_map(values),
        cause.command.format_map(values),
        found.evidence,
        stopped_by,
        not_done(evidence),
    )


def not_done(evidence: Evidence) -> tuple[str, ...]:
    """What a failure kept from happening, each as a clause."""
    missing = []
    if evidence.tls.client_hello is None:
        missing.append("no byte of TLS was sent")
    elif not evidence.established:
        missing.append("no session key came into use")
    if evidence.wants_mqtt and not evidence.connect_sent:
        missing.append("no CONNECT left this machine")
    elif evidence.wants_mqtt and evidence.connack != 0:
        missing.append("no MQTT session began, nothing was published")
    return tuple(missing)


def _again(evidence: Evidence) -> str:
    """The same trace once more, with the option that names whom to trust and who this is."""
    if evidence.has_shared_key:
        option = " --psk-file FILE"
    elif evidence.identity:
        option = " --as ID"
    else:
        option = " --cafile FILE" if evidence.anchors is not None else ""
    return f"sealmq trace {evidence.url}{option}"


def _facts(evidence: Evidence) -> dict[str, object]:
    from sealmq.trace.tls import names

    hello = evidence.tls.client_hello
    offered = [names.version(number).removeprefix("TLS ") for number in hello.versions] if hello is not None else []
    authority = evidence.url.partition("://")[2].partition("/")[0]
    return {
        "again": _again(evidence),
        "url": evidence.url,
        "as_psk": f"mqtts+psk://{authority}",
        "as_certificate": f"mqtts://{authority}",
        "host": evidence.host,
        "address": evidence.address or evidence.host,
        "server_name": evidence.server_name,
        "client_id": evidence.client_id,
        "mqtt": evidence.mqtt_version,
        "seconds": evidence.seconds,
        "over": evidence.over,
        "versions": "TLS " + " and ".join(sorted(offered)) if offered else "none",
        "groups": ", ".join(names.group(number) for number in hello.groups) if hello is not None else "",
        "protocols": ", ".join(hello.protocols) if hello is not None else "",
        "what": evidence.malformed or evidence.wrong_proof,
        "now": f"{evidence.started:%Y-%m-%d %H:%M} UTC",
    }
