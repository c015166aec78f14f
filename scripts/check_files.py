"""Owns the house rules that no linter knows: file length, names without an owner, words that do not belong in a file.

Refuses to know what the files do.

It reads the files git tracks (or would track); run it with `make check`. Exit status 0: every rule holds, 1: not so.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 500  # lines; a file aims at 300 and is cut along what it owns before this
SOURCE = {".py", ".pyi", ".rs", ".sh", ".js", ".css", ".html"}
TEXT = SOURCE | {".md", ".toml", ""}

NAMES = {"common", "helper", "helpers", "misc", "types", "util", "utils"}

# pattern, the files it applies to, what is wrong with a match
WORDS: tuple[tuple[re.Pattern[str], set[str], str], ...] = (
    (
        re.compile(r"^\s*(?:pub(?:\([a-z]+\))? +)?(?:class|struct|enum|trait) +\w*(?:Manager|Helper|Util)s?\b"),
        SOURCE,
        "a type named Manager, Helper or Util has no owner: name what it does",
    ),
    (
        # get_command: click's name for what a lazy command group overrides.
        re.compile(r"^\s*(?:pub(?:\([a-z]+\))? +)?(?:async +)?(?:def|fn) +get_(?!command\b)"),
        SOURCE,
        "a getter is named after what it gives, without get_",
    ),
    (
        re.compile(r"\b(?:TODO|FIXME|XXX)\b|\b(?:todo|unimplemented)!|\bNotImplementedError\b"),
        SOURCE,
        "unfinished work is not left in the source",
    ),
    (
        re.compile(r"(?<![\w.~-])/(?:root|home/\w+|Users/\w+)/"),
        TEXT,
        "a path of one machine",
    ),
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*$|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\n)?[A-Za-z0-9+/]{16}"
        ),
        TEXT | {".pem", ".key"},
        "a private key: tests make their own",
    ),
)

# This file spells out what it looks for.
SELF = {"scripts/check_files.py", "tests/unit/test_house.py"}


def offences(path: str, text: str) -> Iterator[str]:
    """One sentence per broken rule in the file `path` (relative, with slashes) that holds `text`."""
    suffix = Path(path).suffix
    if path in SELF:
        return
    lines = text.splitlines()
    if suffix in SOURCE:
        if len(lines) > LONGEST:
            yield f"{path}: {len(lines)} lines, {LONGEST} is the most: cut it along what it owns"
        if Path(path).stem in NAMES:
            yield f"{path}: a file of this name has no owner: name it after what it owns"
    for number, line in enumerate(lines, start=1):
        for pattern, suffixes, wrong in WORDS:
            if suffix in suffixes and pattern.search(line):
                yield f"{path}:{number}: {wrong}"


def tracked() -> list[str]:
    """Paths of the checkout's own files; where there is no git, all files outside of what is generated."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        generated = {".git", ".venv", "target", "dist", "sealmq-data"}
        return sorted(
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if path.is_file()
            and path.relative_to(ROOT).parts[0] not in generated
            and not any(part == "__pycache__" or part.endswith("_cache") for part in path.parts)
        )
    return sorted(path for path in listing.split("\0") if path)


def main() -> int:
    """Print the offences of the whole checkout."""
    found: list[str] = []
    count = 0
    for path in tracked():
        file = ROOT / path
        if Path(path).suffix in TEXT | {".pem", ".key"} and file.is_file():
            count += 1
            found += offences(path, file.read_text(encoding="utf-8", errors="replace"))
    print(*found, sep="\n", end="\n" if found else "")
    if not found:
        print(f"{count} files: every rule holds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
