# rustup's directory first: a distribution's own cargo is usually too old.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

DEMO := out/demo.mp4
PROMPT := a big orange balloon floating over the sea at sunset

.PHONY: help setup demo test bench fmt lint

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: ## install what the build needs (Debian, Ubuntu); nothing when all is there
	@scripts/setup.sh

demo: setup ## render a 20 s video with the bundled toy model
	cargo build --release
	@mkdir -p $(dir $(DEMO))
	cargo run --release --quiet -- generate "$(PROMPT)" --model-dir weights/toy --seconds 20 --seed 1 --overwrite -o $(DEMO)
	@echo "The video is in $(abspath $(DEMO))"

test: setup ## format check, lints and all tests
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

bench: setup ## speed measurements
	cargo bench

fmt: ## format the sources
	cargo fmt

lint: setup ## format check and lints
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
