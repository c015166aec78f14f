"""Owns the join of the specification's numbered statements with the code that obeys them and the tests that show them.

Refuses to know what a statement means: `tests/vectors/clauses.toml` says it, and a tag `[MQTT-3.1.4-3]` is believed.

A tag names a statement of MQTT 5.0; `of 3.1.1` or `of both` after a list of tags says otherwise. `make clauses` writes
docs/reference/conformance.md. Exit status 0: written, 1: a tag or the table is wrong.

usage: scripts/clauses.py [PAGE]
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = "tests/vectors/clauses.toml"
PAGE = "docs/reference/conformance.md"
VERSIONS = ("5.0", "3.1.1")
SIDES = ("server", "client", "both")
# This file spells out what is looked for.
SELF = "tests/unit/test_clauses.py"
SOURCES = ("crates/*/src/**/*.rs", "crates/*/tests/**/*.rs", "tests/**/*.py")

TAG = r"\[MQTT-\d+\.\d+\.\d+-\d+\]"
TAGS = re.compile(rf"{TAG}(?:,\s+{TAG})*(?:\s+of\s+(both|3\.1\.1)\b)?")
# A comment that goes on in the next line, blanked so that the places of what remains are those of the file.
NEXT_LINE = re.compile(r"\n[ \t]*(?://[/!]?|#)(?!\[)")
RUST_ITEM = re.compile(
    r"\s*(?:pub(?:\([a-z]+\))? )?(?:const |async |unsafe )*(?:fn|struct|enum|trait|const|static|type|mod) (\w+)"
)
RUST_PART = re.compile(r"\s*(?:pub(?:\([a-z]+\))? )?(\w+)")
PYTHON_ITEM = re.compile(r"\s*(?:(?:async )?def|class) (\w+)|(\w+)(?:: [^=]+)? = ")

INTRODUCTION = """\
# Conformance

Every numbered statement of MQTT 5.0 and MQTT 3.1.1 (OASIS, appendix B of each), in our words: what obeys it and the
tests that show it. The numbers are the specification's; the same number means something else in the other version.
`make clauses` writes this page from `tests/vectors/clauses.toml` and from the tags in code and tests, and a test fails
when a duty of the server has neither a test nor a reason why there can be none.

| version | side | statements | tested | not testable, with the reason | neither |
|---|---|---:|---:|---:|---:|"""
EXPLANATION = """\
Of what binds both sides, the tests show the server's part. What binds the client alone counts as tested where a test
shows it of sealmq's own client, or shows what the server does with a client that breaks it."""

# Sections as the specification numbers them; both versions agree on these.
CHAPTERS = {
    "1.5": "Data",
    "2.1": "Fixed header",
    "2.2": "Variable header",
    "2.3": "Variable header",
    "3.1": "CONNECT",
    "3.2": "CONNACK",
    "3.3": "PUBLISH",
    "3.4": "PUBACK",
    "3.5": "PUBREC",
    "3.6": "PUBREL",
    "3.7": "PUBCOMP",
    "3.8": "SUBSCRIBE",
    "3.9": "SUBACK",
    "3.10": "UNSUBSCRIBE",
    "3.11": "UNSUBACK",
    "3.12": "PINGREQ",
    "3.14": "DISCONNECT",
    "3.15": "AUTH",
    "4.1": "Session state",
    "4.2": "Network connections",
    "4.3": "Quality of service",
    "4.4": "Sending again",
    "4.5": "Receipt of a message",
    "4.6": "Order",
    "4.7": "Topic names and filters",
    "4.8": "Shared subscriptions (5.0), errors (3.1.1)",
    "4.9": "Flow control",
    "4.12": "Enhanced authentication",
    "4.13": "Errors",
    "6.0": "WebSocket",
    "7.0": "Conformance",
    "7.1": "Conformance",
}


@dataclass(frozen=True, order=True)
class Key:
    """A statement: the version of MQTT and its number, `MQTT-3.1.4-3`."""

    version: str
    clause: str


@dataclass(frozen=True)
class Clause:
    """One row of the table. `same` is the statement of 5.0 that took the place of one of 3.1.1."""

    key: Key
    side: str
    says: str
    untestable: str | None
    same: Key | None


@dataclass(frozen=True)
class Place:
    """Where a tag stands: a file (relative, with slashes) and the function, table or vector in it."""

    file: str
    item: str
    is_test: bool

    def __str__(self) -> str:
        return f"{self.file.removeprefix('crates/')}: {self.item}"


@dataclass(frozen=True)
class Row:
    """A statement with the places that obey it and those that show it."""

    clause: Clause
    obeyed: tuple[Place, ...]
    shown: tuple[Place, ...]


class TableError(Exception):
    """The table, or a tag, cannot be used; the sentence says which."""


def table(text: str) -> dict[Key, Clause]:
    """The statements in `text` (TOML), in the order of the file. Raises `TableError` for a row that makes no sense."""
    clauses: dict[Key, Clause] = {}
    for entry in tomllib.loads(text)["clause"]:
        key = Key(entry["version"], entry["id"])
        if key.version not in VERSIONS or entry["side"] not in SIDES or not re.fullmatch(TAG, f"[{key.clause}]"):
            raise TableError(f"{key.clause} of {key.version}: version, side or number is none")
        if key in clauses:
            raise TableError(f"{key.clause} of {key.version} stands twice in {TABLE}")
        same = Key("5.0", entry["same"]) if "same" in entry else None
        clauses[key] = Clause(key, entry["side"], entry["says"], entry.get("untestable"), same)
    for clause in clauses.values():
        if clause.same is not None and clause.same not in clauses:
            raise TableError(f"{clause.key.clause} of {clause.key.version}: no {clause.same.clause} in 5.0")
    return clauses


def tags(file: str, text: str) -> Iterator[tuple[Key, Place]]:
    """The tags in a source file and the places they speak of."""
    lines = text.split("\n")
    tests_from = text.find("#[cfg(test)]\nmod ") if file.endswith(".rs") else -1
    is_test_file = "tests" in Path(file).with_suffix("").parts
    joined = NEXT_LINE.sub(lambda gap: " " * len(gap.group()), text)
    for found in TAGS.finditer(joined):
        at = text.count("\n", 0, found.start())
        item = _rust_item(lines, at) if file.endswith(".rs") else _python_item(lines, at)
        is_test = is_test_file or -1 < tests_from < found.start()
        versions = {None: ("5.0",), "3.1.1": ("3.1.1",), "both": VERSIONS}[found.group(1)]
        for tag in re.findall(TAG, found.group()):
            for version in versions:
                yield Key(version, tag[1:-1]), Place(file, item, is_test)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _rust_item(lines: list[str], at: int) -> str:
    """What a comment stands above, else what it stands in."""
    here = lines[at].lstrip()
    if here.startswith("//!"):
        return "module"
    if here.startswith("//"):
        below = at + 1
        while lines[below].lstrip().startswith(("//", "#[")):
            below += 1
        item = (RUST_PART if here.startswith("///") else RUST_ITEM).match(lines[below])
        item = RUST_ITEM.match(lines[below]) or item
        if item is not None and _indent(lines[below]) == _indent(lines[at]):
            return item.group(1)
    return _around(lines, at, RUST_ITEM)


def _python_item(lines: list[str], at: int) -> str:
    if lines[at].lstrip().startswith("#"):
        below = at + 1
        while lines[below].lstrip().startswith(("#", "@")):
            below += 1
        item = PYTHON_ITEM.match(lines[below])
        if item is not None and _indent(lines[below]) == _indent(lines[at]):
            return item.group(1) or item.group(2)
    statement = at
    while statement > 0 and (_indent(lines[statement]) > 0 or lines[statement][:1] in ("", ")", "]")):
        statement -= 1
    if lines[statement].startswith("@"):  # the arguments of a decorator speak of what it decorates
        while not (item := PYTHON_ITEM.match(lines[statement])) or lines[statement].startswith("@"):
            statement += 1
        return item.group(1) or item.group(2)
    return _around(lines, at, PYTHON_ITEM)


def _around(lines: list[str], at: int, pattern: re.Pattern[str]) -> str:
    """The nearest item above that is less indented; the line itself when it begins one."""
    indent = _indent(lines[at]) + 1
    for line in reversed(lines[: at + 1]):
        item = pattern.match(line)
        if item is not None and _indent(line) < indent:
            return next(name for name in item.groups() if name is not None)
        if line.strip():
            indent = min(indent, max(_indent(line), 1))
    return "module"


def vector_tags(file: str, text: str) -> Iterator[tuple[Key, Place]]:
    """The statements that the vectors of a file show; each names the number in its own version."""
    for vector in tomllib.loads(text).get("vector", []):
        for clause in vector.get("clauses", [vector["clause"]] if "clause" in vector else []):
            if clause.startswith("MQTT-"):
                yield Key(vector["version"], clause), Place(file, vector["name"], is_test=True)


def scan(root: Path) -> Iterator[tuple[Key, Place]]:
    """Every tag of a checkout."""
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            file = path.relative_to(root).as_posix()
            if file != SELF:
                yield from tags(file, path.read_text())
    for path in sorted((root / "tests/vectors").glob("*.toml")):
        if path.name != Path(TABLE).name:
            yield from vector_tags(path.relative_to(root).as_posix(), path.read_text())


def join(clauses: dict[Key, Clause], found: Iterable[tuple[Key, Place]]) -> list[Row]:
    """A row for each statement. Raises `TableError` for a tag that names none."""
    obeyed: dict[Key, dict[Place, None]] = {key: {} for key in clauses}
    shown: dict[Key, dict[Place, None]] = {key: {} for key in clauses}
    for key, place in found:
        if key not in clauses:
            raise TableError(f"{place}: no statement {key.clause} in MQTT {key.version}")
        (shown if place.is_test else obeyed)[key][place] = None
    for clause in clauses.values():
        if clause.same is not None and not obeyed[clause.key]:
            obeyed[clause.key] = obeyed[clause.same]
    return [Row(clause, tuple(obeyed[key]), tuple(shown[key])) for key, clause in clauses.items()]


def gaps(rows: list[Row]) -> list[str]:
    """What is not as it should be, a sentence each: a duty of the server that no test shows, or a stale reason."""
    wrong = []
    for row in rows:
        clause = row.clause
        name = f"{clause.key.clause} of {clause.key.version} ({clause.side}: {clause.says})"
        if clause.untestable is not None and row.shown:
            wrong.append(f"{name} is said to be untestable, and {row.shown[0]} shows it")
        elif clause.side != "client" and clause.untestable is None and not row.shown:
            wrong.append(f"{name} is shown by no test")
        elif clause.side != "client" and clause.untestable is None and not row.obeyed:
            wrong.append(f"{name} is obeyed nowhere that says so")
    return wrong


def page(rows: list[Row]) -> str:
    """The reference page."""
    out = [INTRODUCTION]
    for version in VERSIONS:
        for side, label in (("server", "server alone"), ("both", "server and client"), ("client", "client alone")):
            these = [r for r in rows if r.clause.key.version == version and r.clause.side == side]
            tested = sum(bool(r.shown) for r in these)
            reasons = sum(r.clause.untestable is not None for r in these)
            rest = len(these) - tested - reasons
            out.append(f"| {version} | {label} | {len(these)} | {tested} | {reasons} | {rest} |")
    out += ["", EXPLANATION]
    for version in VERSIONS:
        out += ["", f"## MQTT {version}"]
        chapter = None
        for row in (r for r in rows if r.clause.key.version == version):
            number = row.clause.key.clause.removeprefix("MQTT-")
            section = ".".join(number.split(".")[:2])
            if section != chapter:
                chapter = section
                title = f"### {section} {CHAPTERS[section]}"
                out += ["", title, "", "| statement | side | obeyed in | shown by |", "|---|---|---|---|"]
            out.append(
                f"| **{number}** {_cell(row.clause.says)} | {row.clause.side} | {_obeyed(row)} | {_shown(row)} |"
            )
    return "\n".join(out) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _obeyed(row: Row) -> str:
    return _list(row.obeyed, 3)


def _shown(row: Row) -> str:
    if row.clause.untestable is not None:
        return f"not testable: {_cell(row.clause.untestable)}"
    return _list(row.shown, 4)


def _list(places: tuple[Place, ...], most: int) -> str:
    """Scenarios before vectors; `and 3 more` after `most` of them."""
    ordered = sorted(places, key=lambda place: place.file.endswith(".toml"))
    texts = [f"`{place}`" for place in ordered[:most]]
    if len(ordered) > most:
        texts.append(f"and {len(ordered) - most} more")
    return "<br>".join(texts)


def rows_of(root: Path) -> list[Row]:
    """The joined table of a checkout. Raises `TableError`."""
    return join(table((root / TABLE).read_text()), scan(root))


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / PAGE
    try:
        rows = rows_of(ROOT)
    except TableError as error:
        print(f"clauses: {error}", file=sys.stderr)
        print(f"mend: correct the tag, or {TABLE}", file=sys.stderr)
        return 1
    target.write_text(page(rows))
    wrong = gaps(rows)
    for sentence in wrong:
        print(sentence)
    server = [row for row in rows if row.clause.side != "client"]
    tested = sum(bool(row.shown) for row in server)
    reasons = sum(row.clause.untestable is not None for row in server)
    print(f"{len(rows)} statements, {len(server)} bind the server: {tested} tested, {reasons} not testable")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
