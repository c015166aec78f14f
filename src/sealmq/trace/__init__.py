"""A real handshake and MQTT session, recorded, decrypted, proven and told step by step.

It refuses to know the command line; `sealmq trace` is a face on what is here. Importing it loads nothing heavy.

```
from sealmq import trace

seen = trace.record("mqtts://broker.example", ca="ca.pem", certificate="cert.pem", key="key.pem")
for step in seen.steps:
    print(step.message, step.bytes, step.state.handshake)
if seen.outcome == "failed":
    print(seen.cause, seen.mend)
```
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.trace.model import State, Step, Trace, from_json, to_json

if TYPE_CHECKING:
    from sealmq.trace.request import Bounds, MqttVersion, TlsVersion

__all__ = ["State", "Step", "Trace", "from_json", "record", "replay", "to_json"]

StrPath = str | os.PathLike[str]


def record(
    url: str,
    *,
    ca: StrPath | None = None,
    certificate: StrPath | None = None,
    key: StrPath | None = None,
    psk: StrPath | None = None,
    tls: TlsVersion = "",
    legacy: bool = False,
    ciphers: str = "",
    resume: bool = False,
    server_name: str = "",
    mqtt: MqttVersion = "5.0",
    client_id: str = "",
    topic: str = "",
    protocols: tuple[str, ...] | None = None,
    post_quantum: bool = False,
    bounds: Bounds | None = None,
) -> Trace:
    """Connect to `url`, go through handshake and MQTT session, and return what happened.

    `url` is `mqtts://HOST[:8883]`, `wss://HOST[:8084]/mqtt` or `mqtts+psk://HOST[:8884]`; with `https://`, `tls://` or
    `tls+psk://` the trace ends when the channel stands. `ca` is a PEM file with what to trust, by default the system's;
    `certificate` and `key` are this client's, PEM, chain leaf first. With `+psk` in the scheme `psk` is a file with one
    line `identity:hexkey`, and there are no certificates. `tls` is `1.2` or `1.3` to allow that alone; `legacy` also
    permits what should be spoken no more, for looking only; `ciphers` is an OpenSSL list for TLS 1.2. `resume` makes a
    second connection with the session of the first; the first is then in `previous`. `server_name` replaces the URL's
    host in SNI and verification, `protocols` the ALPN offer. `post_quantum` offers X25519MLKEM768.

    Whatever server and network do is in the trace: look at `outcome` and `cause`. Raises `UsageError` for words that
    make no sense and `ConfigError` for files that cannot be used. Nothing is written to disk.
    """
    from sealmq.tls.presharedkey import Psk
    from sealmq.trace.build import trace_of
    from sealmq.trace.live import recorder
    from sealmq.trace.request import Bounds, Identity, Request
    from sealmq.trace.target import Target

    shared = None if psk is None else Psk.read(Path(psk))
    identity = Identity(_path(ca), _path(certificate), _path(key), shared)
    request = Request(
        Target.parse(url), identity, tls, legacy, ciphers, resume, server_name, mqtt, client_id, topic, protocols,
        bounds or Bounds(), post_quantum,
    )  # fmt: skip
    return trace_of(recorder.run(request))


def replay(path: StrPath) -> Trace:
    """The trace of a recording that `sealmq trace --save` wrote. Raises `UsageError` when it is none, `Environment`."""
    from sealmq.trace.build import trace_of
    from sealmq.trace.recording import Recording

    return trace_of(Recording.read(Path(path)))


def _path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)
