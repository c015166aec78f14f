"""The HTTPS listener and its pages that only read: health, the CA, the CRL, metrics, and what this broker is.

It refuses to know who a device is: `est` does, whose routes are served beside these over the same TLS policy.
"""

from __future__ import annotations

import html
import ipaddress
import logging
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from sealmq.broker import metrics
from sealmq.broker.door import HEAD_BYTES, DoorProtocol, DoorServer, DoorSocket
from sealmq.broker.log import Bridge, Logger
from sealmq.config.address import Address
from sealmq.errors import Environment, LocalMisuse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from sealmq.pki.expiry import Expiring

_START_SECONDS = 10.0
_PEM = "application/x-pem-file"
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]


class Https:
    """An HTTPS listener on its own thread; `start` binds and serves, `stop` ends it."""

    def __init__(self, app: Starlette, *, address: str, context: ssl.SSLContext, logger: Logger) -> None:
        """`address` is `HOST:PORT`; port 0 picks one, and `url` names it after `start`."""
        self._address = Address.parse(address)
        self._socket: DoorSocket | None = None
        self._thread: threading.Thread | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the peer is who connects; a header cannot make it a loopback one
            server_header=False,
            headers=_HEADERS,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http=DoorProtocol,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=2,
        )
        config.load()
        config.ssl = context
        self._server = DoorServer(config)
        for name in ("uvicorn.error", "asyncio"):
            library = logging.getLogger(name)
            library.handlers = [Bridge(logger)]
            library.propagate = False

    @property
    def url(self) -> str:
        """`https://HOST:PORT` with the real port."""
        if self._socket is None:
            raise LocalMisuse("Https.url is known after start")
        return f"https://{Address(self._address.host, self._socket.getsockname()[1])}"

    def start(self) -> None:
        """Bind, and return once connections are served. Raises `Environment` or `ConfigError` when it cannot listen."""
        self._socket = DoorSocket.bind_to(self._address)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="sealmq-https", daemon=True
        )
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_SECONDS / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.01)
        raise Environment(f"HTTPS listener on {self._address} did not start", code="https-start")

    def stop(self) -> None:
        """Finish what is being answered, for two seconds at most, and close. Idempotent."""
        self._server.end()
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()


def application(
    *,
    urls: Callable[[], Sequence[str]],
    ca_pem: Callable[[], bytes | None],
    stats: Callable[[], dict[str, Any]],
    refusals: Callable[[], dict[str, int]],
    fleet: str,
    version: str,
    crl: Callable[[], bytes | None] = lambda: None,
    ending: Callable[[], Sequence[Expiring]] = tuple,
    more: Sequence[Route] = (),
) -> Starlette:
    """The pages, and the routes in `more`.

    `ca_pem` gives None when the broker shows a certificate that is not of the built-in CA, `crl` when there is none.
    `ending` is what ends, for the metrics.
    """
    collectors = [
        metrics.NodeCollector(stats, refusals),
        metrics.StoreCollector(stats),
        metrics.ExpiryCollector(ending),
    ]

    def index(_request: Request) -> Response:
        return HTMLResponse(_page(urls(), fleet, version))

    def healthz(_request: Request) -> Response:
        if not stats():  # a node that does not answer is not healthy
            return PlainTextResponse("the data plane does not answer\n", status_code=503)
        return PlainTextResponse("ok\n")

    def ca(_request: Request) -> Response:
        pem = ca_pem()
        if pem is None:
            return PlainTextResponse("the certificate of this broker is not of its built-in CA\n", status_code=404)
        return Response(pem, media_type=_PEM)

    def revoked(_request: Request) -> Response:
        pem = crl()
        if pem is None:
            return PlainTextResponse("no revocation list has been written yet\n", status_code=404)
        return Response(pem, media_type=_PEM)

    def figures(request: Request) -> Response:
        if not _from_here(request):
            return PlainTextResponse("metrics are for this machine only\n", status_code=403)
        return Response(metrics.exposition(*collectors), media_type=metrics.CONTENT_TYPE)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/ca.pem", ca),
            Route("/crl", revoked),
            Route("/metrics", figures),
            *more,
        ]
    )
    app.router.redirect_slashes = False  # it would send the client, and a token, to whatever host its request names
    return app


def _from_here(request: Request) -> bool:
    if request.client is None:
        return False
    try:
        peer = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = getattr(peer, "ipv4_mapped", None)
    return bool((mapped or peer).is_loopback)


def _page(urls: Sequence[str], fleet: str, version: str) -> str:
    items = "\n".join(f"<li><code>{html.escape(url)}</code></li>" for url in urls)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>sealmq {html.escape(version)}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}</style></head>
<body><h1>sealmq {html.escape(version)}</h1>
<p>An MQTT broker for the fleet <code>{html.escape(fleet)}</code>. Devices connect with a certificate to:</p>
<ul>
{items}
</ul>
<p><a href="/ca.pem">The CA certificate</a> that devices verify this broker with · <a href="/healthz">health</a> ·
<a href="/metrics">metrics</a> (from this machine only)</p></body></html>
"""
