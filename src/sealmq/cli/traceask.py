"""What the options of `sealmq trace` ask for, turned into recordings.

It refuses to show them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sealmq.errors import NotSo, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.cli.app import Globals
    from sealmq.trace.recording import Recording
    from sealmq.trace.request import Identity, MqttVersion, TlsVersion
    from sealmq.trace.target import Target

_MQTT: dict[str, MqttVersion] = {
    "5": "5.0",
    "5.0": "5.0",
    "mqttv5": "5.0",
    "311": "3.1.1",
    "3.1.1": "3.1.1",
    "mqttv311": "3.1.1",
}
_TLS: dict[str, TlsVersion] = {"": "", "1.2": "1.2", "1.3": "1.3"}


@dataclass(frozen=True)
class Asked:
    """The options as they were given; `run` may be called for several URLs.

    `device` is the value of `--as`. With `picks`, what the scheme of a URL has no use for is passed over: of two URLs
    to compare, one may want the certificate and the other the key.
    """

    options: Globals
    device: str | None = None
    cafile: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    psk_file: Path | None = None
    psk_identity: str = ""
    tls: str = ""
    ciphers: str = ""
    legacy: bool = False
    post_quantum: bool = False
    resume: bool = False
    server_name: str = ""
    alpn: str | None = None
    topic: str = ""
    client_id: str = ""
    version: str = "5"
    timeout: float | None = None
    pid: int | None = None
    picks: bool = False

    def run(self, url: str) -> Recording:
        """Connect and record. Raises `UsageError`, `ConfigError`, and `NotSo` for a device without files."""
        from sealmq.trace.live import recorder
        from sealmq.trace.request import Bounds, Request
        from sealmq.trace.target import Target

        if self.version not in _MQTT:
            raise UsageError(f"MQTT version {self.version!r} is not known", mend="-V takes 5 or 311")
        if self.tls not in _TLS:
            raise UsageError(f"TLS version {self.tls!r} cannot be chosen", mend="--tls takes 1.2 or 1.3")
        seconds, target = self.timeout, Target.parse(url)
        request = Request(
            target,
            self._identity(target),
            tls=_TLS[self.tls],
            legacy=self.legacy,
            ciphers=self.ciphers,
            resume=self.resume,
            server_name=self.server_name,
            mqtt=_MQTT[self.version],
            client_id=self.client_id,
            topic=self.topic,
            protocols=None if self.alpn is None else tuple(word for word in self.alpn.split(",") if word),
            bounds=Bounds() if seconds is None else Bounds(connect=seconds, handshake=seconds, mqtt=seconds),
            post_quantum=self.post_quantum,
            pid=self.pid,
        )
        return recorder.run(request)

    def _identity(self, target: Target) -> Identity:
        from sealmq.tls.presharedkey import Psk
        from sealmq.trace.identity import Identity

        if target.has_shared_key:
            if not self.picks and (self.cafile or self.cert or self.key):
                raise UsageError(
                    "a pre-shared key and certificates do not go together", mend="leave --cafile, --cert and --key out"
                )
            file = self._psk_file()
            return Identity(psk=None if file is None else Psk.read(file, identity=self.psk_identity or None))
        if self.psk_file is not None and not self.picks:
            raise UsageError(
                f"pre-shared key does not go with the URL {target}",
                mend=f"write mqtts+psk://{target.authority}, or leave --psk-file out",
            )
        if self.device is None:
            return Identity(self.cafile, self.cert, self.key)
        if self.cert is not None or self.key is not None:
            raise UsageError("--as and --cert or --key name two identities", mend="give one of them")
        from sealmq.datafolder import DataFolder
        from sealmq.pki.operations import device_files

        files = device_files(DataFolder.open(self.options.data), self.device)
        return Identity(self.cafile or files.ca, files.cert, files.key)

    def _psk_file(self) -> Path | None:
        if self.psk_file is not None:
            if self.device is not None and not self.picks:
                raise UsageError("--as and --psk-file name two identities", mend="give one of them")
            return self.psk_file
        if self.device is None:
            return None
        from sealmq.datafolder import DataFolder
        from sealmq.pki import psk

        return psk.device_file(DataFolder.open(self.options.data), self.device)


def next_at_broker(options: Globals, device: str | None, seconds: float) -> Recording:
    """The next handshake that the running broker sees. Raises `NotSo` when none comes."""
    from sealmq.broker import control
    from sealmq.cli import output
    from sealmq.cli.folder import running
    from sealmq.pki.names import check_device_id
    from sealmq.trace.brokerside import recording_of

    if device is not None:
        check_device_id(device)
    folder = running(options.data)
    who = f"device {device}" if device else "anyone"
    output.note(f"waiting up to {seconds:g} s for the next handshake of {who}")
    args = {"device": device, "seconds": seconds}
    found = control.call(folder, "trace-record", args, patience=seconds + 10)["recording"]
    if found is None:
        raise NotSo(
            f"no handshake of {who} came within {seconds:g} s",
            mend="connect it now, or wait longer with --timeout; `sealmq log refusals` shows whom the broker refused",
            code="nothing-recorded",
        )
    return recording_of(found)


def variant(asked: Asked, name: str) -> Asked:
    """What was asked, in one of the forms of a handshake that `--compare` names. Raises `UsageError` for another."""
    match name:
        case "full":
            return asked
        case "resumed":
            return replace(asked, resume=True)
        case "1.2" | "1.3":
            return replace(asked, tls=name)
        case "post-quantum":
            return replace(asked, post_quantum=True)
    raise UsageError(
        f"{name!r} is no form of a handshake",
        mend="after a URL, --compare takes two of full, resumed, 1.2, 1.3, post-quantum; without, URLs or recordings",
    )
