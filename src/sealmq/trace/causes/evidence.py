"""What is known of a connection when its cause of failure is looked for: facts alone, none of them a sentence.

It refuses to know how the facts were gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.trace.tls.decode import Facts
    from sealmq.trace.tls.suites import Suite

REFUSED = 0x80  # MQTT 5.0, section 2.4


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts of one connection; -1, None and empty where there is none.

    `stage` is what was attempted last and `how` how it ended, as `recording.Event` lists both. `verify_code` is
    OpenSSL's X509_V_ERR number. `alert_received` and `alert_sent` are numbers of fatal alerts. `first_bytes` are the
    first that came, `not_tls` whether they ended the TLS; `not_mqtt` are the first bytes in the channel when they were
    no MQTT. `connack` and `disconnect` are the codes of those packets from the server, `reason_string` what it said
    with the last of them. `missed` is the part of the offer (`suite`, `group`, `signature`, `version`) with more of
    which the server would have gone on after its refusal, or `key`; `would_speak` the version in which, `would_choose`
    the suite, where it is one that is known here. `has_shared_key` is whether a pre-shared key was to be used, and
    `to_stranger` what an identity that nobody has gets from the server. `times` are signed times that have come
    already, `server_time` is what time the server has.
    `websocket_fault` is the slug of what was wrong with the WebSocket, `websocket_said` by what that is known.
    `anchors` are the trusted (subject, key identifier), None for the system's store.
    """

    stage: str
    how: str
    url: str
    host: str
    address: str
    server_name: str
    started: datetime
    tls: Facts
    wants_mqtt: bool
    mqtt_version: str = "5.0"
    client_id: str = ""
    errno: int = 0
    seconds: float = 0.0
    verify_code: int = 0
    alert_received: int = -1
    alert_sent: int = -1
    first_bytes: bytes = b""
    not_tls: bool = False
    not_mqtt: bytes = b""
    malformed: str = ""
    over: str = ""
    wrong_proof: str = ""
    connect_sent: bool = False
    connack: int = -1
    disconnect: int = -1
    reason_string: str = ""
    websocket_fault: str = ""
    websocket_said: str = ""
    anchors: tuple[tuple[str, str], ...] | None = None
    identity: tuple[bytes, ...] = ()
    legacy: bool = False
    missed: str = ""
    would_speak: str = ""
    would_choose: Suite | None = None
    to_stranger: str = ""
    times: tuple[tuple[str, datetime], ...] = ()
    server_time: datetime | None = None
    server_time_by: str = ""
    has_shared_key: bool = False

    @property
    def established(self) -> bool:
        """Whether both Finished crossed: the channel stands, for this side."""
        return self.tls.client_finished and self.tls.server_finished

    @property
    def failed(self) -> bool:
        """Whether something that was wanted did not come about, or a proof was wrong."""
        if self.wrong_proof or not self.established or self.alert_received >= 0 or self.alert_sent >= 0:
            return True
        if self.wants_mqtt and self.connack != 0:
            return True
        # a server may say goodbye once it has been talked to; in the middle of a session it has not
        orderly = self.how == "left" or (self.how == "closed" and self.stage != "mqtt")
        return not orderly or self.disconnect >= REFUSED or bool(self.not_mqtt and self.wants_mqtt)

    @property
    def stopped_by(self) -> Literal["here", "server", "network"]:
        """Who ended it, by how it ended; a cause may know better."""
        if self.verify_code or self.how in ("failed", "budget", "left"):
            return "server" if self.alert_received >= 0 or self.connack > 0 or self.disconnect >= REFUSED else "here"
        return "network" if self.how in ("dns", "unreachable", "timeout") else "server"
