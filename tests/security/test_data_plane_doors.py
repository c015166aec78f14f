"""Before a session begins: pages that may open a WebSocket, listeners without TLS, the length of a CONNECT."""

from __future__ import annotations

import socket

import pytest
import raw_mqtt
from data_plane import BareNode
from raw_mqtt import CONNACK, V5, V311, Wire, client_context

PAGES = ["https://panel.example", "http://localhost:3000"]


def upgraded(node, origin):
    """The status line of the answer to a page of that origin that asks for a WebSocket."""
    request = (
        f"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n"
        f"Origin: {origin}\r\n\r\n"
    )
    context = client_context(node.device("a"))
    with (
        socket.create_connection(("127.0.0.1", node.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(request.encode())
        return wrapped.recv(65536).split(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [
        ("https://panel.example", True),
        ("HTTPS://PANEL.EXAMPLE", True),
        ("http://localhost:3000", True),
        ("https://127.0.0.1:8443", True),  # the broker's own host
        ("http://panel.example", False),
        ("https://panel.example:444", False),
        ("https://panel.example.evil.example", False),
        ("null", False),
    ],
)
def test_origins(tmp_path, origin, is_welcome):
    with BareNode(tmp_path, listeners=[{"kind": "wss", "address": "127.0.0.1:0"}], origins=PAGES) as node:
        status = upgraded(node, origin)
        assert status.startswith("HTTP/1.1 101" if is_welcome else "HTTP/1.1 403"), status
        if not is_welcome:
            node.event("refused", cause="websocket-origin")


def test_a_reload_changes_the_origins(tmp_path):
    with BareNode(tmp_path, listeners=[{"kind": "wss", "address": "127.0.0.1:0"}]) as node:
        assert upgraded(node, PAGES[0]).startswith("HTTP/1.1 403")
        node.reload(origins=PAGES)
        assert upgraded(node, PAGES[0]).startswith("HTTP/1.1 101")


def test_a_listener_without_tls_speaks_of_none(tmp_path):
    plain = {"listeners": [{"kind": "plaintext", "address": "127.0.0.1:0"}], "dangerous": {"anonymous": True}}
    with BareNode(tmp_path, **plain, limits={"connect_timeout_ms": 100}) as node:
        socket.create_connection(("127.0.0.1", node.port), 10).close()
        with socket.create_connection(("127.0.0.1", node.port), 10) as silent:
            assert silent.recv(1) == b""
        for cause in ("closed-before-connect", "connect-stalled"):
            record = node.event("refused", cause=cause)
            assert "TLS" not in record["summary"] + record["mend"]
            assert "secure" not in record["summary"]


@pytest.mark.parametrize(("version", "code"), [(V311, 0), (V5, None)])
def test_a_connect_whose_length_is_padded(tmp_path, version, code):
    """MQTT 5.0 forbids it [MQTT-1.5.5-1]; 3.1.1 has no such clause, and modems that always send four bytes."""
    whole = raw_mqtt.connect("a", version=version)
    padded = whole[:1] + bytes([whole[1] | 0x80, 0x80, 0x80, 0x00]) + whole[2:]
    with BareNode(tmp_path) as node, Wire.open(node.port, node.device("a")) as wire:
        wire.send(padded)
        if code is None:
            assert wire.rest() == []
            assert node.event("refused", cause="bad-remaining-length")["stage"] == "connect"
        else:
            answer = wire.packet()
            assert (answer.kind, answer.body[1]) == (CONNACK, code)
