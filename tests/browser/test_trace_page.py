"""The page of a trace in a real browser: it walks by keyboard and buttons, all parts together, and never complains."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, Page

from sealmq import trace
from sealmq.testing import EphemeralBroker, Fault, ThrowawayCA
from sealmq.trace import page
from sealmq.trace.model import Trace

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--]]>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """One of each kind of page."""
    ca = ThrowawayCA()
    with EphemeralBroker(ca=ca, wss=True, psk=True) as broker:
        mine = broker.device("sensor-1")
        bad = ca.issue_client("sensor-1", fault=Fault.EXPIRED).write(tmp_path_factory.mktemp("bad"))
        known = {"ca": mine.ca, "certificate": mine.cert, "key": mine.key}
        ok = trace.record(broker.url, **known, resume=True)
        framed = trace.record(f"wss://127.0.0.1:{broker.port_of('wss')}", **known)
        failed = trace.record(broker.url, ca=mine.ca, certificate=bad.cert, key=bad.key)
        broker.device_psk("small-1")
        key = broker.folder.devices_dir / "small-1" / "psk.txt"
        shared = trace.record(f"mqtts+psk://127.0.0.1:{broker.port_of('psk')}", psk=key)
    assert [one.outcome for one in (ok, framed, shared, failed)] == ["ok", "ok", "ok", "failed"]
    hostile = dataclasses.replace(
        failed,
        url=HOSTILE,
        summary=HOSTILE,
        evidence=HOSTILE,
        steps=tuple(dataclasses.replace(step, message=HOSTILE, says=HOSTILE, explain=HOSTILE) for step in failed.steps),
    )
    at_broker = dataclasses.replace(ok, seat="broker", previous=None)
    return {"ok": ok, "framed": framed, "shared": shared, "failed": failed, "hostile": hostile, "broker": at_broker}


KINDS = ["ok", "framed", "shared", "failed", "hostile", "broker"]


def opened(browser: Chromium, tmp_path: Path, seen: Trace, **how: object) -> Page:
    path = tmp_path / "page.html"
    path.write_text(page.html(seen))
    return browser.open(path, **how)


def places(shown: Page) -> dict[str, object]:
    """Where ladder, process table and tracker are, and what the panel says."""
    return json.loads(
        shown.evaluate("""(() => {
          const place = (all) => all.findIndex((e) => e.classList.contains("current")) + 1;
          const many = (query) => [...document.querySelectorAll(query)];
          return JSON.stringify({
            ladder: place(many("#rungs a[data-step]")),
            process: place(many("#process tbody.step")),
            tracker: place(many("#tracker tbody tr")),
            marked: document.querySelectorAll(".current").length,
            spoken: document.querySelector("#rungs [aria-current=step]")?.dataset.step,
            panel: many("#now dd").map((e) => e.textContent),
            row: many("#tracker tr.current td").map((e) => e.textContent),
            head: document.getElementById("now-head").textContent,
            at: document.getElementById("at").textContent,
            live: document.getElementById("live").textContent,
            off: many(".steps [aria-disabled=true]").map((e) => e.id),
          });
        })()""")
    )


def is_at(shown: Page, number: int, total: int) -> dict[str, object]:
    found = places(shown)
    assert (found["ladder"], found["process"], found["tracker"], found["marked"]) == (number, number, number, 3)
    assert found["spoken"] == str(number)
    assert found["head"] == f"What is true after step {number}"
    assert str(found["at"]).startswith(f"{number} of {total} · ")
    assert found["panel"] == found["row"]
    assert found["off"] == (["first", "back"] if number == 1 else ["forward", "last"] if number == total else [])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_walk_together_by_keyboard(
    browser: Chromium, tmp_path: Path, traces: dict[str, Trace], kind: str
) -> None:
    seen = traces[kind]
    total = len(seen.steps)
    shown = opened(browser, tmp_path, seen)
    is_at(shown, 1, total)
    shown.press("ArrowLeft")  # nothing before the first
    is_at(shown, 1, total)
    for number in range(2, total + 1):
        shown.press("ArrowRight")
        found = is_at(shown, number, total)
        assert str(found["live"]).startswith(f"Step {number} of {total}")
        at = shown.evaluate("document.querySelector('#process tbody.current').getBoundingClientRect().top")
        assert -50 < at < 900  # brought into sight
    shown.press("ArrowRight")  # nor after the last
    is_at(shown, total, total)
    shown.press("ArrowLeft")
    is_at(shown, total - 1, total)
    shown.press("Home")
    is_at(shown, 1, total)
    shown.press("End")
    is_at(shown, total, total)
    assert shown.complaints == []


def test_all_parts_walk_together_by_buttons_rungs_and_rows(
    browser: Chromium, tmp_path: Path, traces: dict[str, Trace]
) -> None:
    total = len(traces["ok"].steps)
    shown = opened(browser, tmp_path, traces["ok"])
    for selector, number in (
        ("#forward", 2),
        ("#forward", 3),
        ("#back", 2),
        ("#last", total),
        ("#first", 1),
        ("#rungs a[data-step='6']", 6),
        ("#process tbody[data-step='4'] .says", 4),
        ("#tracker tr[data-step='8'] th", 8),
    ):
        shown.click(selector)
        is_at(shown, number, total)
    assert shown.complaints == []


def test_keys_move_the_focus_along_the_ladder(browser: Chromium, tmp_path: Path, traces: dict[str, Trace]) -> None:
    total = len(traces["ok"].steps)
    shown = opened(browser, tmp_path, traces["ok"])
    shown.evaluate("document.querySelector('#rungs a[data-step]').focus()")
    shown.press("ArrowDown")
    shown.press("ArrowDown")
    is_at(shown, 3, total)
    assert shown.evaluate("document.activeElement.dataset.step") == "3"
    shown.press("ArrowUp")
    assert shown.evaluate("document.activeElement.dataset.step") == "2"
    assert shown.evaluate("document.querySelectorAll('#rungs a[tabindex=\"0\"]').length") == 1  # one stop for Tab
    assert shown.complaints == []


@pytest.mark.parametrize("kind", ["ok", "failed", "hostile"])
def test_bytes_and_fields_on_hover_and_focus(
    browser: Chromium, tmp_path: Path, traces: dict[str, Trace], kind: str
) -> None:
    seen = traces[kind]
    step = next(step for step in seen.steps if step.fields and step.bytes)
    shown = opened(browser, tmp_path, seen)
    tip = "document.getElementById('tip')"
    assert shown.evaluate(f"{tip}.hidden")
    shown.point(f"#rungs a[data-step='{step.number}']")
    assert not shown.evaluate(f"{tip}.hidden")
    words = shown.evaluate(f"{tip}.textContent")
    assert f"{step.bytes} bytes" in words
    assert step.message in words
    assert step.fields[0].name in words
    box = shown.evaluate(
        f"(() => {{ const b = {tip}.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; }})()"
    )
    assert 0 <= box[0] < box[2] <= 1400
    assert 0 <= box[1] < box[3] <= 900
    shown.press("Escape")
    assert shown.evaluate(f"{tip}.hidden")
    shown.evaluate("document.querySelector('#rungs a[tabindex=\"0\"]').focus()")
    for _ in range(step.number - 1):
        shown.press("ArrowDown")
    assert f"{step.bytes} bytes" in shown.evaluate(f"{tip}.textContent")
    assert shown.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    shown.evaluate("document.activeElement.blur()")
    assert shown.evaluate(f"{tip}.hidden")
    assert shown.complaints == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1900])
def test_it_fits_every_width(
    browser: Chromium, tmp_path: Path, traces: dict[str, Trace], kind: str, width: int
) -> None:
    shown = opened(browser, tmp_path, traces[kind], width=width)
    shown.press("ArrowRight")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    small = shown.evaluate(
        "[...document.querySelectorAll('.steps button')].map((button) => button.getBoundingClientRect())"
        ".filter((box) => box.height < 40 || box.width < 40 || box.left < 0 || box.right > innerWidth).length"
    )
    assert small == 0  # every button is there to be hit with a finger
    assert shown.complaints == []


def test_a_link_leads_to_its_step(browser: Chromium, tmp_path: Path, traces: dict[str, Trace]) -> None:
    seen = traces["failed"]
    shown = opened(browser, tmp_path, seen, fragment="#step-5")
    is_at(shown, 5, len(seen.steps))
    shown.click("a.jump")
    stopped = next(step.number for step in seen.steps if step.is_bad and step.message == seen.stopped_at)
    is_at(shown, stopped, len(seen.steps))
    assert shown.evaluate("document.getElementById('back').getBoundingClientRect().top") >= 0  # and the way on is there
    assert "It stopped here" in shown.evaluate("document.querySelector('#process tbody.current').textContent")
    assert shown.complaints == []


def test_what_a_peer_called_itself_stays_text(browser: Chromium, tmp_path: Path, traces: dict[str, Trace]) -> None:
    shown = opened(browser, tmp_path, traces["hostile"])
    assert shown.evaluate("document.querySelectorAll('img').length") == 0
    assert shown.evaluate("document.scripts.length") == 2
    assert "<img src=x onerror=alert(2)>" in shown.evaluate("document.querySelector('h1').textContent")
    assert shown.complaints == []


def test_the_driver_hears_complaints(browser: Chromium, tmp_path: Path) -> None:
    """Or the assertions above would hold whatever happened."""
    path = tmp_path / "page.html"
    path.write_text(
        "<meta http-equiv=Content-Security-Policy content=\"img-src 'none'\"><img src=x><script>what()</script>"
    )
    heard = browser.open(path).complaints
    assert any("ReferenceError" in complaint for complaint in heard)
    assert any("Content Security Policy" in complaint for complaint in heard)
