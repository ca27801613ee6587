# Sets up what it needs by itself, on a machine with Rust, Python 3 and make.

VENV := .venv
BINARY := target/release/nlb-hostname-target

export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo test format lint rust template build mutants clean

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Tells a failover as a story, on stand-ins
	cargo run --locked --quiet --example demo

test: format lint rust template ## Passes every test

format:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- --deny warnings

# The scenarios run the binary as it is released.
rust:
	tests/mutants/run --check
	cargo build --locked --release
	FUNCTION_BINARY=$(CURDIR)/$(BINARY) cargo test --locked --workspace

template: $(VENV)/installed
	sam validate --lint
	sam build

build: template ## Builds what sam deploy uploads, without a SAM CLI of your own

mutants: ## Breaks the code in each way that a patch describes, and expects a test to notice
	tests/mutants/run

clean: ## Deletes what was made here
	rm -rf target .aws-sam $(VENV)

$(VENV)/installed: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
