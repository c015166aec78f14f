"""sealmq: a secure-by-default MQTT broker, device PKI, handshake insight and client in one package.

Importing it loads nothing heavy: the public names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealmq.errors import SealmqError

    __version__: str

__all__ = ["SealmqError", "__version__"]

_HOMES = {"SealmqError": "sealmq.errors"}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("sealmq")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sealmq' has no attribute {name!r}")
