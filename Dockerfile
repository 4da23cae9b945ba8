# Backstay with rclone and MongoDB's tools, for Docker Swarm and Kubernetes, linux/amd64 and linux/arm64:
#
#     docker buildx build --platform linux/amd64,linux/arm64 --tag backstay .
#
# It needs BuildKit, which leaves out the stages that are not used: on Engine 20.10 set DOCKER_BUILDKIT=1.
# The image holds the programs, their libraries and the certificate authorities: no shell, no package manager.
# With `--build-arg PARTS=local` the programs come from the folder parts/ of the build's context instead of the network, and the
# certificate authorities from the base image.
ARG PARTS=released

FROM rust:1.95-bookworm AS built
WORKDIR /source
COPY . .
RUN cargo build --locked --release

FROM debian:bookworm-slim AS released
ARG TARGETARCH
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl unzip libgssapi-krb5-2
COPY tools/image-parts.sh /
RUN sh /image-parts.sh "$TARGETARCH"
COPY --from=built /source/target/release/backstay /parts/

FROM debian:bookworm-slim AS local
COPY parts /parts

FROM ${PARTS} AS gathered
RUN set -eu; \
    mkdir -p /image/usr/bin /image/etc/ssl/certs; \
    mkdir -m 1777 /image/tmp; \
    cp /parts/* /image/usr/bin/; mv /image/usr/bin/backstay /image/; \
    loader=$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2>/dev/null || true); \
    for program in /parts/*; do "$loader" --list "$program" 2>/dev/null || true; done \
      | sed -n "s,.* => \\(/[^ ]*\\) (0x.*,\\1,p" | sort -u | while read -r library; do cp -L --parents "$library" /image; done; \
    cp -L --parents "$loader" /image; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    cp /etc/passwd /etc/group /etc/nsswitch.conf /etc/os-release /image/etc/ 2>/dev/null || true; \
    /image/backstay --version

FROM scratch
COPY --from=gathered /image /
# No HEALTHCHECK: a task of a run would count as running only once it is healthy. The controller's is in its stack file.
ENV PATH=/usr/bin BACKSTAY_HEALTH_SOCKET=/tmp/backstay-health
ENTRYPOINT ["/backstay"]
