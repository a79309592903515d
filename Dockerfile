# Two stages: the wheel is built with the protobuf compiler, the image runs without it.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY protos protos
COPY envoy envoy
COPY aibrix_extproc aibrix_extproc
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /dist

FROM python:3.12-slim
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[kubernetes]" && useradd --uid 65532 --no-create-home extproc
USER 65532
# 9002: ext_proc and gRPC health; 9003: metrics and readiness for operators.
EXPOSE 9002 9003
ENV AIBRIX_EXTPROC_SERVER__HOST=0.0.0.0 AIBRIX_EXTPROC_ADMIN__HOST=0.0.0.0
ENTRYPOINT ["aibrix-extproc"]
CMD ["serve"]
