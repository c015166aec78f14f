"""The control socket: answers, errors and bad callers."""

import json
import socket
import stat

import pytest

from sealmq.broker.control import ControlServer, call
from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError, NotSo, PeerFault, SealmqError


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


def serving(folder, **verbs):
    server = ControlServer(folder, verbs)
    server.start()
    return server


def raising(error):
    def verb(_args):
        raise error

    return verb


def test_a_verb_gets_its_arguments_and_its_answer_comes_back(folder):
    server = serving(folder, echo=lambda args: {"got": args})
    try:
        assert call(folder, "echo", {"a": 1, "b": "ü"}) == {"got": {"a": 1, "b": "ü"}}
        big = "x" * 300_000
        assert call(folder, "echo", {"big": big}) == {"got": {"big": big}}
        assert stat.S_IMODE(folder.control_path.stat().st_mode) == 0o600
    finally:
        server.stop()
    assert not folder.control_path.exists()


@pytest.mark.parametrize("error", [NotSo("device x exists", mend="show it", code="device-exists"), ConfigError("bad")])
def test_an_error_keeps_its_class_words_and_status(folder, error):
    server = serving(folder, fail=raising(error))
    try:
        with pytest.raises(type(error)) as caught:
            call(folder, "fail")
    finally:
        server.stop()
    assert (caught.value.message, caught.value.mend, caught.value.code) == (error.message, error.mend, error.code)


def test_a_fault_of_ours_answers_and_the_server_lives(folder):
    faults = []
    server = ControlServer(folder, {"boom": raising(RuntimeError("secret detail")), "ping": lambda _: {}})
    server.on_fault = lambda verb, fault: faults.append((verb, str(fault)))
    server.start()
    try:
        with pytest.raises(SealmqError, match="boom failed in the broker: RuntimeError") as caught:
            call(folder, "boom")
        assert "secret" not in caught.value.message
        assert call(folder, "ping") == {}
    finally:
        server.stop()
    assert faults == [("boom", "secret detail")]


def test_an_unknown_verb(folder):
    server = serving(folder)
    try:
        with pytest.raises(NotSo, match="does not know 'revoke'"):
            call(folder, "revoke")
    finally:
        server.stop()


@pytest.mark.parametrize("request_line", [b"nonsense\n", b"[]\n", b"{}\n", b'{"verb": "ping", "args": 3}\n', b"\n"])
def test_a_caller_that_talks_nonsense_gets_an_error(folder, request_line):
    server = serving(folder, ping=lambda args: {"n": args["n"]})
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder.control_path))
            connection.sendall(request_line)
            assert json.loads(connection.makefile().readline())["error"]["kind"] == "PeerFault"
        assert call(folder, "ping", {"n": 1}) == {"n": 1}
    finally:
        server.stop()


def test_no_broker(folder):
    with pytest.raises(NotSo, match="no broker runs on") as caught:
        call(folder, "status")
    assert caught.value.exit_status == 1
    assert "sealmq up" in caught.value.mend


def test_a_socket_left_behind_counts_as_no_broker_and_is_replaced(folder):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder.control_path))
    with pytest.raises(NotSo):
        call(folder, "status")
    server = serving(folder, ping=lambda _: {})
    assert call(folder, "ping") == {}
    server.stop()


def test_a_server_that_goes_away_in_the_middle(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.control_path))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder.control_path))
            accepted, _ = listener.accept()
            accepted.close()
        import threading

        def hang_up():
            accepted, _ = listener.accept()
            accepted.recv(1000)
            accepted.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(PeerFault, match="no whole answer"):
            call(folder, "status")
        thread.join()


def test_a_data_folder_deeper_than_a_socket_name_may_be_long(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / ("d" * 120) / "data")
    server = serving(folder, ping=lambda _: {"ok": True})
    try:
        assert call(folder, "ping") == {"ok": True}
    finally:
        server.stop()
