"""The wire between the asyncio client and the data plane, with a data plane that is played.

Knows nothing of networks.
"""

import asyncio
import contextlib
import socket

from sealmq import _engine
from sealmq.client.backlog import Backlog
from sealmq.client.wire import Wire


class Played:
    """A connection whose CONNACK and first message come together; asking for either makes the descriptor silent."""

    def __init__(self):
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._has_come = False
        self._messages = [("t", b"x", 1, False, "")]

    def come(self):
        self._has_come = True
        self._ringer.send(b"\1")

    def fileno(self):
        return self._bell.fileno()

    def _silence(self):
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(8)

    def connack(self, _):
        self._silence()
        return '{"session_present": true}' if self._has_come else None

    def poll(self, most, _):
        self._silence()
        found, self._messages[:most] = self._messages[:most], []
        return found, []

    def disconnect(self, _):
        self._bell.close()
        self._ringer.close()


def test_a_message_that_comes_with_connack_does_not_hide_it(monkeypatch):
    played = Played()

    class Opens:
        open = staticmethod(lambda *_: played)

    monkeypatch.setattr(_engine, "Client", Opens)

    async def main():
        wire = Wire(Backlog(1))
        connecting = asyncio.create_task(wire.connect("{}"))
        await asyncio.sleep(0)
        played.come()
        assert not wire.fetch()  # as somebody does who begins to iterate just now
        await asyncio.wait_for(connecting, 5)
        assert wire.connack["session_present"] is True
        assert wire.fetch()
        assert wire.fetched[0][:2] == ("t", b"x")
        await wire.disconnect()

    asyncio.run(main())
