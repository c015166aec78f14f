#!/bin/sh
# Owns the order of the test runs and the one exit status of all.
# Refuses to know what must be installed for them.
#
# usage: scripts/test.sh [PYTEST-ARGUMENT...]
set -u
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin" # Debian installs mosquitto there, outside an ordinary user's PATH

# The release profile, so that what the engine was built from is not built twice; debug assertions in our crates only.
# pyext is left out: it is translation, has no tests of its own, and is tested from Python.
assertions=
for crate in codec store engine node; do
    assertions="$assertions --config profile.release.package.sealmq-$crate.debug-assertions=true"
done
# shellcheck disable=SC2086 # pairs of option and value
cargo test --release --locked --workspace --exclude sealmq-pyext $assertions
rust=$?

.venv/bin/python -m bench.counts
counts=$?

.venv/bin/python -m pytest "$@"
python=$?

if [ $rust -ne 0 ]; then printf 'error: cargo test failed (exit status %s); its output stands above that of pytest\n' $rust >&2; fi
if [ $counts -ne 0 ]; then printf 'error: codec or engine needs more instructions than on record; the list stands above the output of pytest\n' >&2; fi
[ $rust -eq 0 ] && [ $counts -eq 0 ] && [ $python -eq 0 ]
