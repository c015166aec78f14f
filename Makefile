# Owns the names under which this project is run, tested and checked; every target sets up what it needs.
# Refuses to know how: that stands in scripts/.

.DEFAULT_GOAL := help
.PHONY: help run test crash powerloss powerloss-fifty soak fuzz clauses check fmt bench bench-durability bench-counts constrained docs wheel clean storm conformance

RUN_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
STORM_ARGS ?=
CONFORMANCE_ARGS ?=
ROUNDS ?= 200
RUNS ?= 10
SEED ?=
SEEDS ?= 10000
FROM ?= 0
SECONDS ?= 60
TARGETS ?=

help:           ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run RUN_ARGS='--mqtts 0.0.0.0:8883'    options for sealmq up"
	@echo "  make test TEST_ARGS='-k refusal -x'         options for pytest"

run:            ## build what is needed and start a broker here; its data is in ./sealmq-data
	@scripts/prepare.sh run
	@exec .venv/bin/sealmq up $(RUN_ARGS)

test:           ## the tests of both languages, real MQTT clients among them
	@scripts/prepare.sh test
	@scripts/test.sh $(TEST_ARGS)

crash:          ## kill the broker under load, ROUNDS times; nothing acknowledged may be lost
	@scripts/prepare.sh test
	@.venv/bin/python tests/crash/rounds.py --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

powerloss:      ## the same on a disk that forgets what was not synced: the power is cut ROUNDS times (root, /dev/fuse)
	@scripts/prepare.sh test
	@.venv/bin/python tests/powerloss/rounds.py --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

powerloss-fifty: ## fifty acknowledged messages before the power goes, RUNS times, here and with mosquitto
	@scripts/prepare.sh test
	@PATH="$$PATH:/usr/sbin" .venv/bin/python tests/powerloss/fifty.py --runs $(RUNS)

soak:           ## SEEDS histories of the engine beside its model, on all processors; a wrong one says how to replay it
	@scripts/prepare.sh test
	@SEALMQ_SIM_SEEDS=$(SEEDS) SEALMQ_SIM_FROM=$(FROM) SEALMQ_SIM_SEED=$(SEED) cargo test --release --locked -p sealmq-engine --test sim \
		--config profile.release.package.sealmq-engine.debug-assertions=true -- --nocapture

fuzz:           ## each fuzz target (or TARGETS) for SECONDS; a crash says how to replay it
	@scripts/prepare.sh check
	@scripts/fuzz.sh $(SECONDS) $(TARGETS)

clauses:        ## conformance as a number: docs/reference/conformance.md from the table, the code and the tests
	@python3 scripts/clauses.py

check:          ## formatting, lint, types, import rules, crate rules
	@scripts/prepare.sh check
	@scripts/check.sh

fmt:            ## format both languages
	@scripts/prepare.sh check
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .
	@cargo fmt --all

bench:          ## measure beside seven brokers and the floor; docs/benchmarks.md from what came out
	@scripts/prepare.sh test
	@.venv/bin/python -c 'import matplotlib' 2>/dev/null || .venv/bin/pip install --quiet 'matplotlib>=3.9'
	@PATH="$$PATH:/usr/sbin" .venv/bin/python -m bench $(BENCH_ARGS)

bench-durability: ## durable messages beside the disk itself, fifty messages before a kill, a restart
	@scripts/prepare.sh test
	@PATH="$$PATH:/usr/sbin" .venv/bin/python -m bench.durability $(BENCH_ARGS)
	@PATH="$$PATH:/usr/sbin" .venv/bin/python -m bench.fifty
	@.venv/bin/python -m bench.restart

bench-counts:   ## instructions of codec and engine beside the record; fails when one grew by more than a tenth
	@scripts/prepare.sh test
	@.venv/bin/python -m bench.counts $(BENCH_ARGS)

constrained:    ## what a connection costs a small device, with mbedTLS, wolfSSL and GnuTLS
	@scripts/prepare.sh test
	@.venv/bin/python -m bench.constrained $(BENCH_ARGS)

storm:          ## a healthy pair of clients while others misbehave, beside Debian's mosquitto
	@scripts/prepare.sh test
	@PATH="$$PATH:/usr/sbin" .venv/bin/python -m bench.storm $(STORM_ARGS)

conformance:    ## suites that are not ours, over TLS; fetched when they are not in target/conformance
	@scripts/prepare.sh test
	@.venv/bin/python -m tests.conformance $(CONFORMANCE_ARGS)

docs:           ## settings and causes in docs/reference, the Rust crates in target/doc
	@scripts/prepare.sh run
	@.venv/bin/python -m sealmq.config.reference >docs/reference/config.md
	@.venv/bin/python -m sealmq.trace.causes.reference >docs/reference/causes.md
	@cargo doc --release --locked --workspace --no-deps

wheel:          ## a wheel for CPython 3.11 and later, in dist/
	@scripts/prepare.sh run
	@.venv/bin/maturin build --release --locked --features vendored-openssl --out dist

clean:          ## remove what was built here; ./sealmq-data stays
	rm -rf target .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f src/sealmq/*.so
	find src tests scripts bench -name __pycache__ -prune -exec rm -rf {} +
