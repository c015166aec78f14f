"""Programs that others wrote, run once against a broker: what they printed and how they ended.

It refuses to interpret: an exit status and the text are all a test gets.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from raw_mqtt import Credentials

SECONDS = 20


@dataclass(frozen=True)
class Ended:
    """How a program ended; `text` is what it wrote to stdout and stderr."""

    status: int
    out: bytes
    text: str

    @property
    def alert(self) -> int | None:
        """The number of the TLS alert that an OpenSSL program received, None without one."""
        found = re.search(r"SSL alert number (\d+)", self.text)
        return int(found[1]) if found else None


def run(*command: str | Path, stdin: bytes = b"") -> Ended:
    """Run a program to its end, at most `SECONDS`."""
    done = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, timeout=SECONDS)
    return Ended(done.returncode, done.stdout, (done.stdout + done.stderr).decode(errors="replace"))


def s_client(
    port: int,
    *options: str | Path,
    files: Credentials | None = None,
    ca: Path | None = None,
    stdin: bytes = b"",
) -> Ended:
    """`openssl s_client`; it stays until the broker closes, so that a late alert is seen."""
    command: list[str | Path] = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof"]
    anchor = ca if ca is not None else files.ca if files is not None else None
    if anchor is not None:
        command += ["-CAfile", anchor]
    if files is not None:
        command += ["-cert", files.cert, "-cert_chain", files.cert, "-key", files.key]
    return run(*command, *options, stdin=stdin)


def mosquitto_pub(
    port: int,
    *options: str | Path,
    files: Credentials | None = None,
    ca: Path | None = None,
    client_id: str = "sensor-1",
    topic: str = "devices/sensor-1/up",
    host: str = "127.0.0.1",
) -> Ended:
    """`mosquitto_pub` with one message."""
    command: list[str | Path] = ["mosquitto_pub", "-h", host, "-p", str(port), "-i", client_id, "-t", topic, "-m", "21"]
    anchor = ca if ca is not None else files.ca if files is not None else None
    if anchor is not None:
        command += ["--cafile", anchor]
    if files is not None:
        command += ["--cert", files.cert, "--key", files.key]
    return run(*command, *options)


def gnutls_cli(
    port: int, *options: str | Path, files: Credentials, ca: Path | None = None, stdin: bytes = b""
) -> Ended:
    """`gnutls-cli`."""
    return run(
        "gnutls-cli",
        *("-p", str(port), "--x509cafile", ca or files.ca, "--x509certfile", files.cert, "--x509keyfile", files.key),
        *options,
        "127.0.0.1",
        stdin=stdin,
    )
