# Everything that is done here, by name. `make` alone lists it.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
CRD := crds/ecrrepositorysyncs.ecr-sync.io.yaml
MANIFESTS := deploy/base/ecr-sync.yaml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# $(call need,program,what to install)
need = @command -v $(1) >/dev/null || { echo "make: $(1) is not in PATH: install $(2)" >&2; exit 1; }

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-rust
need-rust:
	$(call need,$(CARGO),Rust from https://rustup.rs)
	$(call need,cc,a C compiler (on Debian and Ubuntu: apt-get install gcc libc6-dev))

.PHONY: need-lint
need-lint: need-rust
	@$(CARGO) fmt --version >/dev/null && $(CARGO) clippy --version >/dev/null || \
		{ echo "make: cargo fmt and cargo clippy are needed: rustup component add rustfmt clippy" >&2; exit 1; }

.PHONY: need-tools
need-tools:
	$(call need,go,Go from https://go.dev/dl)
	$(call need,python3,Python 3 (on Debian and Ubuntu: apt-get install python3 python3-venv))

.PHONY: tools
tools: need-tools ## Build the external programs of tests and demo: a real API server, etcd, crane ... (once)
	@tools/build

.PHONY: build
build: need-rust ## Build the operator and the testbed
	$(CARGO) build --workspace --locked

.PHONY: demo
demo: tools build ## Show the operator at work on this machine, without AWS or a cluster; DEMO=once ends by itself, MONITORING=1 adds Prometheus
	@$(BIN)/ecr-testbed demo $(if $(filter once,$(DEMO)),--once) $(if $(MONITORING),--monitoring=$(MONITORING))

# Most of a test is waiting for processes: more of them than cores.
TEST_THREADS ?= 4

.PHONY: test
test: need-rust tools ## Run all tests, with a real API server and real registries
	$(CARGO) test --workspace --locked -- --test-threads=$(TEST_THREADS)

.PHONY: bench
bench: need-rust need-tools ## Measure, in release, beside other tools; BENCH=quick for a look, ARGS=--help for a part
	@tools/build crane regctl regsync oras registry kubernetes etcd
	$(CARGO) bench --locked $(if $(ARGS),--bench copy -- $(ARGS),--bench '*')

.PHONY: lint
lint: need-lint build ## Check formatting, lints, dependencies, and that crds/ is up to date
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@tools/build cargo-deny
	target/tools/bin/cargo-deny --locked check --deny unmatched-skip licenses bans sources
	@$(BIN)/ecr-sync crd | diff -u $(CRD) - || \
		{ echo "make lint: $(CRD) is not what the code says: run make crds and commit the result" >&2; exit 1; }

.PHONY: crds
crds: build ## Write the CustomResourceDefinition to crds/ and the chart, and the chart's manifests to deploy/
	@mkdir -p crds
	$(BIN)/ecr-sync crd >$(CRD).new
	@mv $(CRD).new $(CRD)
	@cp $(CRD) charts/ecr-sync/files/crd.yaml
	@cp deploy/monitoring/alerts.yaml deploy/monitoring/dashboard.json charts/ecr-sync/files/
	@tools/build helm
	@{ echo "# Made by make crds from charts/ecr-sync."; \
		target/tools/bin/helm template ecr-sync charts/ecr-sync --namespace ecr-sync-system --kube-version 1.34.0 \
			--set crds.keep=false | grep -v -e '^# Source' -e 'helm.sh/chart:' -e 'managed-by: Helm'; } >$(MANIFESTS).new
	@mv $(MANIFESTS).new $(MANIFESTS)

.PHONY: docs
docs: need-rust ## Write docs/api.md, docs/cli.md, the policy in docs/iam.md and the chart's README from the code
	UPDATE_DOCS=1 $(CARGO) test --locked --test it -- docs::reference docs::command_line docs::iam chart::readme

ENGINE ?= $(firstword $(foreach engine,docker podman buildah,$(if $(shell $(engine) info >/dev/null 2>&1 && echo yes),$(engine))))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
IMAGE ?= ecr-sync:$(VERSION)

.PHONY: image
image: ## Build the image, with docker, podman or buildah; IMAGE=name:tag PLATFORM=linux/arm64
	@test -n "$(ENGINE)" || { echo "make image: no docker, podman or buildah works here; make rootfs lays the image out without one" >&2; exit 1; }
	$(ENGINE) build $(if $(PLATFORM),--platform $(PLATFORM)) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) --tag $(IMAGE) .

.PHONY: rootfs
rootfs: need-rust ## Lay the image out without a container engine (root, mmdebstrap), and start the operator in it; TARGET=aarch64-unknown-linux-gnu
	$(CARGO) build --release --locked --bin ecr-sync $(if $(TARGET),--target $(TARGET))
	tools/image/rootfs $(or $(CARGO_TARGET_DIR),target)/$(if $(TARGET),$(TARGET)/)release/ecr-sync target/ecr-sync-image.tar.gz

.PHONY: clean
clean: ## Remove what was built here; the external programs stay in their cache
	rm -rf $(or $(CARGO_TARGET_DIR),target)
