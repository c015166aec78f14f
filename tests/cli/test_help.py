"""How a run ends: help, wrong usage, where global options stand, and that help stays light."""

import os
import subprocess
import sys

import pytest

from sealmq.cli.app import run

HEAVY = {"pydantic", "cryptography", "rich", "starlette", "uvicorn", "structlog", "prometheus_client", "asyncio"}


def sealmq(*args, **more):
    return subprocess.run([sys.executable, "-m", "sealmq", *args], capture_output=True, text=True, timeout=30, **more)


def test_help_names_every_verb():
    done = sealmq("--help")
    assert done.returncode == 0
    for verb in ("up", "status", "device", "pub", "sub", "ca", "cert", "user", "acl", "expiry", "config"):
        assert f"\n  {verb} " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("args", [["--help"], ["pub", "--help"], ["sub", "-h"], ["up", "--help"], ["status", "--help"]])
def test_help_imports_nothing_heavy(args):
    script = (
        "import sys\nfrom sealmq.cli.app import run\n"
        f"status = run({args!r})\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    # typer itself converts the options of a verb with pydantic in its newer versions
    assert done.stderr.replace("'pydantic'" if len(args) > 1 else "", "") == "HEAVY []\n"


@pytest.mark.parametrize(
    "verb", ["up", "status", "device", "pub", "sub", "ca", "cert", "user", "acl", "expiry", "config"]
)
def test_every_verb_has_help_and_takes_the_global_options(verb):
    done = sealmq(verb, "--help")
    assert done.returncode == 0
    assert "--data DIR" in done.stdout
    assert "--json" in done.stdout
    assert "completion" not in done.stdout


def test_no_verb_is_wrong_usage():
    done = sealmq()
    assert done.returncode == 2
    assert "Usage: sealmq" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "message", "mend"),
    [
        (["statsu"], "error: command 'statsu' does not exist", "mend: did you mean `sealmq status`?"),
        (["zzzzz"], "error: command 'zzzzz' does not exist", "mend: `sealmq --help` lists the commands"),
        (["--dta", "x"], "error: no such option: --dta", "mend: see `sealmq --help`"),
        (["status", "--foo"], "error: no such option: --foo", "mend: see `sealmq status --help`"),
        (["pub"], "error: missing argument 'URL'", "mend: see `sealmq pub --help`"),
        (["pub", "mqtts://h"], "error: missing option '-t'", "mend: see `sealmq pub --help`"),
        (["config"], "error: missing command", "mend: see `sealmq config --help`"),
        (["config", "expl"], "error: no such command 'expl'", "mend: see `sealmq config --help`"),
        (["pub", "mqtts://h", "-t", "t", "-m", "m", "-q", "3"], "error: invalid value for '-q'", "mend: see"),
        (["pub", "mqtts://h", "-t", "t"], "error: what to publish is not clear", "mend: give exactly one of"),
        (["pub", "mqtts://h", "-t", "t", "-m", "m", "-n"], "error: what to publish is not clear", "mend: give exactly"),
        (["pub", "mqtts://h", "-t", "t", "-m", "m"], "error: no CA is named", "mend: give --as ID"),
        (["sub", "localhost", "-t", "t"], "error: URL 'localhost' has no scheme", "mend: write mqtts://localhost"),
        (["sub", "mqtts://h", "-t", "t", "-V", "4"], "error: MQTT version '4' is not known", "mend: -V takes"),
        (
            ["pub", "mqtts://h", "-t", "t", "-f", "/nonexistent"],
            "error: file /nonexistent cannot be read",
            "mend: check",
        ),
        (["sub", "mqtts://h", "-t", "t", "--as", "x", "--cert", "c"], "error: --as and --cert", "mend: give one"),
        (
            ["pub", "mqtts://h", "-t", "t", "-n", "-V", "311", "--expiry", "1"],
            "error: MQTT 3.1.1 has no",
            "mend: leave",
        ),
        (["pub", "mqtts://h", "-t", "t", "-n", "--user-property", "a"], "error: user property 'a'", "mend: write"),
    ],
)
def test_wrong_usage_is_one_line_and_a_mend(args, message, mend, tmp_path):
    done = sealmq(*args, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith(message)
    assert lines[1].startswith(mend)
    assert len(lines) == 2
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_plaintext_only_where_the_configuration_allows_it(tmp_path):
    done = sealmq("pub", "mqtt://127.0.0.1:1", "-t", "t", "-m", "m", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "has no TLS" in done.stderr
    assert "[dangerous]" in done.stderr


def test_global_options_before_and_after_the_verb(tmp_path):
    for args in (["--data", str(tmp_path / "x"), "status"], ["status", "--data", str(tmp_path / "x")]):
        done = sealmq(*args)
        assert done.returncode == 1
        assert f"no broker runs on {tmp_path}/x" in done.stderr


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_data_folder_of_somebody_else_is_not_wrong_usage(where, tmp_path, monkeypatch, capsys):
    """Whoever reads it says what is forbidden and to whom; as root everything may be read, so the answer is made up."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    option = ["--data", str(tmp_path)]
    assert run([*option, "status"] if where == "before" else ["status", *option]) == 1
    assert capsys.readouterr().err.startswith(f"error: no broker runs on {tmp_path}\n")


def test_a_value_that_looks_like_a_global_option_is_left_alone(tmp_path):
    done = sealmq(
        "pub", "mqtts://127.0.0.1:1", "-t", "t", "-m", "--json", "--as", "nobody", "--data", str(tmp_path / "x")
    )
    assert "data folder" in done.stderr  # it got past parsing: the message was taken as a message
    assert done.returncode == 2


def test_version():
    done = sealmq("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("sealmq ")


def test_a_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sealmq", "config", "explain"]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141  # 128 + SIGPIPE
