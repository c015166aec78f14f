"""What the tests of the HTTPS door share: `opened`, `at_door` and `identity`.

Knows nothing of what they ask there.
"""

import contextlib
import io

import fake_engine
import pytest
from enrol_door import DAY, NOW, Door, csr

from sealmq.broker.service import Service
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.pki import enrolment, signing
from sealmq.pki.authority import Authority


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """`opened(setting=value)`: a service on a data folder whose CA is 200 days old."""
    fake_engine.install(monkeypatch)
    with contextlib.ExitStack() as stack:

        def start(**settings):
            data = tmp_path / "data"
            folder = DataFolder.create_or_open(data)
            if not folder.ca_dir.is_dir():
                Authority.create(folder, now=NOW - 200 * DAY)
            overrides = {"listen.https": "127.0.0.1:0", **{k.replace("__", "."): v for k, v in settings.items()}}
            log = io.StringIO()
            read = lambda: load(data / "sealmq.toml", overrides=overrides, environ={})  # noqa: E731
            return Door(stack.enter_context(Service(data, read, log_to=log)), log)

        yield start


@pytest.fixture
def at_door(opened):
    return opened()


@pytest.fixture
def identity(tmp_path):
    """`identity(door, lifetime…)` enrols a device in the past and writes its pair; the files, certificate first."""

    def make(at_door, device_id="sensor-1", *, now=NOW):
        key = signing.new_key()
        token = at_door.token(device_id, now=now)
        _, authority, registry = at_door.three()
        request = csr(device_id, key=key)
        issued = enrolment.by_token(authority, registry, token=token, request=request, now=now)
        cert, key_file = tmp_path / f"{device_id}.pem", tmp_path / f"{device_id}.key"
        cert.write_bytes(issued.chain_pem)
        key_file.write_bytes(signing.key_pem(key))
        return cert, key_file

    return make
