"""The doors beside MQTT: the control socket after trouble, health when the data plane is silent, terminals.

Knows nothing of TLS.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sealmq.broker import control, webhook
from sealmq.broker.https import application
from sealmq.cli import output
from sealmq.datafolder import DataFolder
from sealmq.errors import UsageError
from sealmq.pki.names import check_device_id
from sealmq.testing import ThrowawayCA

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


@pytest.mark.parametrize("word", ["anonymous", "user"])
def test_a_device_that_could_never_connect_is_not_made(word: str) -> None:
    """Both stand for clients without a certificate; the data plane refuses them as identities."""
    with pytest.raises(UsageError):
        check_device_id(word)


def test_a_path_of_nothing_leads_nowhere() -> None:
    """A redirect would name the host that the request named, and clients take their token along."""
    app = application(urls=list, ca_pem=lambda: b"", stats=dict, refusals=dict, fleet="fleet-test", version="0")
    assert not app.router.redirect_slashes


def test_a_webhook_that_answers_byte_by_byte_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte used to start the clock anew: nobody else was told anything, and the broker could not stop."""
    monkeypatch.setattr(webhook, "DEADLINE", 0.2)
    ca, over, said = ThrowawayCA(), threading.Event(), threading.Event()
    files = ca.issue_server("localhost").write(tmp_path)
    (tmp_path / "root.pem").write_bytes(ca.root_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            while not over.wait(0.01):
                connection.sendall(b"H")

    warned: list[str] = []

    def warn(_event: str, **fields: str) -> None:
        warned.append(fields["summary"])
        said.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=drip, args=(listener,))
        server.start()
        hook = webhook.Webhook(warn=warn, pauses=())
        hook.post(f"https://localhost:{listener.getsockname()[1]}/", {}, tmp_path / "root.pem")
        try:
            assert said.wait(5)
            hook.stop()
        finally:
            over.set()
            server.join()
    assert "did not take a document" in warned[0]
