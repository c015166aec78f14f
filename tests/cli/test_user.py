"""`sealmq user`, with and without a terminal. Knows nothing of how passwords are kept."""

import json
import os
import pty
import subprocess
import sys

import pytest

from sealmq.cli.app import run


@pytest.fixture
def sealmq(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text("correct horse battery\n")
    (tmp_path / "words").chmod(0o600)

    def call(*args):
        status = run([*map(str, args)])
        return (status, *capsys.readouterr())

    return call


def test_add_list_remove(sealmq, tmp_path):
    status, out, err = sealmq("user", "add", "anna", "--password-file", "words")
    assert (status, err) == (0, "")
    assert 'who = "user:anna"' in out
    assert "correct horse" not in out + (tmp_path / "sealmq-data" / "users.json").read_text()
    assert "anna" in sealmq("user", "list")[1]
    found = json.loads(sealmq("user", "list", "--json")[1])["users"]
    assert [sorted(user) for user in found] == [["created_at", "name"]]
    assert sealmq("user", "add", "anna", "--password-file", "words")[0] == 1
    assert sealmq("user", "add", "anna", "--password-file", "words", "--replace")[0] == 0
    assert sealmq("user", "remove", "anna")[0] == 0
    assert sealmq("user", "remove", "anna")[0] == 1
    assert "no users" in sealmq("user", "list")[1]


@pytest.mark.parametrize(
    ("args", "said"),
    [(("add", "a/b", "--password-file", "words"), "user name"), (("add", "anna", "--password-file", "gone"), "gone")],
)
def test_wrong_usage_makes_nothing(sealmq, tmp_path, args, said):
    status, out, err = sealmq("user", *args)
    assert (status, out) == (2, "")
    assert said in err
    assert not (tmp_path / "sealmq-data").exists()


def test_without_a_terminal_the_password_must_be_in_a_file(tmp_path):
    command = [sys.executable, "-m", "sealmq", "user", "add", "anna"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 2
    assert "--password-file" in done.stderr


@pytest.mark.parametrize(("second", "status"), [("correct horse battery", 0), ("wrong horse battery", 2)])
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(tmp_path, second, status):
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "sealmq", "user", "add", "anna"])  # noqa: S606
    shown = b""
    for prompt, answer in ((b"password of anna: ", "correct horse battery"), (b"again: ", second)):
        while prompt not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, answer.encode() + b"\n")
    while True:
        try:
            part = os.read(terminal, 1000)
        except OSError:
            break  # the other end is closed
        if not part:
            break
        shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    assert b"horse" not in shown
    assert (b"not the same" in shown) is (status == 2)
    os.close(terminal)
