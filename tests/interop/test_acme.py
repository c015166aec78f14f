"""ACME against pebble: both challenges, renewal, refused nonces and challenges, a broker that comes up all the same.

The server's own surroundings run on loopback: its DNS says 127.0.0.1 to everything.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import ssl
import sys
import threading
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from programs import Program, sealmq
from sealmq.broker import log, soundness
from sealmq.broker.publicname import PublicName
from sealmq.config.address import Address
from sealmq.config.settings import load
from sealmq.datafolder import DataFolder
from sealmq.errors import Environment
from sealmq.pki import signing
from sealmq.pki.acme import AcmeServer, DnsHook, HttpListener, obtain
from sealmq.pki.acme.server import Refused
from sealmq.testing import ThrowawayCA
from sealmq.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ["broker.test.example", "mqtt.test.example"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def until_it_listens(port: int) -> None:
    """pebble says that it is available a moment before it is."""
    pause = threading.Event()
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            pause.wait(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")


@dataclass
class Pebble:
    """A running ACME server; `http` is where it looks for http-01, `dns_control` sets what its DNS answers."""

    directory: str
    ca_file: Path
    http: int
    management: str
    dns_control: str
    server: Program

    def root_pem(self) -> bytes:
        """The root of what it issues."""
        context = ssl.create_default_context(cafile=self.ca_file)
        with urllib.request.urlopen(f"{self.management}/roots/0", context=context, timeout=10) as answer:  # noqa: S310
            return answer.read()

    def log(self) -> str:
        """What it has printed, as far as it is about orders."""
        lines = (self.server.out + self.server.err).splitlines()
        told = [line for line in lines if re.search(r"order|authz|challenge|nonce|Issued", line, re.IGNORECASE)]
        return "\n".join(told)


@pytest.fixture(scope="module")
def pebble(tmp_path_factory) -> Iterator[Pebble]:
    folder = tmp_path_factory.mktemp("pebble")
    files = ThrowawayCA().issue_server("localhost", "127.0.0.1").write(folder / "own")
    root = folder / "own-root.pem"
    root.write_bytes(files.ca.read_bytes())
    acme, management, http, tls, dns, control = (free_port() for _ in range(6))
    config = {
        "listenAddress": f"127.0.0.1:{acme}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(files.cert),
        "privateKey": str(files.key),
        "httpPort": http,
        "tlsPort": tls,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    off = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1")
    places = ("-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{control}")
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20", "PEBBLE_AUTHZREUSE": "0"}
    with ExitStack() as stack:
        zone = stack.enter_context(Program("pebble-challtestsrv", *off, *places))
        zone.expect("Starting management server")
        words = ("-config", folder / "pebble.json", "-dnsserver", f"127.0.0.1:{dns}", "-strict")
        server = stack.enter_context(Program("pebble", *words, env=environment))
        server.expect("ACME directory available")
        until_it_listens(acme)
        yield Pebble(
            f"https://localhost:{acme}/dir",
            root,
            http,
            f"https://localhost:{management}",
            f"http://127.0.0.1:{control}",
            server,
        )


@pytest.fixture
def server(pebble) -> AcmeServer:
    return AcmeServer(pebble.directory, signing.new_key(), "ops@test.example", client_context(ca=pebble.ca_file))


def leaf_of(chain_pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain_pem)[0]


def names_of(chain_pem: bytes) -> list[str]:
    return sorted(soundness.names(leaf_of(chain_pem)))


# --- orders --------------------------------------------------------------------------------------------------------


def test_http_01_with_several_names_and_refused_nonces(pebble, server):
    """One request in five has its nonce refused; each is tried again with the one that came back."""
    found = obtain(server, NAMES, HttpListener(Address("127.0.0.1", pebble.http)))
    assert names_of(found.chain_pem) == sorted(NAMES)
    assert found.chain_pem.count(b"BEGIN CERTIFICATE") >= 2
    again = obtain(server, NAMES, HttpListener(Address("127.0.0.1", pebble.http)))
    assert leaf_of(again.chain_pem).public_key() != leaf_of(found.chain_pem).public_key()
    assert "PRIVATE" not in repr(found)
    print("\n" + "\n".join(pebble.log().splitlines()[-25:]))


HOOK = """\
import json, sys, urllib.request
action, name, value = sys.argv[2:]
body = {"host": name + ".", "value": value}
place = sys.argv[1] + ("/set-txt" if action == "add" else "/clear-txt")
urllib.request.urlopen(place, json.dumps(body).encode(), timeout=10).read()
print(action, name, file=open(sys.argv[0] + ".log", "a"))
"""


@pytest.fixture
def hook(tmp_path) -> Path:
    path = tmp_path / "hook.py"
    path.write_text(HOOK)
    return path


def test_dns_01_by_a_hook_with_a_wildcard(pebble, server, hook):
    command = f"{sys.executable} '{hook}' {pebble.dns_control}"
    found = obtain(server, ["*.test.example", "test.example"], DnsHook(command))
    assert names_of(found.chain_pem) == ["*.test.example", "test.example"]
    calls = hook.with_name("hook.py.log").read_text().splitlines()
    assert sorted(calls) == ["add _acme-challenge.test.example"] * 2 + ["remove _acme-challenge.test.example"] * 2


def test_a_hook_that_fails_is_named_with_what_it_said(server, tmp_path):
    script = tmp_path / "hook.sh"
    script.write_text("#!/bin/sh\necho no credentials >&2\n[ $1 = remove ]\n")
    script.chmod(0o755)
    with pytest.raises(Environment) as caught:
        obtain(server, ["test.example"], DnsHook(str(script)))
    assert caught.value.code == "acme-hook"
    assert "no credentials" in caught.value.message


def test_a_challenge_that_fails_says_why(server):
    with pytest.raises(Refused) as caught:
        obtain(server, NAMES[:1], HttpListener(Address("127.0.0.1", 0)))  # not the port that the server asks
    assert caught.value.code in ("acme-connection", "acme-unauthorized")
    assert "proof of control of broker.test.example" in caught.value.message
    assert "tls.acme.http_address" in caught.value.mend


def test_a_name_that_may_not_be_certified(server):
    with pytest.raises(Refused) as caught:
        obtain(server, ["192.0.2.1"], HttpListener(Address("127.0.0.1", 0)))
    assert caught.value.code.startswith("acme-")


def test_a_server_that_is_not_believed(pebble, tmp_path):
    (tmp_path / "other.pem").write_bytes(ThrowawayCA().root_pem)
    stranger = AcmeServer(pebble.directory, signing.new_key(), "", client_context(ca=tmp_path / "other.pem"))
    with pytest.raises(Environment) as caught:
        obtain(stranger, NAMES, HttpListener(Address("127.0.0.1", 0)))
    assert caught.value.code == "acme-unreachable"


# --- the public name of a broker -----------------------------------------------------------------------------------


def config(folder: Path, pebble: Pebble, **more: object) -> Path:
    wanted = {
        "names": NAMES,
        "directory": pebble.directory,
        "ca_file": str(pebble.ca_file),
        "email": "ops@test.example",
        "http_address": f"127.0.0.1:{pebble.http}",
        **more,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in wanted.items()]
    path = folder / "acme.toml"
    path.write_text("\n".join(["[tls.acme]", *lines]) + "\n")
    return path


@pytest.fixture
def public(pebble, tmp_path):
    written, folder = io.StringIO(), DataFolder.create_or_open(tmp_path / "data")
    settings = load(tmp_path / "none", file=config(tmp_path, pebble), environ={})
    made = PublicName(folder, lambda: settings, log.make(level="info", form="text", stream=written))
    made.settings, made.written, made.folder = settings, written, folder.path / "acme"
    return made


def test_the_first_certificate_and_its_renewal(public):
    now = signing.utc_now()
    changes = []
    public.on_change = lambda: changes.append(1)
    assert public.identity(public.settings) is None
    public.tick(now)
    first = public.identity(public.settings)
    assert names_of(first.chain_pem) == sorted(NAMES)
    assert {path.name: path.stat().st_mode & 0o777 for path in public.folder.iterdir()} == {
        "account.key": 0o600,
        "public.pem": 0o600,
        "attempts.json": 0o600,
    }
    account = (public.folder / "account.key").read_bytes()
    leaf = leaf_of(first.chain_pem)
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    public.tick(leaf.not_valid_before_utc + life * 0.66)
    assert public.identity(public.settings) == first
    public.tick(leaf.not_valid_before_utc + life * 0.67)
    second = public.identity(public.settings)
    assert leaf_of(second.chain_pem).serial_number != leaf.serial_number
    assert second.key_pem != first.key_pem
    assert (public.folder / "account.key").read_bytes() == account
    assert len(changes) == 2
    assert "public certificate for broker.test.example, mqtt.test.example is here" in public.written.getvalue()


def test_a_refusal_waits_for_its_time_and_ends_in_a_certificate(pebble, public, tmp_path):
    now = signing.utc_now()
    public.settings = load(tmp_path / "none", file=config(tmp_path, pebble, http_address="127.0.0.1:0"), environ={})
    public._settings = lambda: public.settings
    public.tick(now)
    assert public.identity(public.settings) is None
    assert "attempt 1, the next one is at" in public.written.getvalue()
    public.tick(now + timedelta(seconds=40))
    assert "attempt 2" not in public.written.getvalue()
    public.tick(now + timedelta(seconds=80))
    assert "attempt 2" in public.written.getvalue()
    public.settings = load(tmp_path / "none", file=config(tmp_path, pebble), environ={})
    public.tick(now + timedelta(seconds=81))  # other settings do not wait for what failed with the old ones
    assert public.identity(public.settings) is not None


def shown(port: int, name: str, root: Path) -> bool:
    """Whether the broker shows a certificate for `name` that leads to `root`."""
    context = ssl.create_default_context(cafile=root)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            return tls.getpeercert() is not None
    except ssl.SSLCertVerificationError:
        return False


def test_a_broker_gets_its_public_certificate_and_shows_it_by_name(pebble, tmp_path):
    (tmp_path / "public-root.pem").write_bytes(pebble.root_pem())
    listen = ("--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0")
    data, settings = tmp_path / "data", config(tmp_path, pebble)
    with sealmq("--data", data, "up", *listen, "--config", settings) as up:
        ports = [int(up.expect(r"^ready \w+://.*:(\d+)")[1]) for _ in range(2)]
        up.expect("public certificate for")
        up.expect("renewed: no session was dropped")
        for port in ports:
            assert shown(port, NAMES[0], tmp_path / "public-root.pem")
            assert not shown(port, "localhost", tmp_path / "public-root.pem")
            assert shown(port, "localhost", data / "ca" / "root.pem")
            assert not shown(port, NAMES[0], data / "ca" / "root.pem")
    with sealmq("--data", data, "up", *listen, "--config", settings) as up:  # it is there from the start
        up.expect(r"shown: .*\(public certificate \(ACME\)\)")
        port = int(up.expect(r"^ready mqtts://.*:(\d+)")[1])
        assert shown(port, NAMES[1], tmp_path / "public-root.pem")


def test_without_its_acme_server_a_broker_comes_up_with_the_built_in_ca(pebble, tmp_path):
    settings = config(tmp_path, pebble, directory=f"https://127.0.0.1:{free_port()}/dir")
    data = tmp_path / "data"
    with sealmq("--data", data, "up", "--mqtts", "127.0.0.1:0", "--https", "off", "--config", settings) as up:
        port = int(up.expect(r"^ready mqtts://.*:(\d+)")[1])
        up.expect("warning acme: ACME server 127.0.0.1 cannot be reached")
        assert shown(port, NAMES[0], data / "ca" / "root.pem")
        assert up.poll() is None
