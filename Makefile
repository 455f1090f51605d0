# rustup's directory first: a distribution's own cargo is usually too old.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

DEMO := out
FIRST := a big orange balloon floating over the sea at sunset
SECOND := a red ball spinning in a forest on a sunny day
# The program as `cargo build` leaves it: nothing is compiled twice.
PROGRAM := $(or $(CARGO_TARGET_DIR),target)/release/deepforcing
RENDER := $(PROGRAM) generate --model toy --seconds 20 --seed 1 --overwrite

# Where the CUDA toolkit for `make cuda` is, or is put when there is none.
CUDA_HOME ?= $(or $(wildcard /usr/local/cuda),$(HOME)/.cache/deepforcing/cuda-toolkit)

.PHONY: help setup demo cuda dist wheel wheel-test test fuzz bench soak audit reference readme-picture fmt lint

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: ## install what the build needs (Debian, Ubuntu); nothing when all is there
	@scripts/setup.sh

demo: ## render 20 s videos with the bundled toy model: two with Deep Forcing, one first in, first out
	@test -x $(PROGRAM) || echo "make demo: the first build takes about 5 minutes on two idle cores, up to 15 on busy ones, and 2 GB in $(or $(CARGO_TARGET_DIR),target); the videos then take a minute"
	@scripts/setup.sh
	cargo build --release
	@mkdir -p $(DEMO)
	$(RENDER) "$(FIRST)" -o $(DEMO)/balloon.mp4
	$(RENDER) "$(FIRST)" --policy fifo -o $(DEMO)/balloon-fifo.mp4
	$(RENDER) "$(SECOND)" -o $(DEMO)/ball.mp4
	@echo "The videos are in $(abspath $(DEMO))"

cuda: setup ## build for NVIDIA GPUs; CUDA_COMPUTE_CAP=90 for Hopper, 80 (the default) for all newer ones
	@test -x $(CUDA_HOME)/bin/nvcc || scripts/cuda_toolkit.sh $(CUDA_HOME) >/dev/null
	PATH="$(CUDA_HOME)/bin:$$PATH" LIBRARY_PATH="$(CUDA_HOME)/lib:$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib/stubs:$$LIBRARY_PATH" \
		CUDA_HOME=$(CUDA_HOME) CUDA_PATH=$(CUDA_HOME) CUDA_COMPUTE_CAP=$(or $(CUDA_COMPUTE_CAP),80) \
		cargo build --release --features cuda,cudnn

dist: ## a tarball for other distributions: the program without FFmpeg's libraries, man pages, completions, licences
	@scripts/dist.sh

wheel: ## a Python wheel with the program and the module deepforcing, in dist/ (WHEEL_FEATURES=cuda,cudnn: for NVIDIA GPUs)
	@scripts/wheel.sh

wheel-test: ## install a wheel of the present build into a fresh environment and use it from Python
	@scripts/wheel_test.sh

test: ## format check, lints and all tests
	@scripts/setup.sh --tests
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

fuzz: setup ## mutated files for every reader, an hour each (FUZZ_SECONDS, FUZZ_SEED, FUZZ_TARGET)
	DEEPFORCING_FUZZ_SECONDS=$(or $(FUZZ_SECONDS),3600) DEEPFORCING_FUZZ_SEED=$(or $(FUZZ_SEED),$(shell date +%s)) \
		$(if $(FUZZ_TARGET),DEEPFORCING_FUZZ_TARGET=$(FUZZ_TARGET)) cargo test --release --test fuzz -- --nocapture

bench: setup ## speed measurements
	cargo bench

soak: setup ## a day of video and a batch of 100,000 items, in minutes: memory and open files must stay as they are
	cargo bench --bench soak

audit: ## licences, sources and known faults of the crates (needs cargo-deny)
	@scripts/audit.sh

reference: setup ## write docs/reference.md from the program's own help
	DEEPFORCING_WRITE_REFERENCE=1 cargo test --test it docs::reference

readme-picture: setup ## render docs/demo.gif, the moving picture of README.md (needs ffmpeg)
	cargo build --release
	scripts/readme_picture.sh

fmt: ## format the sources
	cargo fmt

lint: setup ## format check and lints
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
