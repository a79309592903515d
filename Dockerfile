# The image of `serve`; with --target picker that of the endpoint picker. Build it with `make image`.
#
# python:slim, not a distroless image: both stages are the same Python, so that what was unpacked in the first runs in
# the second, and a test can run these very lines without Docker. Nothing in the image needs the shell that it has.
# A tag can move: name the base of a release by its digest, --build-arg PYTHON=python:3.13-slim@sha256:...
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN python -m pip install --require-hashes --no-deps --only-binary :all: --requirement requirements-build.lock
RUN python -m venv --without-pip /opt/aibrix-extproc \
    && python -m pip --python /opt/aibrix-extproc/bin/python install --require-hashes --no-deps --only-binary :all: \
       --no-compile --requirement requirements.lock
COPY pyproject.toml README.md ./
COPY protos protos
# The package has a link to it.
COPY docs/openapi.json docs/openapi.json
COPY aibrix_extproc aibrix_extproc
# The time of every file in the wheel, so that the same sources give the same bytes.
ARG SOURCE_DATE_EPOCH=1577836800
RUN python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /dist . \
    && python -m pip --python /opt/aibrix-extproc/bin/python install --no-deps --no-index --no-compile /dist/*.whl
# Compiled here because the root file system is read-only there, and not checked against the sources at every start.
# Two thousand generated modules of the Kubernetes client are never imported.
RUN python -m compileall -q --invalidation-mode unchecked-hash -x 'kubernetes/(aio/)?client/(api|models)/[^_]' \
    /opt/aibrix-extproc

FROM ${PYTHON} AS runtime
COPY --from=build /opt/aibrix-extproc /opt/aibrix-extproc
# A home, because the Kubernetes client wants one and no passwd file names this user.
ENV PATH=/opt/aibrix-extproc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/ \
    AIBRIX_EXTPROC_SERVER__HOST=0.0.0.0 AIBRIX_EXTPROC_ADMIN__HOST=0.0.0.0 AIBRIX_EXTPROC_METADATA__HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aibrix-extproc" \
      org.opencontainers.image.description="Makes a fleet of vLLM engines behind Envoy look exactly like the OpenAI API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS picker
# 9002: ext_proc; 9003: gRPC health, which kubelets ask themselves.
EXPOSE 9002 9003
ENTRYPOINT ["aibrix-extproc", "picker"]

FROM runtime AS serve
# 9002: ext_proc and gRPC health; 9003: metrics and readiness for operators; 9010: `metadata`, its API.
EXPOSE 9002 9003 9010
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["aibrix-extproc", "health"]
ENTRYPOINT ["aibrix-extproc"]
CMD ["serve"]
