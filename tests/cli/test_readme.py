"""The commands of README.md, executed as a reader types them. Knows nothing of what they should print.

The convention: blocks fenced as ```sh are typed line by line into one shell, in a new folder, in their order; each line
has to end with status 0. Other blocks (```console, ```toml) are not run. `make run` and `sealmq up` start a broker on
free ports, which take the place of 8883, 8443 and 8084 in all that follows; when no line does, one is started before
the first. A line that ends in `&` goes on beside the others; when it subscribes, the next line waits until it has. A
subscriber that is not followed by `&` needs `-C`, or it never ends.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from programs import PATIENCE, Program, run_sealmq

README = Path(__file__).parents[2] / "README.md"
STARTS_BROKER = re.compile(r"^(make run|(\S*/)?sealmq up)\b")
CUSTOMARY = {"mqtts": "8883", "https": "8443", "wss": "8084"}


def lines_of(text: str) -> list[str]:
    """What is to be typed: the lines of the ```sh blocks, continued ones joined, without prompts and comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


class Reader:
    """Somebody who follows a README: a shell in `folder`, and a broker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = Path(sys.executable).parent
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALMQ_")}
        environment["PATH"] = f"{self._bin}:{environment['PATH']}:/usr/sbin"
        self._options = {"cwd": folder, "env": environment | {"HOME": str(folder)}}
        self._shell = Program("bash", "--norc", "--noprofile", line_buffered=False, **self._options)
        self._broker: Program | None = None
        self._ports: dict[str, str] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for program in (self._shell, self._broker):
            if program is not None:
                program.close()

    def follow(self, text: str) -> None:
        """Type every line. Raises AssertionError with the line and what was printed when one of them fails."""
        lines = lines_of(text)
        if not any(STARTS_BROKER.match(line) for line in lines):
            self._start_broker("sealmq up")
        for line in lines:
            if STARTS_BROKER.match(line):
                self._start_broker(line)
            else:
                self._type(line)
        # what still runs beside is ended, what has ended by itself must have ended well
        self._run("for job in $(jobs -pr); do kill $job; done; true")

    def _start_broker(self, line: str) -> None:
        wss = ["--wss", "127.0.0.1:0"] if "--wss" in line else []
        words = ["up", "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0", *wss]
        self._broker = Program(sys.executable, "-m", "sealmq", *words, **self._options)
        for _ in range(3 if wss else 2):
            kind, port = self._broker.expect(r"^ready (\w+)://.*:(\d+)").groups()
            self._ports[kind] = port

    def _type(self, line: str) -> None:
        line = re.sub(r"(?<!\S)\.venv/bin/", "", line)
        for kind, port in self._ports.items():
            line = re.sub(rf"\b{CUSTOMARY[kind]}\b", port, line)
            line = re.sub(rf"\b({kind}://[\w.]+)(?![\w.:])", rf"\1:{port}", line)
        subscribes = line.rstrip().endswith("&") and re.search(r"\bsealmq sub\b|\bmosquitto_sub\b", line)
        before = self._subscriptions() if subscribes else 0
        self._run(line)
        if subscribes:
            deadline = time.monotonic() + PATIENCE
            while self._subscriptions() <= before:
                assert time.monotonic() < deadline, f"{line!r} did not subscribe:\n{self._shell.out}{self._shell.err}"

    def _run(self, line: str) -> None:
        self._shell.send(f'{line}\necho "ended-with $?"\n')
        status = self._shell.expect(r"^ended-with (\d+)$").group(1)
        assert status == "0", f"{line!r} ended with {status}:\n{self._shell.out}{self._shell.err}"

    def _subscriptions(self) -> int:
        done = run_sealmq("status", "--json", **self._options)
        return json.loads(done.stdout)["counts"]["subscriptions"] if done.returncode == 0 else 0


def test_the_commands_of_the_readme(tmp_path):
    text = README.read_text(encoding="utf-8")
    assert lines_of(text), "README.md has no block fenced as sh"
    with Reader(tmp_path) as reader:
        reader.follow(text)


GOOD = """
```sh
make run                # starts a broker
```
In another shell:
```sh
sealmq device add sensor-1
.venv/bin/sealmq sub mqtts://localhost -t 'devices/sensor-1/#' \\
    --as sensor-1 -C 1 > heard &
sealmq pub mqtts://localhost:8883 -t devices/sensor-1/temperature -m 21.5 --as sensor-1
wait $!
grep -x 21.5 heard
cd sealmq-data/devices/sensor-1
mosquitto_pub -h localhost -p 8883 --cafile ca.pem --cert cert.pem --key key.pem -i sensor-1 -t shared/x -m y
curl -s --cacert ca.pem https://localhost:8443/healthz
```
```console
$ false
```
"""


def test_a_good_readme_is_followed_to_its_end(tmp_path):
    with Reader(tmp_path) as reader:
        reader.follow(GOOD)
    assert (tmp_path / "heard").read_text(encoding="utf-8") == "21.5\n"


@pytest.mark.parametrize("line", ["sealmq device show nobody", "no-such-program"])
def test_a_line_that_fails_fails_the_test(tmp_path, line):
    with Reader(tmp_path) as reader, pytest.raises(AssertionError, match=re.escape(repr(line))):
        reader.follow(f"```sh\nsealmq ca show\n{line}\n```\n")


def test_only_blocks_fenced_as_sh_are_typed():
    assert lines_of("```sh\n$ a \\\n  b\n# c\n\nd\n```\n```console\n$ e\n```\n") == ["a    b", "d"]
