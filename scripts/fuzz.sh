#!/bin/sh
# Owns how the fuzz targets are built and run: each for so many seconds, one after the other, on any stable compiler.
# Refuses to know what a target looks at; that stands on top of it in fuzz/targets.
#
# usage: scripts/fuzz.sh SECONDS [TARGET...]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-decode roundtrip engine hello websocket http client}
out=fuzz/target/runs

fail() { # fail WHAT MEND
    printf 'error: %s\nmend: %s\n' "$1" "$2" >&2
    exit 2
}

command -v c++ >/dev/null 2>&1 || fail "no C++ compiler was found, and libFuzzer is built from source" "sudo apt-get install g++"
host=$(rustc -vV | sed -n 's/^host: //p')
[ -n "$host" ] || fail "rustc does not say what it builds for" "scripts/prepare.sh check"

# What cargo-fuzz sets, less the sanitizers: they need a nightly compiler, and there is no unsafe code here to watch.
# --target keeps the flags away from build scripts.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export RUSTFLAGS
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/fuzz/target}"
mkdir -p "$out"
printf 'building the fuzz targets (the first time takes minutes) ... '
if ! cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" >"$out/build.log" 2>&1; then
    tail -n 40 "$out/build.log" >&2
    fail "the fuzz targets were not built" "read $out/build.log; the lines above are its end"
fi
printf 'done\n'
python3 scripts/fuzz_corpus.py fuzz/corpus

failed=
for target in $targets; do
    binary="$CARGO_TARGET_DIR/$host/release/$target"
    [ -x "$binary" ] || fail "there is no fuzz target $target" "look into fuzz/targets"
    mkdir -p "fuzz/artifacts/$target"
    if "$binary" "fuzz/corpus/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" >"$out/$target.log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log")
        printf '  %-10s %10s executions, nothing found\n' "$target" "$executions"
    else
        crash=$(sed -n 's/.*Test unit written to //p' "$out/$target.log" | tail -n 1)
        grep -m 3 -E 'panicked|SUMMARY|ERROR' -A 2 "$out/$target.log" || tail -n 20 "$out/$target.log"
        printf '  %-10s FAILED; replay: %s %s\n' "$target" "$binary" "$crash"
        failed="$failed $target"
    fi
done
[ -z "$failed" ] || { printf 'failed:%s\n' "$failed" >&2; exit 1; }
