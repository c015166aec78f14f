"""A client's pre-shared key: who it says it is, and the key by which it and the server prove themselves.

It refuses to show the key, and to take one that can be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealmq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "psk.txt"
_KEY_BYTES = range(16, 65)  # RFC 9257 section 6: fewer can be guessed; more, no peer keeps
_IDENTITY_BYTES = range(1, 129)  # RFC 4279 section 5.3


@dataclass(frozen=True)
class Psk:
    """In place of an `Identity`, for `mqtts+psk://`: the handshake proves both sides by the key, with no certificate.

    `identity` is text of 1 to 128 bytes, for a sealmq broker the device id; `key` has 16 to 64 bytes, and never shows.
    """

    identity: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raises `ConfigError` with code `psk-invalid`; the key is in no message."""
        if len(self.identity.encode()) not in _IDENTITY_BYTES or "\0" in self.identity:
            raise _bad("identity of the pre-shared key does not have 1 to 128 bytes, none of them zero")
        if len(self.key) not in _KEY_BYTES:
            raise _bad(
                f"pre-shared key of {self.identity} has {len(self.key)} bytes, not 16 to 64",
                "make one: openssl rand -hex 32",
            )

    @classmethod
    def parse(cls, line: str) -> Psk:
        """From `identity:hexkey`, the last colon parting the two. Raises `ConfigError` with code `psk-invalid`."""
        identity, colon, digits = line.strip().rpartition(":")
        if not colon:
            raise _bad("pre-shared key is not identity:hexkey")
        return cls(identity, key_of(identity, digits))

    @classmethod
    def read(cls, path: Path, *, identity: str | None = None) -> Psk:
        """The line in a file such as `psk.txt`, or that of `identity` in a `psk_file` of mosquitto with several.

        Raises `ConfigError` with code `psk-invalid`, `file-unreadable`.
        """
        try:
            lines = [line for line in path.read_text("utf-8").splitlines() if line.strip() and line[0] != "#"]
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "not text").lower()
            mend = "check path, owner and mode"
            raise ConfigError(
                f"file of a pre-shared key {path} cannot be read: {reason}", mend=mend, code="file-unreadable"
            ) from None
        if identity is not None:
            lines = [line for line in lines if line.rpartition(":")[0] == identity]
        if len(lines) != 1:
            of = "" if identity is None else f" of {identity}"
            raise _bad(
                f"file of a pre-shared key {path} holds {len(lines) or 'no'} key{'' if len(lines) == 1 else 's'}{of}",
                "it has to be one line identity:hexkey; --psk-identity chooses among several",
            )
        if ":" not in lines[0]:
            raise _bad(f"file of a pre-shared key {path} is not identity:hexkey")
        return cls.parse(lines[0])

    @property
    def device(self) -> str:
        """The device id: for a sealmq broker the identity is one, with `~2` and so on for keys that replaced others."""
        return self.identity.partition("~")[0]

    def as_config(self) -> dict[str, Any]:
        """Its part of the configuration that `_engine.Client.open` takes."""
        return {"psk": {"identity": self.identity, "key": self.key.hex()}}


def key_of(identity: str, digits: str) -> bytes:
    """The key in hexadecimal digits. Raises `ConfigError` with code `psk-invalid`."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise _bad(f"pre-shared key of {identity} is not hexadecimal digits") from None


def _bad(
    message: str, mend: str = "`sealmq device add ID --psk` writes a psk.txt: one line identity:hexkey"
) -> ConfigError:
    return ConfigError(message, mend=mend, code="psk-invalid")
