"""Owns the rules between the Rust crates: who may use whom, which licences and sources come in, what a floor may touch.

Refuses to know how a crate is built or what is in it, beyond the words that its floor forbids.

It reads `cargo metadata` for the platform it runs on; run it with `make check`. Exit status 0: every rule holds, 1: not
so, 2: cargo could not tell.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent

# Which crates of ours each crate may name; a crate that is not listed is an offence.
MAY_USE: dict[str, set[str]] = {
    "sealmq-codec": set(),
    "sealmq-store": set(),
    "sealmq-engine": {"sealmq-codec", "sealmq-store"},
    "sealmq-node": {"sealmq-codec", "sealmq-store", "sealmq-engine"},
    "sealmq-pyext": {"sealmq-codec", "sealmq-store", "sealmq-engine", "sealmq-node"},
}

# Libraries that only one crate may name, whatever its tests do.
ONLY_IN: dict[str, str] = {
    "argon2": "sealmq-node",
    "aws-lc-rs": "sealmq-node",
    "mio": "sealmq-node",
    "openssl": "sealmq-node",
    "pyo3": "sealmq-pyext",
    "rusqlite": "sealmq-store",
    "rustls": "sealmq-node",
    "socket2": "sealmq-node",
}

# Libraries that may not be reached at all from a crate, however deep.
OUT_OF_REACH: dict[str, set[str]] = {
    "sealmq-codec": {"getrandom", "libc", "mio", "openssl", "pyo3", "rusqlite", "rustls", "socket2", "tokio"},
    "sealmq-engine": {"mio", "openssl", "pyo3", "rustls", "socket2", "tokio"},
    "sealmq-node": {"pyo3", "tokio"},
}

# Words the source of a deterministic floor may not hold: time and the world come in as arguments.
FORBIDDEN_WORDS: dict[str, tuple[str, ...]] = {
    "sealmq-codec": ("Instant::now", "SystemTime", "std::fs", "std::net", "std::thread", "std::time"),
    "sealmq-engine": ("Instant::now", "SystemTime::now", "std::fs", "std::net", "std::thread"),
}
REQUIRED_WORDS: dict[str, tuple[str, ...]] = {"sealmq-codec": ("#![no_std]", "#![forbid(unsafe_code)]")}

LICENCES = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


class Edge(NamedTuple):
    """One crate naming another: `kinds` holds `normal`, `build` and `dev` as far as they apply."""

    to: str
    kinds: frozenset[str]


class Graph(NamedTuple):
    """The resolved dependency graph: crates by package id."""

    packages: dict[str, dict[str, Any]]
    edges: dict[str, list[Edge]]
    ours: set[str]

    def name(self, package: str) -> str:
        return str(self.packages[package]["name"])

    def id_of(self, crate: str) -> str | None:
        """The package id of a crate of ours, or None when the workspace has no such crate."""
        return next((package for package in self.ours if self.name(package) == crate), None)

    def reached(self, start: str) -> Iterator[list[str]]:
        """Every package reached from `start` at run or build time, as the path of names that leads to it."""
        seen = {start}
        paths = [[start]]
        while paths:
            path = paths.pop(0)
            for edge in self.edges[path[-1]]:
                if edge.to not in seen and edge.kinds - {"dev"}:
                    seen.add(edge.to)
                    paths.append([*path, edge.to])
                    yield [self.name(step) for step in paths[-1]]


def graph_from(metadata: dict[str, Any]) -> Graph:
    """Read the output of `cargo metadata --format-version 1`."""
    return Graph(
        packages={package["id"]: package for package in metadata["packages"]},
        edges={
            node["id"]: [
                Edge(dep["pkg"], frozenset(kind["kind"] or "normal" for kind in dep["dep_kinds"]))
                for dep in node["deps"]
            ]
            for node in metadata["resolve"]["nodes"]
        },
        ours=set(metadata["workspace_members"]),
    )


def offences(graph: Graph, root: Path) -> Iterator[str]:
    """One sentence per broken rule."""
    for package in sorted(graph.ours):
        yield from _floor(graph, package)
    yield from _out_of_reach(graph)
    yield from _foreign(graph)
    yield from _words(graph, root)


def _floor(graph: Graph, package: str) -> Iterator[str]:
    crate = graph.name(package)
    if crate not in MAY_USE:
        yield f"crate {crate} has no floor: add it to MAY_USE in scripts/check_crates.py"
        return
    for edge in graph.edges[package]:
        used = graph.name(edge.to)
        if edge.to in graph.ours and used not in MAY_USE[crate]:
            yield f"crate {crate} uses {used}, which is not below it"
        owner = ONLY_IN.get(used)
        if owner is not None and owner != crate and edge.kinds - {"dev"}:
            yield f"crate {crate} uses {used}, which only {owner} may"


def _out_of_reach(graph: Graph) -> Iterator[str]:
    for crate, banned in OUT_OF_REACH.items():
        start = graph.id_of(crate)
        for path in graph.reached(start) if start else ():
            if path[-1] in banned:
                yield f"crate {crate} reaches {path[-1]}: {' > '.join(path)}"


def _foreign(graph: Graph) -> Iterator[str]:
    """Licence and source of each crate that becomes part of what is shipped, or helps to build it."""
    shipped = {path for package in graph.ours for path in _ids_reached(graph, package)}
    oldest = min(_version(graph.packages[package]["rust_version"]) for package in graph.ours)
    foreign = sorted(graph.edges.keys() - graph.ours)
    sources = Counter(str(graph.packages[package]["source"]) for package in foreign)
    registry = next((source for source, _ in sources.most_common() if source.startswith("registry+")), "")
    for package in foreign:
        facts = graph.packages[package]
        label = f"{facts['name']} {facts['version']}"
        if facts["source"] != registry:
            origin = facts["source"] or "a path outside the workspace"
            yield f"crate {label} comes from {origin}, not from the registry of the others"
        if package not in shipped:
            continue
        if not licence_allowed(facts["license"] or ""):
            yield f"crate {label} has the licence {facts['license'] or 'unknown'}, which is not on the list"
        if facts["rust_version"] and _version(facts["rust_version"]) > oldest:
            stated = ".".join(map(str, oldest))
            yield f"crate {label} needs Rust {facts['rust_version']}, newer than the stated {stated}"


def _ids_reached(graph: Graph, start: str) -> set[str]:
    seen, open_ends = {start}, [start]
    while open_ends:
        for edge in graph.edges[open_ends.pop()]:
            if edge.to not in seen and edge.kinds - {"dev"}:
                seen.add(edge.to)
                open_ends.append(edge.to)
    return seen


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))[:2]


def licence_allowed(expression: str) -> bool:
    """Whether an SPDX expression (SPDX 2.3 annex D; `/` is cargo's old spelling of OR) can be met from LICENCES."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def any_of() -> bool:
        result = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = all_of() or result
        return result

    def all_of() -> bool:
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        if not tokens:
            return False
        licence = tokens.pop(0)
        if licence == "(":
            result = any_of()
            return bool(tokens) and tokens.pop(0) == ")" and result
        if tokens and tokens[0] == "WITH":
            licence = " ".join([licence, *tokens[:2]])
            del tokens[:2]
        return licence in LICENCES

    return any_of() and not tokens


def _words(graph: Graph, root: Path) -> Iterator[str]:
    for crate, words in FORBIDDEN_WORDS.items():
        package = graph.id_of(crate)
        if package is None:
            continue
        source = Path(graph.packages[package]["manifest_path"]).parent / "src"
        for file in sorted(source.rglob("*.rs")):
            # What a module tests with is not what it ships: the tests of a file stand at its end.
            shipped = file.read_text(encoding="utf-8").partition("#[cfg(test)]")[0]
            for number, line in enumerate(shipped.splitlines(), start=1):
                for word in words:
                    if word in line.partition("//")[0]:
                        yield f"{file.relative_to(root)}:{number}: {word} has no place in {crate}"
        for word in REQUIRED_WORDS.get(crate, ()):
            if word not in (source / "lib.rs").read_text(encoding="utf-8"):
                yield f"{(source / 'lib.rs').relative_to(root)}: {crate} must state {word}"


def main() -> int:
    """Run `cargo metadata` and print the offences."""
    try:
        host = re.search(r"^host: (\S+)$", _output("rustc", "-vV"), re.MULTILINE)
        platform = ("--filter-platform", host[1]) if host else ()
        graph = graph_from(json.loads(_output("cargo", "metadata", "--format-version", "1", "--locked", *platform)))
    except subprocess.CalledProcessError as fault:
        print(fault.stderr.strip(), f"error: {fault.cmd[0]} cannot tell the crates", sep="\n", file=sys.stderr)
        print(
            "mend: when Cargo.lock is behind a Cargo.toml, run `cargo update --workspace` and commit it",
            file=sys.stderr,
        )
        return 2
    found = list(offences(graph, ROOT))
    print(*found, sep="\n", end="\n" if found else "")
    if not found:
        print(f"{len(graph.ours)} crates of ours, {len(graph.edges) - len(graph.ours)} of others: every rule holds")
    return 1 if found else 0


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
