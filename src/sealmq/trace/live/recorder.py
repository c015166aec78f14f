"""Makes a recording: resolves, connects, shakes hands, talks MQTT where asked, and writes down all of it.

It refuses to interpret what it sees; whatever the peer or the network does ends in an event, never in an exception.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealmq.errors import UsageError
from sealmq.trace import mqtt
from sealmq.trace.live import clockprobe, cputime, keyproof, probe
from sealmq.trace.live.conversation import Conversation
from sealmq.trace.live.upgrade import WebSocket
from sealmq.trace.live.wire import Log, Stopped, Wire
from sealmq.trace.recording import Conditions, Event, Recording
from sealmq.trace.request import Request, load

if TYPE_CHECKING:
    from sealmq.trace.live.conversation import Channel
    from sealmq.trace.live.endpoint import Library
    from sealmq.trace.request import Bounds, Loaded
    from sealmq.trace.target import Target

_RTT_OFFSET = 68  # bytes into struct tcp_info of linux/tcp.h: tcpi_rtt, microseconds


def run(request: Request) -> Recording:
    """Record one connection, or with `request.resume` two. Raises `ConfigError` and `UsageError` for `request`
    alone."""
    loaded = load(request)
    if request.target.speaks_mqtt:
        mqtt.load()
    conditions = _conditions(request, loaded)
    connections: list[tuple[Event, ...]] = []
    session: object | None = None
    with loaded.stack as library:
        for _ in range(2 if request.resume else 1):
            log = Log()
            before = cputime.of_process(request.pid) if request.pid is not None else 0.0
            with contextlib.suppress(Stopped):
                session = _connection(request, conditions, library, log, session)
            if request.pid is not None:
                with contextlib.suppress(UsageError):  # it was there a moment ago: that it ended is in the events
                    log.events[-1].facts["server_cpu_ms"] = round(cputime.of_process(request.pid) - before, 3)
            if request.identity.psk is not None:
                keyproof.add(log.events, request.identity.psk.key)
            probe.ask(log.events)
            clockprobe.ask(log.events, request.target)
            connections.append(tuple(log.events))
            if session is None:
                break
    return Recording(conditions, tuple(connections))


def _conditions(request: Request, loaded: Loaded) -> Conditions:
    # `<id>:<anything>` is what a sealmq broker lets a device call itself besides `<id>`
    client_id = request.client_id or (f"{loaded.device}:trace" if loaded.device else "sealmq-trace")
    topic = request.topic or (f"devices/{loaded.device}/trace" if loaded.device else f"{client_id}/trace")
    return Conditions(
        url=str(request.target),
        server_name=request.verified_name,
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
        tls=request.tls,
        legacy=request.legacy,
        ciphers=request.ciphers,
        mqtt=request.mqtt,
        client_id=client_id,
        topic=topic,
        anchors=loaded.anchors,
        identity=loaded.identity,
        times=loaded.times,
        post_quantum=request.post_quantum,
    )


def _connection(
    request: Request, conditions: Conditions, library: Library, log: Log, session: object | None
) -> object | None:
    """Run one connection to its end; what a next one can resume. Raises `Stopped`."""
    bounds = request.bounds
    endpoint = library.endpoint(conditions.server_name, session)
    log.note("phase", name="resolve")
    addresses = _resolve(request.target, log, bounds)
    log.note("phase", name="connect")
    with _connect(addresses, log, bounds) as sock:
        wire = Wire(sock, endpoint, log, bounds)
        log.note("phase", name="handshake")
        wire.handshake()
        if request.target.scheme == "wss":
            _talk_in_frames(request, conditions, wire, log)
        elif request.target.speaks_mqtt:
            _talk(request, conditions, wire, log)
        else:
            log.note("phase", name="channel")
            wire.settle()
        log.note("phase", name="close")
        kept = endpoint.session
        wire.close()
        return kept


def _talk(request: Request, conditions: Conditions, channel: Channel, log: Log) -> None:
    log.note("phase", name="mqtt")
    talk = Conversation(channel, request.mqtt, request.bounds)
    talk.hold(client_id=conditions.client_id, topic=conditions.topic)


def _talk_in_frames(request: Request, conditions: Conditions, wire: Wire, log: Log) -> None:
    log.note("phase", name="upgrade")
    channel = WebSocket(wire, request.bounds)
    if channel.ask(request.target):
        _talk(request, conditions, channel, log)
        channel.close()


def _resolve(target: Target, log: Log, bounds: Bounds) -> list[tuple[Any, ...]]:
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    if target.is_address:
        ask()
    asking = threading.Thread(target=ask, daemon=True)  # the resolver takes no deadline of its own
    if not found:
        asking.start()
        asking.join(bounds.connect)
    if not found:
        log.end("dns", errno=0, seconds=bounds.connect)
    if isinstance(found[0], Exception):
        log.end("dns", errno=getattr(found[0], "errno", 0) or 0)
    addresses: list[tuple[Any, ...]] = found[0]
    if not target.is_address:
        log.note("resolved", addresses=list(dict.fromkeys(str(address[4][0]) for address in addresses)))
    return addresses


def _connect(addresses: list[tuple[Any, ...]], log: Log, bounds: Bounds) -> socket.socket:  # noqa: RET503 - log.end stops
    """The first address that answers, in the order of the resolver."""
    deadline = time.monotonic() + bounds.connect
    failed: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, kind, protocol, _, address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            failed = TimeoutError()
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failed = error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        log.note("connected", address=_shown(address), local=_shown(sock.getsockname()), **_round_trip(sock))
        return sock
    address = _shown(addresses[-1][4]) if addresses else ""
    how = "unreachable"
    if isinstance(failed, TimeoutError):
        how = "timeout"
    elif isinstance(failed, ConnectionRefusedError):
        how = "refused"
    elif isinstance(failed, ConnectionResetError):
        how = "reset"
    log.end(how, errno=failed.errno or 0, address=address, seconds=bounds.connect)


def _shown(address: tuple[Any, ...]) -> str:
    host = str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def _round_trip(sock: socket.socket) -> dict[str, Any]:
    """The kernel's measure of the round trip, where it has one."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return {}
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, _RTT_OFFSET + 4)
        return {"rtt_us": struct.unpack_from("=I", info, _RTT_OFFSET)[0]}
    except (OSError, struct.error):
        return {}
