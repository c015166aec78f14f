"""The MQTT client: for asyncio (`Client`) and as blocking calls (`Connection`), over one data plane.

It refuses to connect without verifying the server, and to load asyncio for those who only want `Connection`.
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
    from sealmq.client.target import Target
    from sealmq.tls.presharedkey import Psk

__all__ = [
    "Backoff",
    "Client",
    "Connection",
    "Identity",
    "Message",
    "Properties",
    "Psk",
    "SubscribeOptions",
    "Target",
    "Will",
]

_HOMES = {
    "Backoff": ".backoff",
    "Client": ".client",
    "Connection": ".connection",
    "Identity": ".identity",
    "Message": ".message",
    "Properties": ".message",
    "Psk": "sealmq.tls.presharedkey",
    "SubscribeOptions": ".subscription",
    "Target": ".target",
    "Will": ".message",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
