"""The public testing kit: what a program that talks to sealmq needs in its own tests.

It knows nothing of the test runner, and nothing in `sealmq` outside this package imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealmq.testing.ca import Fault, ThrowawayCA

if TYPE_CHECKING:
    from sealmq.testing.broker import EphemeralBroker

__all__ = ["EphemeralBroker", "Fault", "ThrowawayCA"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name == "EphemeralBroker":  # brings the data plane along, which a test of certificates does not need
        from sealmq.testing.broker import EphemeralBroker

        return EphemeralBroker
    raise AttributeError(f"module 'sealmq.testing' has no attribute {name!r}")
