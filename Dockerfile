# syntax=docker/dockerfile:1
# The operator's image. `make image` builds it; for another platform: make image PLATFORM=linux/arm64 (docs/install.md).
# `make image-test` builds and runs it without a container daemon. BuildKit sets BUILDPLATFORM, BUILDARCH and TARGETARCH;
# buildah 1.28 and podman 4.3 set only the last two, so `make image` passes BUILDPLATFORM.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# Runs on the architecture of the build machine and compiles for the image's: emulated, a release build takes hours.
FROM --platform=${BUILDPLATFORM} ${RUST_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
RUN case "${TARGETARCH}" in \
        amd64) echo x86_64-unknown-linux-gnu ;; \
        arm64) echo aarch64-unknown-linux-gnu ;; \
        *) echo "no image for ${TARGETARCH}: amd64 and arm64 only" >&2; exit 1 ;; \
    esac >/target \
    && rustup target add "$(cat /target)" \
    && if [ "${TARGETARCH}" != "${BUILDARCH}" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends "crossbuild-essential-${TARGETARCH}" \
        && rm -rf /var/lib/apt/lists/*; \
    fi
# The C compilers are found by name; cargo needs its linkers named.
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
# Cargo wants every target of the workspace to exist, also those that the image does not have.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY fuzz fuzz
COPY testbed testbed
COPY tests tests
COPY src src
# Packages and compiled dependencies outlive the build in two caches. Cargo compares time stamps, and those of COPY can be
# older than the cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin ecr-sync --target "$(cat /target)" \
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
