# syntax=docker/dockerfile:1
# The operator's image. `make image` builds it; for another platform: make image PLATFORM=linux/arm64 (docs/install.md).
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
# aws-lc needs a C compiler and cmake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake clang && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies alone: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY testbed/Cargo.toml testbed/
RUN mkdir -p src testbed/src tests/it benches/copy \
    && echo 'fn main() {}' | tee src/main.rs testbed/src/main.rs tests/it/main.rs benches/chart_index.rs benches/start.rs \
        benches/copy/main.rs >/dev/null \
    && touch src/lib.rs testbed/src/lib.rs \
    && cargo build --release --locked --bin ecr-sync
COPY src src
COPY benches benches
# cargo goes by time stamps, and those of COPY may be older than the layer above.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin ecr-sync

FROM ${RUNTIME_IMAGE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="ecr-sync" \
      org.opencontainers.image.description="Keeps Amazon ECR repositories as written and copies images and Helm charts into them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/ecr-sync/ecr-sync" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/target/release/ecr-sync /usr/local/bin/ecr-sync
# The lock file is what SBOM scanners (syft, trivy) read of a Rust program.
COPY Cargo.lock /usr/share/doc/ecr-sync/Cargo.lock
COPY LICENSE /usr/share/doc/ecr-sync/LICENSE
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/ecr-sync"]
CMD ["controller"]
