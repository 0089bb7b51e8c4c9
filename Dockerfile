# The toolchain of rust-toolchain.toml, to the last digit: the profile names functions as this compiler does.
# On the Debian that the binary will run on.
FROM rust:1.95.0-bookworm AS build
# The image brings the C compiler that SQLite and ring need.
WORKDIR /src
# Dependencies first: this layer is rebuilt only when the lock file or the profile changes.
COPY Cargo.toml Cargo.lock ./
COPY scripts/build scripts/
COPY benches/profile benches/profile
# The manifest names the benchmarks too; stand-ins are enough to build the binary.
RUN mkdir -p src benches/proxy benches/micro \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs benches/proxy/main.rs \
    && cp src/main.rs benches/micro/main.rs \
    && scripts/build
COPY src src
# The settings page tells names and defaults from it.
COPY .env.example ./
# Cargo compares times: the real sources must look newer than the stand-ins.
RUN find src -name '*.rs' -exec touch {} + \
    && scripts/build \
    && strip target/s3-mirror \
    && mkdir /data

FROM debian:bookworm-slim
# From the build image, which carries the same Debian: no package list is fetched here.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/s3-mirror /usr/local/bin/s3-mirror
# A named volume takes over the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /data /data
ENV DATA_DIR=/data
VOLUME /data
EXPOSE 8080 9090
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/s3-mirror"]
CMD ["serve"]
