"""Handing JSON documents to a URL of the operator's: over our TLS policy, in order, with a few tries, in no one's way.

It refuses to know what is in them. A thread of its own waits; when the line is full, what is new is left out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sealmq.errors import SealmqError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT = 10.0
"""Seconds for connecting, and again for each silence of the other side."""

DEADLINE = 30.0
"""Seconds for one try from connecting to the status; a server that answers byte by byte gets no more."""

PAUSES = (2.0, 15.0, 120.0)
"""Seconds between one try and the next; after the last one the document is given up."""

WAITING = 100
"""Documents in line."""

_STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Letter:
    url: str
    document: dict[str, Any]
    ca: Path | None


class Webhook:
    """`post` at any time; `stop` ends it, whatever is in line."""

    def __init__(self, *, warn: Callable[..., None], pauses: tuple[float, ...] = PAUSES) -> None:
        """`warn` is a logger's `warning`; failures are told there, without the document."""
        self._warn = warn
        self._pauses = pauses
        self._line: queue.Queue[_Letter | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def post(self, url: str, document: dict[str, Any], ca: Path | None) -> None:
        """POST `document` to `url`, verified against the CA file, the system's CAs when None; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sealmq-webhook", daemon=True)
            self._thread.start()
        try:
            self._line.put_nowait(_Letter(url, document, ca))
        except queue.Full:
            self._warn("webhook", summary=f"{WAITING} documents wait for {_host(url)}; this one is left out")

    def stop(self) -> None:
        """End: the try under way gets two seconds, nothing is tried again. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            while self._thread.is_alive():
                try:
                    self._line.put_nowait(None)
                except queue.Full:
                    self._line.get_nowait()
                    continue
                break
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            letter = self._line.get()
            if letter is not None:
                self._deliver(letter)

    def _deliver(self, letter: _Letter) -> None:
        for pause in (*self._pauses, None):
            fault = _send(letter)
            if not fault:
                return
            if pause is None:
                summary = f"webhook at {_host(letter.url)} did not take a document: {fault}"
                self._warn("webhook", summary=summary, mend="check expiry.webhook and what listens there")
            elif self._stopping.wait(pause):
                return


def _send(letter: _Letter) -> str:
    """Why it was not taken, empty when it was. No redirect is followed: the operator named the place."""
    from sealmq.tls.contexts import client_context

    url = urlsplit(letter.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    body = json.dumps(letter.document).encode()
    try:
        context = client_context(ca=letter.ca)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port or 443, timeout=TIMEOUT, context=context)
        cut = threading.Timer(DEADLINE, _cut, [connection])
        cut.daemon = True
        cut.start()
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", "User-Agent": "sealmq"})
            answer = connection.getresponse()
        finally:
            cut.cancel()
            connection.close()
    except SealmqError as error:
        return error.message
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} {' '.join(str(error).split())}".strip()
    return "" if 200 <= answer.status < 300 else f"status {answer.status}"


def _cut(connection: http.client.HTTPSConnection) -> None:
    """End what is being read on it; whoever reads gets an error."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _host(url: str) -> str:
    """The part of a URL that may stand in a log: a path or query of a webhook is often a secret."""
    return urlsplit(url).hostname or "an unknown host"
