"""Under which names a broker is reached and verified: IPv4 and IPv6 addresses, localhost, the machine's own name."""

from __future__ import annotations

import socket

import pytest

from programs import finished, run_sealmq, sealmq
from sealmq.datafolder import DataFolder
from sealmq.pki.operations import device_files


def ipv6_is_there() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def own_name() -> tuple[str, str] | None:
    """The machine's host name and its address, when that is one of the loopback network."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        return None
    return (socket.gethostname(), address) if address.startswith("127.") else None


@pytest.fixture
def up(tmp_path):
    """`up(LISTEN)` starts `sealmq up` and gives its port and the options that name the data folder."""
    running = []

    def start(listen: str) -> int:
        program = sealmq("--data", tmp_path / "data", "up", "--mqtts", listen, "--https", "off")
        running.append(program)
        return int(program.expect(r"^ready mqtts://.*:(\d+)$").group(1))

    yield start
    for program in running:
        program.close()


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def both_clients(data, host, port):
    """A message with mosquitto_pub and one with `sealmq pub`, both verifying the broker under `host`."""
    assert run_sealmq("--data", data, "device", "add", "sensor-1").returncode == 0
    files = device_files(DataFolder.open(data), "sensor-1")
    bare = host.strip("[]")
    who = ["--cafile", files.ca, "--cert", files.cert, "--key", files.key]
    stock = finished("mosquitto_pub", "-h", bare, "-p", port, *who, "-t", "devices/sensor-1/x", "-m", "m", "-q", 1)
    own = run_sealmq(
        "--data",
        data,
        "pub",
        f"mqtts://{host}:{port}",
        "-t",
        "devices/sensor-1/x",
        "-m",
        "m",
        "-q",
        1,
        "--as",
        "sensor-1",
    )
    return stock, own


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_ipv4(up, data, host):
    stock, own = both_clients(data, host, up("127.0.0.1:0"))
    assert (stock.returncode, stock.stderr) == (0, "")
    assert (own.returncode, own.stderr) == (0, "")


@pytest.mark.skipif(not ipv6_is_there(), reason="this machine has no IPv6 loopback")
def test_ipv6(up, data):
    stock, own = both_clients(data, "[::1]", up("[::1]:0"))
    assert (stock.returncode, stock.stderr) == (0, "")
    assert (own.returncode, own.stderr) == (0, "")


@pytest.mark.skipif(own_name() is None, reason="the host name of this machine is not on the loopback network")
def test_the_machines_own_name(up, data):
    name, address = own_name()
    stock, own = both_clients(data, name, up(f"{address}:0"))
    assert (stock.returncode, stock.stderr) == (0, "")
    assert (own.returncode, own.stderr) == (0, "")
