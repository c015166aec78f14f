"""Addresses as people write them."""

import pytest

from sealmq.config.address import Address, BadValue


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8883", "127.0.0.1", 8883),
        ("[::1]:0", "::1", 0),
        ("localhost:65535", "localhost", 65535),
        ("broker-1.example.org:8883", "broker-1.example.org", 8883),
    ],
)
def test_whole_addresses(text, host, port):
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8883", "no port"),
        ("localhost", "no port"),
        (":8883", "no host"),
        ("127.0.0.1:65536", "port 65536"),
        ("127.0.0.1:http", "no port"),
        ("::1:8883", "without brackets"),
        ("[::g]:8883", "no IPv6"),
        ("256.0.0.1:8883", "no IPv4"),
        ("-x:1", "neither a name"),
        ("a b:1", "neither a name"),
        ("", "no port"),
    ],
)
def test_broken_addresses_say_what_is_wrong_and_how_to_mend_it(text, said):
    with pytest.raises(BadValue) as caught:
        Address.parse(text)
    assert said in caught.value.message
    assert caught.value.mend


def test_loopback_and_every_interface():
    assert Address.parse("127.9.9.9:1").is_loopback()
    assert Address.parse("[::1]:1").is_loopback()
    assert Address.parse("localhost:1").is_loopback()
    assert not Address.parse("0.0.0.0:1").is_loopback()
    assert not Address.parse("example.org:1").is_loopback()
    assert Address.parse("[::]:1").is_every_interface()
    assert not Address.parse("127.0.0.1:1").is_every_interface()
