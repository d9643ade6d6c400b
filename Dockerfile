# The operator, with the files, the account and the start of the archive that make images writes. Built at the top of a clone:
#   docker build --build-arg VERSION=1.2.3 -t flagger/flagger:1.2.3 .
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG VERSION=0.1.0
ARG TARGETARCH=amd64
WORKDIR /src
COPY . .
RUN make rootfs IMAGE=flagger VERSION=$VERSION ARCH=$TARGETARCH ROOTFS=/rootfs

FROM scratch
COPY --from=build /rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /
USER 10001:10001
ENTRYPOINT ["/flagger"]
