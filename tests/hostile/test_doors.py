"""The doors beside MQTT: the control socket after trouble, health when the data plane is silent, terminals.

Knows nothing of TLS.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from sealmq.broker import control
from sealmq.broker.https import application
from sealmq.cli import output
from sealmq.datafolder import DataFolder
from sealmq.errors import UsageError
from sealmq.pki.names import check_device_id

if TYPE_CHECKING:
    from pathlib import Path


def test_the_control_socket_outlives_a_shortage_of_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outsider who opens connections to the other ports must not cut the operator off for good."""
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOMEM]

    def scarce(listener: socket.socket) -> tuple[socket.socket, Any]:
        if listener.family == socket.AF_UNIX and failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number))
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    monkeypatch.setattr(control, "_ANSWER_SECONDS", 3.0)
    folder = DataFolder.create_or_open(tmp_path / "data")
    server = control.ControlServer(folder, {"echo": lambda args: args})
    server.start()
    try:
        assert control.call(folder, "echo", {"a": 1}) == {"a": 1}
    finally:
        server.stop()
    assert not failures


def test_a_broker_whose_data_plane_does_not_answer_is_not_healthy() -> None:
    """The node gives no figures then: whoever balances load has to be told."""
    app = application(urls=list, ca_pem=lambda: None, stats=dict, refusals=dict, fleet="fleet-test", version="0")
    (healthz,) = [route.endpoint for route in app.routes if getattr(route, "path", "") == "/healthz"]
    assert healthz(None).status_code == 503


def test_json_for_a_terminal_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """C1 controls and bidirectional marks are printable to JSON, not to a terminal."""
    hostile = "a\x1b[2Jb\x9b2Jc\u202ed\u2028e\x7f"
    output.as_json({"client_id": hostile})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"client_id": hostile}
    assert printed.rstrip("\n").isprintable()


def test_a_device_that_could_never_connect_is_not_made() -> None:
    """`anonymous` stands for clients without a certificate; the data plane refuses it as an identity."""
    with pytest.raises(UsageError):
        check_device_id("anonymous")
