"""sealmq: a secure-by-default MQTT broker, device PKI, handshake insight and client in one package.

Importing it loads nothing heavy: the public names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealmq.client.backoff import Backoff
    from sealmq.client.client import Client
    from sealmq.client.connection import Connection
    from sealmq.client.identity import Identity
    from sealmq.client.message import Message, Properties, Will
    from sealmq.client.subscription import SubscribeOptions
    from sealmq.errors import SealmqError
    from sealmq.tls.presharedkey import Psk

    __version__: str

__all__ = [
    "Backoff",
    "Client",
    "Connection",
    "Identity",
    "Message",
    "Properties",
    "Psk",
    "SealmqError",
    "SubscribeOptions",
    "Will",
    "__version__",
]

_HOMES = {
    "Backoff": "sealmq.client.backoff",
    "Client": "sealmq.client.client",
    "Connection": "sealmq.client.connection",
    "Identity": "sealmq.client.identity",
    "Message": "sealmq.client.message",
    "Properties": "sealmq.client.message",
    "Psk": "sealmq.tls.presharedkey",
    "SealmqError": "sealmq.errors",
    "SubscribeOptions": "sealmq.client.subscription",
    "Will": "sealmq.client.message",
}


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
