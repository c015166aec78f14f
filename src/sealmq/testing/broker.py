"""A real broker for tests: in this process, on free loopback ports, with a CA and a data folder that vanish with it.

It refuses to fake anything: the same service as `sealmq up`, only its log goes into memory.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealmq.broker.service import Service
from sealmq.config.settings import load
from sealmq.errors import LocalMisuse, NotSo
from sealmq.pki import operations, psk
from sealmq.pki.operations import DeviceFiles
from sealmq.secretfiles import ensure_private_dir, read_private, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from sealmq.broker.facts import Event, Facts
    from sealmq.broker.handle import Broker
    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder
    from sealmq.testing.ca import ThrowawayCA

HOST = "127.0.0.1"
_ANY_PORT = f"{HOST}:0"


class EphemeralBroker:
    """A context manager; inside the block the broker accepts MQTT 3.1.1 and 5.0 over TLS with client certificates.

    ```
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        client.tls_set(files.ca, files.cert, files.key)
        client.connect(broker.host, broker.port)
        broker.wait_event("connected", device="sensor-1")
    ```
    """

    def __init__(
        self,
        *,
        rules: str | None = None,
        limits: Mapping[str, int] | None = None,
        dangerous: Mapping[str, object] | None = None,
        wss: bool = False,
        psk: bool = False,
        https: bool = False,
        data: Path | None = None,
        ca: ThrowawayCA | None = None,
    ) -> None:
        """`rules` is the text of a rule file; `limits` and `dangerous` are settings of those tables.

        `wss`, `psk` and `https` open those listeners too; `data` keeps the data folder there instead of removing it.
        With `ca`, that one takes the place of the built-in CA: it issues the broker's certificate and those of
        `device`, and whom it certifies is let in; so a test can hold out faulty certificates of a CA that the broker
        trusts.
        """
        self._rules = rules
        self._overrides: dict[str, object] = {
            "listen.mqtts": [_ANY_PORT],
            "listen.wss": _ANY_PORT if wss else "",
            "listen.psk": _ANY_PORT if psk else "",
            "listen.https": _ANY_PORT if https else "",
            **{f"limits.{name}": value for name, value in (limits or {}).items()},
            **{f"dangerous.{name}": value for name, value in (dangerous or {}).items()},
        }
        self._data = data
        self._ca = ca
        self._stack = contextlib.ExitStack()
        self._arrived = threading.Condition()
        self._events: list[Event] = []
        self._log = io.StringIO()

    def __enter__(self) -> EphemeralBroker:
        with contextlib.ExitStack() as stack:
            data = self._data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealmq-"))) / "data"
            if self._rules is not None:
                rules = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealmq-rules-"))) / "rules.toml"
                rules.write_text(self._rules, encoding="utf-8")
                self._overrides["rules.file"] = str(rules)
            if self._ca is not None:
                self._outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealmq-ca-")))
                self._install(self._ca)
                ensure_private_dir(data)
                write_public(data / "fleet", self._ca.fleet.encode())  # the fleet of the certificates, before any other

            def read_settings() -> Settings:
                return load(data / "sealmq.toml", overrides=self._overrides, environ={})

            service = Service(data, read_settings, sinks=[self._note], log_to=self._log)
            self._service = stack.enter_context(service)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def host(self) -> str:
        """The loopback address; the server certificate names it."""
        return HOST

    @property
    def port(self) -> int:
        """The port of MQTT over TLS."""
        return self.port_of("mqtts")

    @property
    def url(self) -> str:
        """`mqtts://HOST:PORT`."""
        return f"mqtts://{self.host}:{self.port}"

    @property
    def broker(self) -> Broker:
        """The handle on the node: stats, sessions, disconnect_device."""
        return self._service.broker

    @property
    def folder(self) -> DataFolder:
        """The data folder, for commands that are to find this broker."""
        return self._service.folder

    @property
    def log_text(self) -> str:
        """What the broker has logged so far."""
        return self._log.getvalue()

    def port_of(self, kind: str) -> int:
        """The port of a listener: `mqtts`, `wss`, `psk`, `plaintext` or `https`.

        Raises `LocalMisuse` when it is not open.
        """
        scheme = {"plaintext": "mqtt", "psk": "mqtts+psk"}.get(kind, kind)
        for url in self._service.urls():
            if url.startswith(f"{scheme}://"):
                return int(url.removeprefix(f"{scheme}://").partition("/")[0].rpartition(":")[2])
        raise LocalMisuse(f"ephemeral broker has no {kind} listener", mend="ask for it when you make the broker")

    def device(self, device_id: str) -> DeviceFiles:
        """The files of a device, which is made when it does not exist."""
        service = self._service
        if self._ca is not None:
            directory = self._outside / "devices" / device_id
            if not directory.exists():
                self._ca.issue_client(device_id).write(directory)
            return DeviceFiles.inside(directory)
        if not any(device.id == device_id for device in service.registry.devices()):
            operations.device_add(service.folder, service.authority, service.registry, id=device_id)
        return operations.device_files(service.folder, device_id)

    def device_psk(self, device_id: str) -> str:
        """The line `identity:hexkey` of a device with a pre-shared key, which is made when it does not exist."""
        service = self._service
        file = service.folder.devices_dir / device_id / psk.FILE
        if not file.exists():
            operations.device_add_psk(service.folder, service.authority, service.registry, id=device_id)
            service.reload()
        return read_private(file).decode("ascii").strip()

    def reload(self, *, rules: str | None = None, ca: ThrowawayCA | None = None) -> None:
        """Reload, with the text of another rule file or with another CA; the broker must have been made with one."""
        if ca is not None:
            if self._ca is None:
                raise LocalMisuse("ephemeral broker was made without ca", mend="pass ca= when you make it")
            self._install(ca)
            self._ca = ca
        if rules is not None:
            if "rules.file" not in self._overrides:
                raise LocalMisuse("ephemeral broker was made without rules", mend="pass rules= when you make it")
            Path(str(self._overrides["rules.file"])).write_text(rules, encoding="utf-8")
        self._service.reload()

    def events(self) -> list[Event]:
        """All events of what has happened so far, oldest first; shapes as in `_engine.pyi`, `Node.poll_events`.

        They are written by another thread than the one that answers peers; this waits for it.
        """
        self.broker.settle()
        with self._arrived:
            return list(self._events)

    def refusals(self) -> list[Event]:
        """The `refused` events so far."""
        return [event for event in self.events() if event["event"] == "refused"]

    def wait_event(self, name: str, timeout: float = 5.0, **match: Any) -> Event:  # noqa: ANN401
        """The first event of that name whose fields equal `match`, waiting up to `timeout` seconds for it.

        Raises `NotSo` with what did arrive.
        """

        def find() -> Event | None:
            for event in self._events:
                if event["event"] == name and all(event.get(key) == value for key, value in match.items()):
                    return event
            return None

        with self._arrived:
            found = self._arrived.wait_for(find, timeout)
        if found is not None:
            return found
        arrived = (
            ", ".join(f"{event['event']} {event.get('cause', '')}".strip() for event in self.events()) or "nothing"
        )
        raise NotSo(f"no event {name!r} with {match} came within {timeout:g} s; {arrived} did")

    def _install(self, ca: ThrowawayCA) -> None:
        server = ca.issue_server()
        for name, pem in (("certificate", server.cert_pem), ("client_ca", ca.client_ca_pem)):
            write_public(self._outside / f"{name}.pem", pem)
        write_private(self._outside / "key.pem", server.key_pem)
        for name in ("certificate", "key", "client_ca"):
            self._overrides[f"tls.{name}"] = str(self._outside / f"{name}.pem")

    def _note(self, facts: Facts) -> None:
        with self._arrived:
            self._events.extend(facts.whole())
            self._arrived.notify_all()
