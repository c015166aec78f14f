#!/bin/sh
# Owns the list of checks that a change must pass besides its tests. All of them run; the exit status is 1 when one fails.
# Refuses to know what must be installed for them.
#
# usage: scripts/check.sh
set -u
cd "$(dirname "$0")/.."
bin=.venv/bin
out=target/log/check
mkdir -p $out
failed=
export CARGO_TERM_COLOR=never
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1

check() { # check NAME COMMAND...: one line, and the output when it fails
    name=$1
    shift
    started=$(date +%s)
    if "$@" >"$out/$name.log" 2>&1 </dev/null; then
        printf '  %-14s ok      %3s s\n' "$name" "$(($(date +%s) - started))"
    else
        printf '  %-14s FAILED  %3s s: %s\n' "$name" "$(($(date +%s) - started))" "$*"
        cat "$out/$name.log"
        failed="$failed $name"
    fi
}

check files $bin/python scripts/check_files.py
check crates $bin/python scripts/check_crates.py
check ruff-format $bin/ruff format --check .
check ruff $bin/ruff check .
check mypy $bin/mypy
check pyright $bin/pyright --pythonpath $bin/python
check imports $bin/lint-imports --no-cache
check stubs $bin/stubtest sealmq._engine
check rustfmt cargo fmt --all --check
# The release profile shares the compiled C code with the engine.
check clippy cargo clippy --release --locked --workspace --all-targets -- -D warnings

if [ -n "$failed" ]; then
    printf 'failed:%s\nmend: make fmt mends the formatting; the rest is told above\n' "$failed"
    exit 1
fi
