# The gateway in an image of its own: one static binary and the CA certificates.
#
#   docker build -t patchbay/gateway .             or: make image, which says version, commit and their time
#   docker buildx build --platform linux/amd64,linux/arm64 …   or: make image-multi
#
# Both builders work: BuildKit, and the classic one (DOCKER_BUILDKIT=0), which knows neither --mount nor the platform's
# variables. The classic one builds for its own platform: with --build-arg TARGETARCH=arm64 it makes the program of another,
# in an image that says it is the builder's.
#
# The same arguments and base images give the same bytes. To pin the base images to what a tag is today, give digests:
#   --build-arg GO_IMAGE=golang:1.26-bookworm@sha256:…  --build-arg NODE_IMAGE=node:22-bookworm-slim@sha256:…
ARG GO_IMAGE=golang:1.26-bookworm
ARG NODE_IMAGE=node:22-bookworm-slim

# The stock browser client that the gateway serves, at the version and hash of the lock file. One that `make client` has left
# is taken as it is if it is of that version, so that the build also works where there is no npm.
FROM --platform=${BUILDPLATFORM:-linux} ${NODE_IMAGE} AS client
WORKDIR /client
COPY internal/gateway/client/ ./
RUN set -eu; \
    want=$(node -p 'require("./package-lock.json").packages["node_modules/socket.io-client"].version'); \
    if [ -e dist/socket.io.js ] && head -n 2 dist/socket.io.js | grep -qF "Socket.IO v$want"; then \
      echo "client $want of the build context"; \
    else \
      npm ci --ignore-scripts --no-audit --no-fund; \
      for name in socket.io.min socket.io.esm.min socket.io.msgpack.min socket.io; do \
        cp "node_modules/socket.io-client/dist/$name.js" "node_modules/socket.io-client/dist/$name.js.map" dist/; \
      done; \
      rm -rf node_modules; \
    fi

FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=client /client/dist/ internal/gateway/client/dist/
# BuildKit sets these two; empty means: as the builder.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
ARG COMMIT
# Seconds since 1970 that all files of the image are said to be from.
ARG SOURCE_DATE_EPOCH=0
RUN set -eu; \
    mkdir -p /image/etc/ssl/certs; \
    CGO_ENABLED=0 GOOS=${TARGETOS-} GOARCH=${TARGETARCH-} go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION-} -X main.commit=${COMMIT-}" -o /image/gateway ./cmd/gateway; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    chmod 0755 /image /image/etc /image/etc/ssl /image/etc/ssl/certs /image/gateway; \
    chmod 0644 /image/etc/ssl/certs/ca-certificates.crt; \
    find /image -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM scratch
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="Patchbay gateway" \
      org.opencontainers.image.description="A node of a Socket.IO gateway cluster" \
      org.opencontainers.image.source="https://github.com/seed-0b620db0/patchbay" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build /image/ /
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 3000 9090
STOPSIGNAL SIGTERM
# Whether the process answers; whether it should get clients is `gateway health -ready`.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/gateway", "health"]
ENTRYPOINT ["/gateway"]
