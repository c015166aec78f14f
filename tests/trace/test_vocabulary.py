"""One vocabulary: every cause that the broker's source can put into a record stands in the table, with the same mend.

The sources are read as text: what they hold and no connection provokes is found, too.
"""

import re
from pathlib import Path

from sealmq.trace.causes import reference
from sealmq.trace.causes.refusals import REFUSALS
from sealmq.trace.causes.table import CAUSES, OF_CLIENT

ROOT = Path(__file__).parents[2]
CRATES = ROOT / "crates"
NODE = CRATES / "node" / "src"
BUDGETS = CRATES / "engine" / "src" / "budgets.rs"
LITERAL = r'"((?:[^"\\]|\\.)*)"'
SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)+|internal|revoked"
Causes = dict[str, set[str]]


def source(path: Path) -> str:
    """The file without comments and tests, literals that a backslash continues in one line."""
    text = path.read_text().partition("#[cfg(test)]")[0]
    text = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\\\n\s*", "", text)


def called(text: str, front: str) -> Causes:
    """The causes that stand after `front` as literals, each with its mend: the second literal after it, if that is the
    last of the call."""
    found: Causes = {}
    for match in re.finditer(rf'{front}\s*"({SLUG})"', text):
        call = text[match.end() :]
        depth = 1
        for end, character in enumerate(re.sub(LITERAL, lambda one: "_" * len(one[0]), call, flags=re.DOTALL)):
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(character, 0)
            if depth == 0:
                call = call[:end]
                break
        literals = re.findall(LITERAL, call, re.DOTALL)
        found.setdefault(match[1], set()).update(literals[1:] if len(literals) == 2 else ())
    return found


def arms(text: str, name: str, kind: str) -> dict[str, str]:
    """The literals in the arms of the match in method `name` of `kind`, by variant; `_` for the rest."""
    body = re.search(rf"impl {kind} \{{.*?fn {name}\((.*?)\n    \}}\n", text, re.DOTALL)
    assert body is not None, (kind, name)
    arm = rf"((?:(?:Self|{kind})::\w+[^=]*?|_))\s*=>[\s{{(]*(?:format!\(\s*)?{LITERAL}"
    own = body[0][body[0].rindex(f"fn {name}(") :]
    return {
        variant: match[2]
        for match in re.finditer(arm, own)
        for variant in re.findall(rf"(?:Self|{kind})::(\w+)", match[1]) or ["_"]
    }


def named(path: Path, kind: str) -> Causes:
    """Causes and mends of an enum whose methods `slug` and `mend` have them."""
    text = source(path)
    mends = arms(text, "mend", kind)
    found: Causes = {}
    for variant, slug in arms(text, "slug", kind).items():
        found.setdefault(slug, set()).add(mends[variant if variant in mends else "_"])
    return found


def broker_causes() -> Causes:
    """Every cause of a refusal record, with the mends that are one literal in the source."""
    upgrade = source(NODE / "http.rs")
    upgrade = upgrade[: upgrade.index("pub fn accept_response")] + upgrade[upgrade.index("fn judge(") :]
    codec = source(CRATES / "codec" / "src" / "error.rs")
    parts = [
        called(upgrade, r"bad\("),
        called(upgrade, r"\bcause:"),
        called(source(CRATES / "engine" / "src" / "connect.rs"), r"ReasonCode::\w+,"),
        called(source(BUDGETS), r"Some\(\("),
        called(source(NODE / "gate" / "causes.rs"), r"=> \("),
        {slug: set() for slug in re.findall(rf'=> "({SLUG})"', codec)},
        named(NODE / "certificate.rs", "IdentityFault"),
        *(named(NODE / "hello" / "words.rs", kind) for kind in ("FirstBytes", "HelloFault", "Verdict")),
    ]
    for path in (NODE / "refusal.rs", NODE / "gate.rs", *(NODE / "gate").glob("*.rs")):
        text = source(path)
        parts += [called(text, front) for front in (r"Refusal::new\(\s*Stage::\w+,", r"(?:at_certificate|refuse)\(")]
    found: Causes = {}
    for part in parts:
        for slug, mends in part.items():
            found.setdefault(slug, set()).update(mends)
    found.pop("acceptable")
    return found


def test_every_cause_of_the_broker_is_in_the_table_and_no_other() -> None:
    found = broker_causes()
    assert len(found) > 60  # what reads the sources still finds them
    assert set(found) == set(REFUSALS)


def test_a_mend_in_the_table_is_what_the_broker_says() -> None:
    own_words = {slug for slug, mends in broker_causes().items() if mends}
    assert len(own_words) > 50
    for slug, mends in broker_causes().items():
        if mends:
            assert REFUSALS[slug].mend in mends, slug
    for slug in REFUSALS.keys() - own_words:  # chosen among several: each of them is in one of the sources
        assert any(REFUSALS[slug].mend in source(path) for path in (BUDGETS, *(NODE / "gate").glob("*.rs"))), slug


def test_no_cause_has_two_names() -> None:
    """A trace that can tell as much as the broker's record uses its slug; what is told of the client is the same."""
    assert set(OF_CLIENT) <= set(REFUSALS)
    assert not [slug for slug in CAUSES if slug.startswith("client-certificate")]
    shared = set(CAUSES) & set(REFUSALS)
    negotiated = {"no-common-cipher", "no-common-group", "no-common-signature", "no-common-alpn", "tls-version-too-old"}
    assert negotiated | {"plaintext-mqtt", "plaintext-http", "ssh", "not-tls", "client-id-mismatch"} <= shared


def test_the_reference_page_is_of_these_tables() -> None:
    written = ROOT / "docs" / "reference" / "causes.md"
    assert written.read_text() == reference.page(), (
        "run: python -m sealmq.trace.causes.reference > docs/reference/causes.md"
    )
