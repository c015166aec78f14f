"""A client of a crash run whose broker is killed while it joins."""

from __future__ import annotations

import gc
import select
import socket
import struct
import threading

import pytest

from crash.session import Lost, Session
from sealmq.testing import ThrowawayCA
from security import raw_mqtt as raw

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by reset


class _Late:
    """A TLS context that puts TLS on a socket only once it has no peer, or has none any more."""

    def __init__(self, context):
        self._context = context

    def wrap_socket(self, plain, **options):
        ends = select.poll()
        ends.register(plain, 0)
        ends.poll()
        return self._context.wrap_socket(plain, **options)


def test_a_reset_between_tcp_and_tls_leaves_nothing_open(tmp_path, monkeypatch):
    """An open socket that nobody has any more ends the test with a ResourceWarning."""
    files = ThrowawayCA().issue_client("d").write(tmp_path)
    context = raw.client_context(files)
    monkeypatch.setattr(raw, "client_context", lambda _: _Late(context))

    def kill(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        killer = threading.Thread(target=kill, args=(listener,))
        killer.start()
        with pytest.raises(Lost):
            Session("d", files, listener=None).join(listener.getsockname()[1])
        killer.join()
    gc.collect()
