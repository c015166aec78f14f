"""One broker per file of tests, and a device of its own for each test, so that none sees the messages of another."""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack

import pytest
from stock import Paho

from sealmq.testing import EphemeralBroker

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def broker():
    with EphemeralBroker(wss=True) as running:
        yield running


@pytest.fixture
def device(request) -> str:
    """The id of a device that no other test uses."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{words[5:37].strip('-')}-{next(_serial)}"


@pytest.fixture
def files(broker, device):
    """Certificate, key and CA of `device`."""
    return broker.device(device)


@pytest.fixture(params=[5, 4], ids=["v5", "v311"])
def version(request) -> int:
    """The protocol level in CONNECT: 5 is MQTT 5.0, 4 is MQTT 3.1.1."""
    return request.param


@pytest.fixture
def paho(broker, device, files):
    """`paho(role)` connects a paho client with client id `DEVICE:role`; all are gone at the end of the test."""
    with ExitStack() as stack:

        def connect(role: str = "a", **options) -> Paho:
            return stack.enter_context(Paho(broker, files, client_id=f"{device}:{role}", **options))

        yield connect
