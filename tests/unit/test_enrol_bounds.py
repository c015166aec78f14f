"""The HTTPS door against peers that take their time or come in numbers. Knows nothing of enrolment."""

import contextlib
import socket
import ssl

import pytest

from sealmq.broker import door


def ends(connection):
    """Whether the other side closes within the test's patience."""
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"],
    ids=["nothing", "half-a-head", "half-a-body"],
)
def test_a_request_that_does_not_come_to_its_end_is_cut_off(opened, monkeypatch, beginning):
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.3)
    at_door = opened()
    with at_door.connection() as connection:
        connection.sendall(beginning)
        assert ends(connection)
    assert at_door.ask("GET", "/healthz")[0] == 200


def test_the_second_request_of_a_connection_has_a_deadline_too(opened, monkeypatch):
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.3)
    at_door = opened()
    with at_door.connection() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(4096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert ends(connection)


def test_a_handshake_that_does_not_come_to_its_end_is_cut_off(opened, monkeypatch):
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.3)
    at_door = opened()
    with socket.create_connection((at_door.host, at_door.port)) as connection:
        connection.sendall(b"\x16\x03\x01")
        assert ends(connection)


def test_one_address_cannot_take_every_connection(opened, monkeypatch):
    monkeypatch.setattr(door, "PER_ADDRESS", 3)
    at_door = opened()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((at_door.host, at_door.port))) for _ in range(3)]
        assert held
        with socket.create_connection((at_door.host, at_door.port)) as one_too_many:
            assert ends(one_too_many)
    for _ in range(1000):  # until the door has noticed that the three are gone
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert at_door.ask("GET", "/healthz")[0] == 200
            return
    pytest.fail("connections that ended are still counted")


def test_a_head_without_end_is_cut_off(at_door):
    with at_door.connection() as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * (2 * door.HEAD_BYTES))
        assert ends(connection)
