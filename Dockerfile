# syntax=docker/dockerfile:1
# The operator's image. `make image` builds it; for another platform: make image PLATFORM=linux/arm64 (docs/install.md).
# BUILDPLATFORM, BUILDARCH and TARGETARCH are given by BuildKit, podman and buildah.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# On the machine's own architecture, for the image's: emulated, a release build takes hours.
FROM --platform=${BUILDPLATFORM} ${RUST_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
# aws-lc needs a C compiler and cmake.
RUN case "${TARGETARCH}" in \
        amd64) echo x86_64-unknown-linux-gnu ;; \
        arm64) echo aarch64-unknown-linux-gnu ;; \
        *) echo "no image for ${TARGETARCH}: amd64 and arm64 only" >&2; exit 1 ;; \
    esac >/target \
    && rustup target add "$(cat /target)" \
    && apt-get update \
    && if [ "${TARGETARCH}" = "${BUILDARCH}" ]; then cross=; else cross="crossbuild-essential-${TARGETARCH}"; fi \
    && apt-get install -y --no-install-recommends cmake ${cross} && rm -rf /var/lib/apt/lists/*
# The compilers of C are found by their names; cargo has to be told its linkers.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
# The dependencies alone: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY testbed/Cargo.toml testbed/
RUN mkdir -p src testbed/src tests/it benches/copy \
    && echo 'fn main() {}' | tee src/main.rs testbed/src/main.rs tests/it/main.rs benches/chart_index.rs benches/start.rs \
        benches/copy/main.rs >/dev/null \
    && touch src/lib.rs testbed/src/lib.rs \
    && cargo build --release --locked --bin ecr-sync --target "$(cat /target)"
COPY src src
COPY benches benches
# cargo goes by time stamps, and those of COPY may be older than the layer above.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin ecr-sync --target "$(cat /target)" \
    && cp "target/$(cat /target)/release/ecr-sync" /ecr-sync

FROM ${RUNTIME_IMAGE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="ecr-sync" \
      org.opencontainers.image.description="Keeps Amazon ECR repositories as written and copies images and Helm charts into them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/ecr-sync/ecr-sync" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /ecr-sync /usr/local/bin/ecr-sync
# The lock file is what SBOM scanners (syft, trivy) read of a Rust program.
COPY Cargo.lock /usr/share/doc/ecr-sync/Cargo.lock
COPY LICENSE /usr/share/doc/ecr-sync/LICENSE
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/ecr-sync"]
CMD ["controller"]
