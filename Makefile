# All tasks of the project. `make` without a target lists them.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
CRD := crds/ecrrepositorysyncs.ecr-sync.io.yaml
MANIFESTS := deploy/base/install.yaml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# $(call need,program,what to install)
need = @command -v $(1) >/dev/null || { echo "make: $(1) is not in PATH: install $(2)" >&2; exit 1; }

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-rust
need-rust:
	$(call need,$(CARGO),Rust from https://rustup.rs)
	$(call need,cc,a C compiler (on Debian and Ubuntu: apt-get install gcc libc6-dev))

.PHONY: need-lint
need-lint: need-rust
	$(call need,python3,Python 3 (on Debian and Ubuntu: apt-get install python3))
	@$(CARGO) fmt --version >/dev/null && $(CARGO) clippy --version >/dev/null || \
		{ echo "make: cargo fmt and cargo clippy are needed: rustup component add rustfmt clippy" >&2; exit 1; }

.PHONY: need-tools
need-tools:
	$(call need,go,Go from https://go.dev/dl)
	$(call need,python3,Python 3 (on Debian and Ubuntu: apt-get install python3 python3-venv))

.PHONY: tools
tools: need-tools ## Build the external programs of tests and demo, once: kube-apiserver, etcd, crane ...
	@tools/build

# Without MAKEFLAGS, cargo takes no job slot of make: it would wait for one, or take the one of the tools.
.PHONY: build
build: need-rust ## Build the operator and the testbed
	MAKEFLAGS= $(CARGO) build --workspace --locked

.PHONY: need-demo
need-demo: need-rust
	$(call need,go,Go from https://go.dev/dl)

# Side by side: on two cores each fills the pauses of the other.
.PHONY: demo-tools
demo-tools: need-demo
	@tools/build kubernetes etcd crane helm registry

.PHONY: demo
demo: need-demo ## Run the operator on this machine, without AWS or a cluster; DEMO=once ends by itself, MONITORING=1 adds Prometheus
	@$(MAKE) --jobs=2 demo-tools build
	@$(BIN)/ecr-testbed demo $(if $(filter once,$(DEMO)),--once) $(if $(MONITORING),--monitoring=$(MONITORING))

# Tests mostly wait for processes, so more of them than cores may run.
TEST_THREADS ?= 4

.PHONY: test
test: need-rust tools ## Run all tests, with a real API server and real registries
	$(CARGO) test --workspace --locked -- --test-threads=$(TEST_THREADS)

RUNS ?= 1000

.PHONY: chaos
chaos: need-rust ## Simulate RUNS=1000 runs of the operator with random faults, from SEED=… on; a run that fails names its seed
	CHAOS_SEED=$(or $(SEED),$(shell date +%s)) CHAOS_RUNS=$(RUNS) $(CARGO) test --locked --lib -- --ignored --exact --nocapture chaos::chaos

.PHONY: bench
bench: need-rust need-tools ## Run the benchmarks in release mode, with other tools for comparison; BENCH=quick for a short run, ARGS=--help for a part
	@tools/build crane regctl regsync oras registry kubernetes etcd
	$(CARGO) bench --locked $(if $(ARGS),--bench copy -- $(ARGS),--bench chart_index --bench start --bench copy --bench one_shot)

.PHONY: scale
scale: need-rust need-tools ## Measure the operator with N resources (default 1000); AGAINST=PROGRAM adds another build, JSON=FILE a file, ARGS=--help more
	@tools/build kubernetes etcd
	$(CARGO) bench --locked --bench scale -- $(ARGS)

SECONDS ?= 60
EXECUTIONS ?= 10000000

# The stack is half of that of the program's threads. A failing input is written to target/fuzz/.
.PHONY: fuzz
fuzz: need-rust ## Fuzz one parser: TARGET=reference (or another folder of fuzz/seeds), SECONDS=60, EXECUTIONS=10000000
	$(call need,c++,a C++ compiler (on Debian and Ubuntu: apt-get install g++))
	@test -n "$(TARGET)" -a -d "fuzz/seeds/$(TARGET)" || \
		{ echo "make fuzz: set TARGET to one of: $(notdir $(wildcard fuzz/seeds/*))" >&2; exit 1; }
	RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/fuzz/rustc" $(CARGO) build --locked --release --package fuzz --features libfuzzer
	@mkdir -p target/fuzz/$(TARGET)
	ulimit -s 2048 && TARGET=$(TARGET) $(or $(CARGO_TARGET_DIR),target)/release/fuzz -runs=$(EXECUTIONS) \
		-max_total_time=$(SECONDS) -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-dict=fuzz/dictionaries/$(TARGET) -artifact_prefix=target/fuzz/ target/fuzz/$(TARGET) fuzz/seeds/$(TARGET)

.PHONY: lint
lint: need-lint build ## Check formatting, lints, style, dependencies, and that crds/ is up to date
	$(CARGO) fmt --all --check
	tools/style/check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@tools/build cargo-deny
	target/tools/bin/cargo-deny --locked check --deny unmatched-skip licenses bans sources
	@$(BIN)/ecr-sync crd | diff -u $(CRD) - || \
		{ echo "make lint: $(CRD) does not match the code: run make crds and commit the result" >&2; exit 1; }

.PHONY: advisories
advisories: need-rust ## Compare the dependencies with the database of security advisories; needs GitHub
	@tools/build cargo-deny
	target/tools/bin/cargo-deny --locked check advisories

.PHONY: crds
crds: build ## Write the CustomResourceDefinition to crds/ and the chart, and deploy/base/install.yaml from the chart
	@mkdir -p crds
	$(BIN)/ecr-sync crd >$(CRD).new
	@mv $(CRD).new $(CRD)
	@cp $(CRD) charts/ecr-sync/files/crd.yaml
	@cp deploy/monitoring/alerts.yaml deploy/monitoring/dashboard.json charts/ecr-sync/files/
	@tools/build helm
	@{ echo "# Generated by make crds from namespace.yaml and charts/ecr-sync: everything that an installation needs."; \
		cat deploy/base/namespace.yaml; \
		target/tools/bin/helm template ecr-sync charts/ecr-sync --namespace ecr-sync-system --kube-version 1.34.0 \
			--set crds.keep=false | grep -v -e '^# Source' -e 'helm.sh/chart:' -e 'managed-by: Helm'; } >$(MANIFESTS).new
	@mv $(MANIFESTS).new $(MANIFESTS)

.PHONY: docs
docs: need-rust ## Write docs/api.md, docs/cli.md, the policy in docs/iam.md, the chart's README and its extraArgs from the code
	UPDATE_DOCS=1 $(CARGO) test --locked --test it -- docs::reference docs::command_line docs::iam chart::readme

ENGINE ?= $(firstword $(foreach engine,docker podman buildah,$(if $(shell $(engine) info >/dev/null 2>&1 && echo yes),$(engine))))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
IMAGE ?= $(if $(REGISTRY),$(REGISTRY)/)ecr-sync:$(VERSION)
CHART := target/ecr-sync-$(VERSION).tgz
HELM ?= $(or $(shell command -v helm),target/tools/bin/helm)
# As images name it: podman and buildah do not expand ${BUILDPLATFORM} in the Dockerfile.
BUILDARCH = $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))

.PHONY: need-engine
need-engine:
	@test -n "$(ENGINE)" || { echo "make: no working docker, podman or buildah found; make rootfs creates the image without one" >&2; exit 1; }

.PHONY: need-helm
need-helm:
	@command -v $(HELM) >/dev/null || tools/build helm

.PHONY: need-registry
need-registry:
	@test -n "$(REGISTRY)" || { echo "make: name a registry to push to: REGISTRY=registry.example.com/platform" >&2; exit 1; }

.PHONY: image
image: need-engine ## Build the image $REGISTRY/ecr-sync:VERSION with docker, podman or buildah; PLATFORM=linux/arm64
	$(ENGINE) build $(if $(PLATFORM),--platform $(PLATFORM)) $(BUILD_FLAGS) --tag $(IMAGE) \
		$(if $(filter docker,$(ENGINE)),,--build-arg BUILDPLATFORM=linux/$(BUILDARCH)) \
		$(foreach base,RUST_IMAGE RUNTIME_IMAGE,$(if $($(base)),--build-arg $(base)=$($(base)))) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) .

.PHONY: push-image
push-image: need-engine need-registry ## Push it to $REGISTRY
	$(ENGINE) push $(IMAGE)

.PHONY: ci-image
ci-image: need-engine ## Build that image with a shell, for jobs of GitLab CI, as $REGISTRY/ecr-sync:VERSION-ci
	$(ENGINE) build --file Dockerfile.ci $(if $(PLATFORM),--platform $(PLATFORM)) --build-arg IMAGE=$(IMAGE) \
		$(if $(CI_IMAGE),--build-arg CI_IMAGE=$(CI_IMAGE)) --tag $(IMAGE)-ci .

.PHONY: push-ci-image
push-ci-image: need-engine need-registry ## Push it to $REGISTRY
	$(ENGINE) push $(IMAGE)-ci

.PHONY: chart
chart: need-helm ## Package the chart in target/
	$(HELM) package charts/ecr-sync --destination target

.PHONY: push-chart
push-chart: need-helm need-registry ## Push it to oci://$REGISTRY/charts/ecr-sync
	$(HELM) push $(CHART) oci://$(REGISTRY)/charts

.PHONY: image-test
image-test: need-rust tools ## Build the image without a container daemon and run it as README's Install says; root, buildah, podman
	@tools/image/test $(CARGO) test --locked --test it -- --ignored --nocapture install::image

.PHONY: kubelet-test
kubelet-test: need-rust tools ## Run the chart's Pod with a real kubelet, containerd and runc; root, as image-test
	$(call need,containerd,containerd (on Debian and Ubuntu: apt-get install containerd runc))
	@tools/build kubelet
	@tools/image/test $(CARGO) test --locked --test it -- --ignored --nocapture install::kubelet

# KILLS counts for each program. A seed gives the same moments again, as parts of the requests of a sync.
.PHONY: kills
kills: need-rust tools ## Kill syncs at random moments and check what is left; KILLS=200 for each program, SEED=N
	KILLS=$(KILLS) SEED=$(SEED) $(CARGO) test --locked --test it -- --ignored --nocapture kills::

.PHONY: soak
soak: need-rust tools ## Run two operators with 500 changing resources and faults for MINUTES=30, and check that nothing grows; SEED=N
	MINUTES=$(MINUTES) SEED=$(SEED) $(CARGO) test --locked --test it -- --ignored --nocapture soak::

.PHONY: memory-test
memory-test: need-rust tools ## Run the operator with hostile sources in a memory cgroup of 256 MiB (needs root), and print the times
	$(CARGO) test --locked --test it -- --nocapture memory::

.PHONY: rootfs
rootfs: need-rust ## Create the files of the image without a container engine (needs root and mmdebstrap), and test them; TARGET=aarch64-unknown-linux-gnu
	$(CARGO) build --release --locked --bin ecr-sync $(if $(TARGET),--target $(TARGET))
	tools/image/rootfs $(or $(CARGO_TARGET_DIR),target)/$(if $(TARGET),$(TARGET)/)release/ecr-sync target/ecr-sync-image.tar.gz

.PHONY: clean
clean: ## Remove the build output; the external programs are kept in their cache
	rm -rf $(or $(CARGO_TARGET_DIR),target)
