"""Owns the figures of the CA: certificates per second, in the process and over HTTPS, and how long a revocation takes.

Refuses to judge: it prints what came out. Every certificate is on disk (SQLite, synchronous=FULL) before it counts.

usage: .venv/bin/python -m bench.issuance [--count 500] [--clients 4] [--sessions 1000]
"""

import argparse
import http.client
import io
import json
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography import x509

from sealmq.broker import control
from sealmq.broker.service import Service
from sealmq.client.connection import Connection, Identity
from sealmq.client.target import Target
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.pki import enrolment, requests, signing
from sealmq.pki.authority import Authority
from sealmq.pki.operations import device_add, device_token
from sealmq.pki.registry import Registry


def per_second(count: int, work: Callable[[int], object]) -> float:
    """How often `work` is done in a second, one after the other."""
    began = time.perf_counter()
    for number in range(count):
        work(number)
    return count / (time.perf_counter() - began)


def new_request() -> bytes:
    """A request for a key of its own; made beforehand, since that is the device's work."""
    return requests.build(signing.new_key(), subject=x509.Name([]), names=[])


def in_process(data: Path, count: int) -> dict[str, float]:
    """Signing alone, with the registry, and with the files of a bundle."""
    folder = DataFolder.create_or_open(data)
    authority = Authority.open_or_create(folder)
    found = {"sign": per_second(count, lambda _: authority.issue_device("sensor"))}
    asked = [new_request() for _ in range(count)]
    with Registry.open(folder) as registry:
        tokens = [device_token(folder, authority, registry, id=f"t-{n}", new=True)["token"] for n in range(count)]

        def enrol(number: int) -> object:
            now = signing.utc_now()
            return enrolment.by_token(authority, registry, token=tokens[number], request=asked[number], now=now)

        found["enrol"] = per_second(count, enrol)
        found["device add"] = per_second(count, lambda n: device_add(folder, authority, registry, id=f"b-{n}"))
    return found


def over_https(service: Service, count: int, clients: int) -> float:
    """Enrolments with a token by so many clients at once, each request a TLS connection of its own."""
    three = service.folder, service.authority, service.registry
    asked = [(device_token(*three, id=f"h-{n}", new=True)["token"], new_request()) for n in range(count)]
    host, port = service.urls()[-1].removeprefix("https://").split(":")
    context = ssl.create_default_context(cadata=service.authority.server_ca_pem().decode())

    def enrol(one: tuple[str, bytes]) -> int:
        connection = http.client.HTTPSConnection(host, int(port), context=context)
        connection.request("POST", "/enrol", body=one[1], headers={"Authorization": f"Bearer {one[0]}"})
        status = connection.getresponse().status
        connection.close()
        return status

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        statuses = list(pool.map(enrol, asked))
    took = time.perf_counter() - began
    assert statuses == [200] * count
    return count / took


def revocation(service: Service, sessions: int) -> dict[str, object]:
    """A device with so many live sessions is revoked: how many were closed, in how many milliseconds."""
    made = device_add(service.folder, service.authority, service.registry, id="crowd")
    files = {name: Path(path) for name, path in made["files"].items()}
    identity = Identity.read(ca=files["ca"], certificate=files["cert"], key=files["key"])
    target = Target.parse(service.urls()[0])
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda n: Connection.open(target, identity, client_id=f"crowd:{n}"), range(sessions)))
    assert len(held) == sessions
    found = control.call(service.folder, "device-revoke", {"id": "crowd"})
    return {"closed": found["sessions_closed"], "ms": found["milliseconds"]}


def main() -> None:
    """Run and print, one JSON object per line."""
    options = argparse.ArgumentParser(description="figures of the CA")
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--sessions", type=int, default=1000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps({"cpus": os.cpu_count(), "per_second": in_process(Path(place) / "a", given.count)}))
        data = Path(place) / "b"
        overrides = {"listen.mqtts": ["127.0.0.1:0"], "listen.https": "127.0.0.1:0", "log.level": "error"}
        with Service(data, lambda: load(data / "sealmq.toml", overrides=overrides), log_to=io.StringIO()) as service:
            rate = over_https(service, given.count, given.clients)
            print(json.dumps({"https_per_second": rate, "clients": given.clients}))
            print(json.dumps({"revocation": revocation(service, given.sessions)}))


if __name__ == "__main__":
    main()
