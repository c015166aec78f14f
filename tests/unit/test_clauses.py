"""Owns the proof that the conformance page is true: current, without a gap on the server's side, and able to tell one.

Refuses to know what the statements mean.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clauses", ROOT / "scripts" / "clauses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["clauses"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


clauses = _script()

TABLE = """
[[clause]]
id = "MQTT-3.1.4-3"
version = "5.0"
side = "server"
says = "the older connection ends"

[[clause]]
id = "MQTT-3.1.4-2"
version = "3.1.1"
side = "server"
says = "the older connection ends"
same = "MQTT-3.1.4-3"

[[clause]]
id = "MQTT-3.1.4-3"
version = "3.1.1"
side = "client"
says = "something else"
"""


def _tags(file: str, text: str) -> list[tuple[str, str, str, bool]]:
    return [(key.version, key.clause, place.item, place.is_test) for key, place in clauses.tags(file, text)]


# --- this checkout ------------------------------------------------------------------------------------------------


def test_every_duty_of_the_server_is_tested_or_cannot_be():
    assert clauses.gaps(clauses.rows_of(ROOT)) == []


def test_the_page_is_current():
    page = (ROOT / clauses.PAGE).read_text()
    assert page == clauses.page(clauses.rows_of(ROOT)), "make clauses writes it anew"


def test_the_table_is_whole():
    """The counts of appendix B; within a section the numbers have no hole that the specification has not."""
    table = clauses.table((ROOT / clauses.TABLE).read_text())
    assert {version: sum(key.version == version for key in table) for version in clauses.VERSIONS} == {
        "5.0": 251,
        "3.1.1": 141,
    }
    sections: dict[tuple[str, str], list[int]] = {}
    for key in table:
        section, number = key.clause.rsplit("-", 1)
        sections.setdefault((key.version, section), []).append(int(number))
    holes = {where for where, numbers in sections.items() if numbers != list(range(1, len(numbers) + 1))}
    assert holes == {("5.0", "MQTT-2.2.1")}  # begins with 2


# --- the join can fail --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("[MQTT-1.5.4-1]", [("5.0", "MQTT-1.5.4-1")]),
        ("[MQTT-1.5.3-1] of 3.1.1", [("3.1.1", "MQTT-1.5.3-1")]),
        ("[MQTT-3.1.0-2] of both", [("5.0", "MQTT-3.1.0-2"), ("3.1.1", "MQTT-3.1.0-2")]),
        (
            "[MQTT-3.1.4-3]; [MQTT-3.1.4-2], [MQTT-3.1.4-3] of 3.1.1: because",
            [("5.0", "MQTT-3.1.4-3"), ("3.1.1", "MQTT-3.1.4-2"), ("3.1.1", "MQTT-3.1.4-3")],
        ),
        (
            "[MQTT-3.1.4-2],\n// [MQTT-3.1.4-3] of\n// 3.1.1",
            [("3.1.1", "MQTT-3.1.4-2"), ("3.1.1", "MQTT-3.1.4-3")],
        ),
        ("MQTT-3.1.4-2 without brackets", []),
    ],
)
def test_whose_number_a_tag_names(comment, expected):
    found = _tags("crates/x/src/lib.rs", f"// {comment}\nfn f() {{}}\n")
    assert [(version, clause) for version, clause, _, _ in found] == expected
    assert {item for _, _, item, _ in found} <= {"f"}


def test_what_a_tag_speaks_of():
    rust = """//! [MQTT-1.1.1-1]
/// [MQTT-1.1.1-2]
#[inline]
pub fn f() {
    let x = 1; // [MQTT-1.1.1-3]
    if x {
        // [MQTT-1.1.1-4]
    }
}
struct S {
    /// [MQTT-1.1.1-5]
    pub field: u8,
}
#[cfg(test)]
mod tests {
    // [MQTT-1.1.1-6]
    #[test]
    fn t() {}
}
"""
    python = """# [MQTT-1.1.1-1]
CASES = [
    "x",  # [MQTT-1.1.1-2]
]


def test_before():
    pass


@mark([
    1,  # [MQTT-1.1.1-3]
])
def test_after():
    \"\"\"[MQTT-1.1.1-4]\"\"\"
    assert 1  # [MQTT-1.1.1-5]
"""
    items = [(item, is_test) for _, _, item, is_test in _tags("crates/x/src/x.rs", rust)]
    assert items == [("module", False), *[("f", False)] * 3, ("field", False), ("t", True)]
    items = [(item, is_test) for _, _, item, is_test in _tags("tests/x.py", python)]
    assert items == [("CASES", True), ("CASES", True), *[("test_after", True)] * 3]


def _rows(code: str, test: str) -> list[object]:
    found = [*clauses.tags("crates/x/src/x.rs", code), *clauses.tags("tests/x.py", test)]
    return list(clauses.join(clauses.table(TABLE), found))


def test_a_gap_is_told():
    whole = _rows(
        "// [MQTT-3.1.4-3]\nfn f() {}\n", "# [MQTT-3.1.4-3]; [MQTT-3.1.4-2] of 3.1.1\ndef test_it():\n    pass\n"
    )
    assert clauses.gaps(whole) == []
    untested = clauses.gaps(_rows("// [MQTT-3.1.4-3]\nfn f() {}\n", "# [MQTT-3.1.4-3]\ndef test_it():\n    pass\n"))
    assert [sentence.endswith("is shown by no test") for sentence in untested] == [True]
    nowhere = clauses.gaps(_rows("", "# [MQTT-3.1.4-3]; [MQTT-3.1.4-2] of 3.1.1\ndef test_it():\n    pass\n"))
    assert len(nowhere) == 2


def test_a_reason_that_a_test_refutes_is_told():
    table = clauses.table(TABLE.replace('same = "MQTT-3.1.4-3"', 'untestable = "it is said"'))
    found = [*clauses.tags("crates/x/src/x.rs", "// [MQTT-3.1.4-3]\nfn f() {}\n")]
    found += clauses.tags("tests/x.py", "# [MQTT-3.1.4-3]; [MQTT-3.1.4-2] of 3.1.1\ndef test_it():\n    pass\n")
    (stale,) = clauses.gaps(clauses.join(table, found))
    assert "is said to be untestable" in stale


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('side = "client"', 'side = "nobody"'),
        ('version = "3.1.1"', 'version = "3.1"'),
        ('same = "MQTT-3.1.4-3"', 'same = "MQTT-9.9.9-9"'),
        ('id = "MQTT-3.1.4-2"', 'id = "MQTT-3.1.4"'),
        ('id = "MQTT-3.1.4-2"', 'id = "MQTT-3.1.4-3"'),
    ],
)
def test_a_table_that_makes_no_sense(old, new):
    with pytest.raises(clauses.TableError):
        clauses.table(TABLE.replace(old, new))


def test_a_tag_that_names_nothing_is_told():
    with pytest.raises(clauses.TableError, match=r"no statement MQTT-3\.1\.4-9 in MQTT 5\.0"):
        _rows("// [MQTT-3.1.4-9]\nfn f() {}\n", "")
