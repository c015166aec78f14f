"""Names that may stand in certificates. Knows nothing of certificates."""

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from sealmq.errors import UsageError
from sealmq.pki.names import check_device_id, check_host, device_uri, machine_hosts
from sealmq.pki.profiles import DEVICE_PROFILES, device_profile


@pytest.mark.parametrize("good", ["a", "sensor-1", "A_b-9", "-", "0" * 64])
def test_device_ids(good):
    assert check_device_id(good) == good


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "it is empty"),
        ("a" * 65, "65 characters"),
        ("plant.a", "'.'"),
        ("a/b", "'/'"),
        ("a+", "'+'"),
        ("#", "'#'"),
        ("$SYS", "'$'"),
        ("a:b", "':'"),
        ("a b", "' '"),
        ("a\n", r"'\n'"),
        ("../../etc", "'.'"),
        ("gerät", "'ä'"),
        ("٣", "'٣'"),
        ("a\0", r"'\x00'"),
    ],
)
def test_impossible_device_ids_say_why(bad, reason):
    with pytest.raises(UsageError) as caught:
        check_device_id(bad)
    assert (caught.value.code, caught.value.exit_status) == ("device-id-invalid", 2)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def test_device_uri():
    assert device_uri("fleet-7f3a9c", "sensor-1") == "spiffe://fleet-7f3a9c/device/sensor-1"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("Broker.Example", "broker.example"),
        ("broker.example.", "broker.example"),
        ("*.example", "*.example"),
        ("edge_box", "edge_box"),
        ("192.0.2.7", IPv4Address("192.0.2.7")),
        ("[2001:db8::1]", IPv6Address("2001:db8::1")),
        (IPv6Address("::1"), IPv6Address("::1")),
    ],
)
def test_hosts(given, found):
    assert check_host(given) == found


@pytest.mark.parametrize("bad", ["", ".", "a..b", "-a", "a-", "a/b", "a:1", "bröker", "1.2.3", "a" * 64, "*", "a.*.b"])
def test_impossible_hosts(bad):
    with pytest.raises(UsageError) as caught:
        check_host(bad)
    assert caught.value.code == "host-name-invalid"


def test_this_machine_is_called_localhost_first_and_each_name_once(monkeypatch):
    hosts = machine_hosts()
    assert hosts[:3] == ["localhost", IPv4Address("127.0.0.1"), IPv6Address("::1")]
    assert len(hosts) == len(set(hosts))
    assert not any(not isinstance(host, str) and host.is_link_local for host in hosts)
    monkeypatch.setattr(socket, "gethostname", lambda: "no certificate can carry this")
    assert "no certificate can carry this" not in machine_hosts()


def test_profiles():
    assert list(DEVICE_PROFILES) == ["default", "short", "sleepy"]
    with pytest.raises(UsageError) as caught:
        device_profile("forever")
    assert "default, short, sleepy" in caught.value.mend
