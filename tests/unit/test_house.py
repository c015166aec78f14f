"""Owns the proof that the house rules can fail: each check is shown something wrong, and something right.

Refuses to know whether this checkout obeys them: `make check` tells that.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry+https://registry.example/index"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_crates = _script("check_crates")
check_files = _script("check_files")


# --- crates -------------------------------------------------------------------------------------------------------


def _metadata(folder: Path, uses: dict[str, dict[str, str]], **changed: dict[str, Any]) -> dict[str, Any]:
    """What `cargo metadata` says of crates that use others (`uses[crate][used] = kind`), with facts `changed`."""
    names = set(uses) | {used for edges in uses.values() for used in edges}
    ours = {name for name in names if name.startswith("sealmq-")}
    for name in ours:
        source = folder / name / "src" / "lib.rs"
        source.parent.mkdir(parents=True)
        source.write_text("#![no_std]\n#![forbid(unsafe_code)]\n")
    facts = {
        name: {
            "id": name,
            "name": name,
            "version": "1.0.0",
            "license": "MIT",
            "rust_version": "1.85",
            "source": None if name in ours else REGISTRY,
            "manifest_path": str(folder / name / "Cargo.toml"),
        }
        | changed.get(name.replace("-", "_"), {})
        for name in names
    }
    nodes = [
        {
            "id": name,
            "deps": [
                {"pkg": used, "dep_kinds": [{"kind": None if kind == "normal" else kind}]}
                for used, kind in uses.get(name, {}).items()
            ],
        }
        for name in sorted(names)
    ]
    return {"packages": list(facts.values()), "workspace_members": sorted(ours), "resolve": {"nodes": nodes}}


def _offences(folder: Path, uses: dict[str, dict[str, str]], **changed: dict[str, Any]) -> list[str]:
    return list(check_crates.offences(check_crates.graph_from(_metadata(folder, uses, **changed)), folder))


def test_crates_on_their_floors_pass(tmp_path: Path) -> None:
    uses = {
        "sealmq-codec": {"proptest": "dev"},
        "sealmq-store": {"rusqlite": "normal"},
        "sealmq-engine": {"sealmq-codec": "normal", "sealmq-store": "normal"},
        "sealmq-node": {"sealmq-engine": "normal", "rustls": "normal", "mio": "normal"},
        "sealmq-pyext": {"sealmq-node": "normal", "pyo3": "normal"},
    }
    assert _offences(tmp_path, uses) == []


@pytest.mark.parametrize(
    ("uses", "sentence"),
    [
        ({"sealmq-codec": {"sealmq-engine": "normal"}}, "crate sealmq-codec uses sealmq-engine, which is not below it"),
        ({"sealmq-store": {"sealmq-codec": "dev"}}, "crate sealmq-store uses sealmq-codec, which is not below it"),
        ({"sealmq-node": {"pyo3": "normal"}}, "crate sealmq-node uses pyo3, which only sealmq-pyext may"),
        ({"sealmq-pyext": {"rustls": "normal"}}, "crate sealmq-pyext uses rustls, which only sealmq-node may"),
        (
            {"sealmq-engine": {"middle": "normal"}, "middle": {"tokio": "normal"}},
            "crate sealmq-engine reaches tokio: sealmq-engine > middle > tokio",
        ),
        ({"sealmq-extra": {}}, "crate sealmq-extra has no floor: add it to MAY_USE in scripts/check_crates.py"),
    ],
)
def test_a_crate_off_its_floor_is_named(tmp_path: Path, uses: dict[str, dict[str, str]], sentence: str) -> None:
    assert sentence in _offences(tmp_path, uses)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"license": "GPL-3.0-only"}, "crate odd 1.0.0 has the licence GPL-3.0-only, which is not on the list"),
        ({"license": None}, "crate odd 1.0.0 has the licence unknown, which is not on the list"),
        (
            {"source": "git+https://example.org/odd"},
            "crate odd 1.0.0 comes from git+https://example.org/odd, not from the registry of the others",
        ),
        ({"rust_version": "1.90.0"}, "crate odd 1.0.0 needs Rust 1.90.0, newer than the stated 1.85"),
    ],
)
def test_a_foreign_crate_that_may_not_come_in_is_named(tmp_path: Path, facts: dict[str, Any], sentence: str) -> None:
    assert _offences(tmp_path, {"sealmq-node": {"odd": "normal"}}, odd=facts) == [sentence]


def test_a_clock_in_the_engine_is_named_but_not_one_in_its_tests(tmp_path: Path) -> None:
    metadata = _metadata(tmp_path, {"sealmq-engine": {}})
    graph = check_crates.graph_from(metadata)
    source = tmp_path / "sealmq-engine" / "src" / "lib.rs"
    source.write_text("let now = Instant::now();\n#[cfg(test)]\nlet now = Instant::now();\n")
    assert list(check_crates.offences(graph, tmp_path)) == [
        "sealmq-engine/src/lib.rs:1: Instant::now has no place in sealmq-engine"
    ]


def test_a_codec_that_does_not_state_no_std_is_named(tmp_path: Path) -> None:
    graph = check_crates.graph_from(_metadata(tmp_path, {"sealmq-codec": {}}))
    (tmp_path / "sealmq-codec" / "src" / "lib.rs").write_text("#![forbid(unsafe_code)]\n")
    assert list(check_crates.offences(graph, tmp_path)) == [
        "sealmq-codec/src/lib.rs: sealmq-codec must state #![no_std]"
    ]


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("ISC AND (Apache-2.0 OR GPL-3.0-only) AND OpenSSL", True),
        ("ISC AND (AGPL-3.0-only OR GPL-3.0-only)", False),
        ("(MIT", False),
        ("", False),
    ],
)
def test_a_licence_expression_is_read_by_its_operators(expression: str, allowed: bool) -> None:
    assert check_crates.licence_allowed(expression) is allowed


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("src/long.py", "x = 1\n" * 501, "501 lines, 500 is the most"),
        ("src/sealmq/utils.py", "", "a file of this name has no owner"),
        ("src/a.py", "class SessionManager:\n", "has no owner: name what it does"),
        ("crates/a.rs", "pub(crate) struct TopicUtil;\n", "has no owner: name what it does"),
        ("crates/a.rs", "    pub fn get_topic() {}\n", "without get_"),
        ("src/a.py", "x = 1  # TODO: later\n", "unfinished work"),
        ("crates/a.rs", "    todo!()\n", "unfinished work"),
        ("README.md", "cd /home/someone/sealmq\n", "a path of one machine"),
        ("tests/a.py", 'KEY = "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49"\n', "a private key"),
    ],
)
def test_a_file_that_breaks_a_rule_is_named(path: str, text: str, wrong: str) -> None:
    found = list(check_files.offences(path, text))
    assert len(found) == 1
    assert found[0].startswith(path)
    assert wrong in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/a.py", "x = 1\n" * 500),
        ("src/a.py", "class Session:\n    def topic(self): ...\n"),
        ("crates/a.rs", "let value = map.get_mut(key);\n"),
        ("src/a.py", 'if line == "-----BEGIN PRIVATE KEY-----":\n'),
        ("docs/a.md", "the log of a long story\n" * 900),
    ],
)
def test_a_file_that_keeps_the_rules_passes(path: str, text: str) -> None:
    assert list(check_files.offences(path, text)) == []


# --- what prepare.sh says when it cannot go on ----------------------------------------------------------------------


def _bare_checkout(folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run prepare.sh in a checkout and on a PATH that hold nothing but the basics and `programs` (name: shell text)."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "prepare.sh").write_text((ROOT / "scripts" / "prepare.sh").read_text())
    (folder / "Cargo.toml").write_text('rust-version = "1.85"\n')
    path = folder / "bin"
    path.mkdir()
    for name in ("cat", "date", "dirname", "head", "mkdir", "sed", "sort", "tail"):
        found = next(Path(place, name) for place in ("/usr/bin", "/bin") if Path(place, name).exists())
        (path / name).symlink_to(found)
    basics = {"python3": f'exec "{sys.executable}" "$@"', "cc": "exit 0", "pkg-config": "exit 0"}
    for name, text in (basics | programs).items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)
    script = (folder / "scripts" / "prepare.sh").read_text().replace(':/usr/sbin:/sbin"', '"')
    (folder / "scripts" / "prepare.sh").write_text(script)
    return subprocess.run(
        ["/bin/sh", "scripts/prepare.sh", "run"],
        cwd=folder,
        env={"PATH": str(path), "HOME": str(folder), "SSL_CERT_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_without_root_the_missing_packages_are_named_for_copying(tmp_path: Path) -> None:
    done = _bare_checkout(tmp_path, {"apt-get": "exit 1", "id": "echo 1000"})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: these packages are missing: cargo-web rustc-web",
        "mend: sudo apt-get install cargo-web rustc-web",
    ]


def test_on_another_system_the_needed_rust_is_named(tmp_path: Path) -> None:
    done = _bare_checkout(tmp_path, {"cargo": "exit 0", "rustc": "echo rustc 1.63.0"})
    assert done.returncode == 2
    assert "rust 1.85 or newer comes from https://rustup.rs" in done.stderr


def test_an_old_rustup_toolchain_is_to_be_updated_by_its_owner(tmp_path: Path) -> None:
    done = _bare_checkout(tmp_path, {"cargo": "exit 0", "rustc": "echo rustc 1.84.1", "rustup": "exit 0"})
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: rust 1.84.1 is older than 1.85", "mend: rustup update stable"]


def test_a_failing_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    done = _bare_checkout(
        tmp_path,
        {
            "apt-get": "echo no network; exit 100",
            "id": "echo 0",
            "env": 'while [ "${1#*=}" != "$1" ]; do shift; done; exec "$@"',
        },
    )
    assert done.returncode == 2
    assert "no network" in done.stderr
    assert "mend: read target/log/packages-list.log" in done.stderr
