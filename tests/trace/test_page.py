"""The picture of a trace: self-contained, whole, and whatever a peer called itself stays text."""

import base64
import dataclasses
import hashlib
import html
import json
import re
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import servers

from programs import run_sealmq
from sealmq import trace
from sealmq.testing import EphemeralBroker
from sealmq.trace import page
from sealmq.trace.fields import Field
from sealmq.trace.model import Proofs as NoProofs
from sealmq.trace.model import Secret, State, Step, Tls, Totals, Trace, from_json, to_json
from sealmq.trace.request import Bounds

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--]]>{{7*7}}${style}\x00\x1b[31m\u202e\ud800"
)
VOID = {"meta", "input", "br", "hr", "img", "link"}
QUICK = Bounds(connect=2, handshake=0.5, mqtt=0.5, settle=0.2, close=0.2)


class Reader(HTMLParser):
    """Elements in order with their attributes, the text in each kind of element; complains of tags that do not pair."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open[-1:]:
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """Attributes of the elements `tag` that have these."""
        found = (attributes for name, attributes in self.elements if name == tag)
        return [one for one in found if all(one.get(name) == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """A resumed session; one refused for want of a client certificate; a server not believed; no server; TLS 1.2."""
    with EphemeralBroker() as broker:
        files = broker.device("sensor-1")
        resumed = trace.record(broker.url, ca=files.ca, certificate=files.cert, key=files.key, resume=True)
        refused = trace.record(broker.url, ca=files.ca)
    certified = servers.rsa_2048(tmp_path_factory.mktemp("server"))
    with servers.s_server(certified, "-tls1_2", "-cipher", "AES128-GCM-SHA256") as (url, _):
        transported = trace.record(url, ca=certified.ca, legacy=True, bounds=QUICK)
        untrusted = trace.record(url.replace("tls://", "mqtts://"), legacy=True, bounds=QUICK)
    nobody = trace.record("mqtts://no-such-host.invalid", bounds=QUICK)
    assert resumed.tls.resumed
    assert [one.outcome for one in (refused, untrusted, nobody)] == ["failed"] * 3
    assert transported.tls.key_exchange == "key-transport"
    return {
        "resumed": resumed, "refused": refused, "untrusted": untrusted, "nobody": nobody, "transported": transported
    }  # fmt: skip


KINDS = ["resumed", "refused", "untrusted", "nobody", "transported"]


def scripts(text: str) -> list[tuple[str, str]]:
    return re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_nothing_but_itself(traces: dict[str, Trace], kind: str) -> None:
    text = page.html(traces[kind])
    read = Reader(text)
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "audio", "video")
        assert not {"src", "srcset", "data", "xlink:href", "action", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    own = "".join([*read.texts["style"], *(body for _, body in scripts(text) if "JSON.parse" in body)])
    for word in ("://", "@import", "url(", "fetch(", "XMLHttpRequest", "innerHTML", "eval(", "import("):
        assert word not in own
    assert "http://" not in text
    assert not re.findall(r"https://\S+", text.replace(html.escape(traces[kind].url), ""))


def test_the_policy_permits_this_style_and_this_script_alone(traces: dict[str, Trace]) -> None:
    text = page.html(traces["resumed"])
    policy = Reader(text).all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    code = [body for attributes, body in scripts(text) if not attributes]
    assert (len(style), len(code)) == (1, 1)
    for name, body in (("style-src", style[0]), ("script-src", code[0])):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}';" in policy


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_in_ladder_table_tracker_and_data(traces: dict[str, Trace], kind: str) -> None:
    seen = traces[kind]
    text = page.html(seen)
    read = Reader(text)
    numbers = [str(step.number) for step in seen.steps]
    assert numbers
    assert [body["id"] for body in read.all("tbody") if "id" in body] == [f"step-{number}" for number in numbers]
    assert [row["data-step"] for row in read.all("tr") if "data-step" in row] == numbers
    in_ladder = [link for link in read.all("a") if "step" in link.get("class", "").split()]
    assert [link["data-step"] for link in in_ladder] == numbers
    data = json.loads(next(body for attributes, body in scripts(text) if "application/json" in attributes))
    assert [step["message"] for step in data["steps"]] == [step.message for step in seen.steps]
    for step in seen.steps:
        # its link and its label in the ladder, the process table, the tracker
        assert text.count(html.escape(step.message)) >= 4
        assert html.escape(step.says) in text
        assert html.escape(step.explain) in text
        for field in step.fields:
            assert f"<b>{html.escape(field.name)}</b>" in text
    assert html.escape(seen.summary) in text


@pytest.mark.parametrize("kind", ["refused", "untrusted", "nobody"])
def test_a_failure_is_marked_where_it_stopped(traces: dict[str, Trace], kind: str) -> None:
    seen = traces[kind]
    stopped = next(step for step in seen.steps if step.is_bad and step.message == seen.stopped_at)
    text = page.html(seen)
    body = re.search(rf'<tbody [^>]*id="step-{stopped.number}".*?</tbody>', text, re.DOTALL)
    assert body is not None
    assert text.count("It stopped here") == body[0].count("It stopped here") == 1
    for words in (seen.cause, seen.mend, seen.evidence, seen.command, *seen.not_done):
        assert html.escape(words or "?") in body[0]
    assert f'href="#step-{stopped.number}" data-step="{stopped.number}">Go to step {stopped.number}' in text
    drawn = page.svg(seen)
    assert f"✕ stopped here: {seen.cause}" in drawn
    after = drawn.partition("✕ stopped here")[0].count('class="step ')
    assert after == stopped.number


@pytest.mark.parametrize("kind", ["resumed", "transported"])
def test_what_went_well_has_no_failure_in_it(traces: dict[str, Trace], kind: str) -> None:
    assert "stopped here" not in page.html(traces[kind])
    assert "stopped here" not in page.svg(traces[kind])
    assert ("The connection before" in page.html(traces[kind])) == (kind == "resumed")


@pytest.mark.parametrize("kind", KINDS)
def test_the_ladder_alone_is_xml_and_complete(traces: dict[str, Trace], kind: str) -> None:
    seen = traces[kind]
    root = ET.fromstring(page.svg(seen))  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    steps = [group for group in root.iter(f"{SVG}g") if "step" in group.get("class", "").split()]
    assert len(steps) == len(seen.steps)
    height = float(root.get("height", "0"))
    for group, step in zip(steps, seen.steps, strict=True):
        assert step.message in "".join(group.itertext())
        kinds = group.get("class", "").split()
        assert step.protection in kinds
        assert ("bad" in kinds) == step.is_bad
        title = group.find(f"{SVG}title")
        assert title is not None
        assert step.says.rstrip(".") in (title.text or "")
        assert all(float(text.get("y", "0")) < height for text in group.iter(f"{SVG}text"))
        line = group.find(f"{SVG}path[@class='line']")
        assert (line is None) == (step.direction == "none")
        if line is not None:
            assert line.get("d", "").startswith("M22 " if step.direction == "sent" else "M338 ")
    assert not [name for one in root.iter() for name in one.attrib if name.endswith(("href", "src"))]


def test_protection_is_told_by_words_and_by_line_too(traces: dict[str, Trace]) -> None:
    drawn = page.svg(traces["resumed"])
    for words in ("in clear", "handshake key", "session key"):
        assert f">{words}</text>" in drawn
    assert "stroke-dasharray:2 4" in drawn
    assert "stroke-dasharray:10 4" in drawn


# --- strings of a peer ------------------------------------------------------------------------------------------------


def poisoned(value: Any, path: str = "") -> Any:
    """A trace with `HOSTILE` in each text that has no fixed set of words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ("who", "direction", "protection", "key_exchange", "outcome", "stopped_by", "seat")
        changed = {
            field.name: poisoned(getattr(value, field.name), field.name)
            for field in dataclasses.fields(value)
            if field.name not in kept
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(poisoned(item, path) for item in value)
    return f"{path}:{HOSTILE}" if isinstance(value, str) else value


def shapes(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Elements and the names of their attributes; of the ladder only its links: how words fold decides the rest."""
    for tag, attributes in Reader(text).elements:
        if tag not in ("rect", "path", "text", "tspan", "g"):
            yield tag, tuple(attributes)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_strings_in_every_field_stay_text(traces: dict[str, Trace], kind: str) -> None:
    # full of text already, so that poison changes words and not what there is to show
    full = filled(traces[kind])
    text, tame = page.html(poisoned(full)), page.html(full)
    assert list(shapes(text)) == list(shapes(tame))
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script") == 2
    assert "<!--" not in text.replace("<!DOCTYPE", "")
    assert "alert(1)" in "".join(Reader(text).texts["code"])
    assert text.count("<style>") == 1
    text.encode()
    root = ET.fromstring(page.svg(poisoned(full)).encode())  # noqa: S314 - our own
    tags = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert tags <= {"svg", "title", "style", "rect", "path", "text", "tspan", "g"}


def filled(seen: Trace) -> Trace:
    """The same with a word in each text that was empty."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            kept = ("key_exchange", "children", "previous")
            return {name: part if name in kept and not part else fill(part) for name, part in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        return value or "word" if isinstance(value, str) else value

    return from_json(fill(to_json(seen)))


def step(number: int, **changed: Any) -> Step:
    made = Step(number, 1.0, "server", "Alert", "received", 7, 1, "plain", "says", "", "", "", State())
    return dataclasses.replace(made, **changed)


def made(*steps: Step, failed: bool = True) -> Trace:
    outcome: dict[str, Any] = {"outcome": "failed", "cause": "odd", "mend": "mend it"} if failed else {"outcome": "ok"}
    return Trace(url="mqtts://h", address="", started="2026-01-01T00:00:00", summary="It ended.", tls=Tls(),
                 steps=steps, totals=Totals(), proofs=NoProofs(), **outcome)  # fmt: skip


def test_a_trace_without_steps_and_one_with_very_many() -> None:
    assert "It stopped here: odd" in page.html(made())
    assert "stopped here: odd" in page.svg(made())
    assert "stopped here" not in page.html(made(failed=False))
    many = made(*(step(number) for number in range(1, 301)), failed=False)
    assert len(Reader(page.html(many)).all("tbody", **{"class": "step"})) == 300
    ET.fromstring(page.svg(many))  # noqa: S314 - our own


def test_a_failure_without_a_bad_step_is_marked_at_the_last() -> None:
    drawn = page.svg(made(step(1), step(2, direction="none", message="eof")))
    assert drawn.partition("✕ stopped here")[0].count('class="step ') == 2


def test_what_the_broker_saw_stands_on_its_side() -> None:
    own = made(step(1, who="here", direction="none", message="session keys"))
    seen = dataclasses.replace(own, seat="broker", stopped_by="here")
    assert 'class="box" x="10"' in page.svg(own)
    assert 'class="box" x="40"' in page.svg(seen)
    assert "ended by the broker" in page.html(seen)


def test_long_words_and_deep_fields_are_bounded_in_the_picture() -> None:
    deep = Field("leaf")
    for _ in range(100):
        deep = Field("x", "", (deep,))
    long = step(1, message="M" * 5000, direction="none", result="r" * 5000, fields=(deep,))
    named = dataclasses.replace(long.state, secrets=(Secret("odd secret", "somewhere"),))
    seen = made(dataclasses.replace(long, state=named))
    read = Reader(page.html(seen))
    assert "odd secret" in read.texts["dd"]
    assert "…" in read.texts["li"]
    root = ET.fromstring(page.svg(seen))  # noqa: S314 - our own
    assert max(len("".join(text.itertext())) for text in root.iter(f"{SVG}text")) <= 60


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_both_live_and_from_a_recording(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    kept = tmp_path / "kept.json"
    with servers.s_server(files) as (url, _):
        live = run_sealmq("trace", url, "--cafile", files.ca, "--save", kept, "--html", tmp_path / "a.html")
    assert live.returncode == 0, live.stderr
    again = run_sealmq("trace", "--replay", kept, "--html", tmp_path / "b.html", "--svg", tmp_path / "b.svg")
    assert again.returncode == 0, again.stderr
    assert "b.html" in again.stderr
    assert again.stdout == live.stdout
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text() == page.html(trace.replay(kept))
    assert (tmp_path / "b.svg").read_text() == page.svg(trace.replay(kept))
    assert stat.S_IMODE((tmp_path / "b.html").stat().st_mode) == 0o600


def test_the_command_draws_a_failure_and_still_ends_with_one(tmp_path: Path) -> None:
    done = run_sealmq("trace", "mqtts://no-such-host.invalid", "--html", tmp_path / "a.html", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["cause"] == "dns"
    assert "It stopped here: dns" in (tmp_path / "a.html").read_text()
    missing = run_sealmq("trace", "mqtts://no-such-host.invalid", "--svg", tmp_path / "none" / "a.svg")
    assert missing.returncode == 2
    assert missing.stderr.splitlines()[-2].startswith("error: ")
