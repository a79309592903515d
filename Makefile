# Every target works from a fresh clone: .venv is made on first use.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Five on two cores: many tests wait for a process or a clock, so that four leave a fifth of the time unused.
WORKERS ?= 5
# Where Python is told not to keep compiled modules, as in many containers, each of the hundreds of processes that the
# tests start would compile all of ours again: 0.3 s of CPU for one, and 7 s for each worker that collects.
export PYTHONDONTWRITEBYTECODE :=
# What needs nothing but .venv; the other marks have targets of their own.
HERE := not sdk and not sdk_suite and not browser and not openapi and not kubernetes and not postgres and not s3 and not fuzz and not faults and not operations and not helm and not install
PYTEST = $(BIN)/python -m pytest -p tests.forks --forks $(WORKERS)
KUBE_TOOLS ?= $(HOME)/.cache/aibrix-extproc/kube-tools

.PHONY: help run test test-newest fuzz test-kubernetes kube-tools fix lint types unit bench soak proof-usage proof-limits churn reference explorer site schemas \
	conformance compare test-postgres test-s3 s3-server test-faults test-operations test-install bench-admission bench-admission-processes bench-metadata bench-gauges bench-predictions bench-sharing bench-batches bench-batches-processes test-sdks test-sdk-suite test-browser test-openapi test-twins test-envoys test-chart chart helm release lock image \
	clean install for-run for-test
help:            ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Both look at .venv each time and do nothing if it is what the lock files say; for-test adds to what for-run installs.
for-run for-test:
	@test $(BIN) != .venv/bin || $(PYTHON) tools/environment.py $(@:for-%=%)

install: for-test ## install everything into .venv, for commands of your own

run: for-run     ## start Envoy, the gateway and simulated engines (options: ARGS="--help")
	@$(BIN)/aibrix-extproc local $(ARGS)

lint: for-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

types: for-test
	$(BIN)/mypy

unit: for-test   ## the quick tests: nothing slow, no real Envoy, no older SDKs
	$(PYTEST) -m "not slow and not envoy and $(HERE)" $(ARGS)

# Types take half a minute on one core: they are checked beside the tests, and what is wrong with them is said at the end.
test: for-test lint ## format, lint, import directions, types, all tests
	@mkdir -p .mypy_cache && { $(BIN)/mypy >.mypy_cache/said 2>&1 & types=$$!; }; \
	echo '$(PYTEST)'; \
	$(PYTEST) -m "$(HERE)" $(ARGS); \
	tests=$$?; wait $$types; types=$$?; echo $(BIN)/mypy; cat .mypy_cache/said; \
	test $$tests -eq 0 && exit $$types; exit $$tests

test-newest:     ## all tests on the newest versions of everything, in an environment of its own; .venv stays as it is
	@$(PYTHON) -m venv --clear .venvs/newest
	.venvs/newest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venvs/newest/bin/python -m pip install --upgrade --editable . --group dev
	$(MAKE) test BIN=.venvs/newest/bin

fuzz: for-test ## a million mutated frames, a hundred thousand requests and as many answers, properties with a thousand examples (`test` takes a part)
	$(PYTEST) -m fuzz tests/fuzz tests/http2 $(ARGS)
	$(PYTEST) -m "hypothesis and $(HERE)" --hypothesis-profile=thorough $(ARGS)

test-twins: for-test ## the data-plane suite on the other transport, grpcio (`test` runs it on lean)
	AIBRIX_EXTPROC_SERVER__TRANSPORT=grpcio $(PYTEST) -m envoy tests/dataplane $(ARGS)

test-envoys: for-test ## the data-plane suite on every Envoy from 1.37 on that is to be had (ARGS="1.38.3 1.39.0")
	$(BIN)/python -m tests.envoys.run $(ARGS)

test-sdks: for-test ## test older and newer OpenAI SDKs, Python and Node, each in an environment of its own
	$(BIN)/python -m tests.sdks.install
	$(BIN)/pytest -m sdk tests/sdks $(ARGS)

test-sdk-suite: for-test ## run openai-python's own tests directly and through the gateway (downloads its sources)
	$(BIN)/python -m tests.sdk_suite.install
	$(BIN)/pytest -m sdk_suite tests/sdk_suite $(ARGS)

test-browser: for-test ## the SDKs' browser builds in a real headless Chromium (CHROMIUM=/path; downloads the SDKs)
	$(BIN)/python -m tests.browser.install
	$(BIN)/pytest -m browser tests/browser $(ARGS)

test-openapi: for-test ## a client and requests that are generated from the OpenAPI document (some minutes; downloads both tools)
	$(BIN)/python -m tests.openapi.install
	$(BIN)/pytest -m openapi tests/openapi $(ARGS)

test-postgres: for-test ## files, uploads and batches on a real PostgreSQL (`test` runs them on SQLite)
	$(BIN)/pytest -m postgres tests/metadata $(ARGS)

test-s3: for-test ## files, uploads and batches on a real S3 server (what s3-server built, or versitygw of PATH)
	$(BIN)/pytest -m s3 tests/metadata $(ARGS)

test-faults: for-test ## batches whose process is killed fifty times (some minutes; `test` kills five times)
	$(BIN)/pytest -m "faults and not postgres and not s3" tests/metadata $(ARGS)

test-operations: for-test ## operations over engines under load, and their service killed at each step (some minutes)
	$(BIN)/pytest -m operations tests/operations $(ARGS)

test-kubernetes: for-test ## discovery, manifests and a whole cluster (KUBEBUILDER_ASSETS, PATH or what kube-tools built)
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$(KUBE_TOOLS)}" $(BIN)/pytest -m kubernetes $(ARGS)

test-install: for-test ## what pip makes of the lock files and of the Dockerfile (two minutes, downloads wheels)
	$(PYTEST) -m install tests/image tests/tools $(ARGS)

release: for-test ## packages, an install.yaml for each overlay and the chart into dist/ (IMAGE=REGISTRY/aibrix-extproc:TAG)
	$(BIN)/python -m charts.release dist $(if $(IMAGE),--image $(IMAGE))
	$(BIN)/python tools/distributions.py dist
	PATH="$(KUBE_TOOLS):$$PATH" helm package charts/aibrix-extproc --destination dist

test-chart: for-test ## the Helm chart against the manifests, with the real Helm (PATH or what `make helm` built)
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$(KUBE_TOOLS)}" $(BIN)/pytest -m helm tests/charts $(ARGS)

HELM := 4.3.1
helm:            ## build Helm for test-chart and test-kubernetes (needs Go; some minutes)
	@GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$(KUBE_TOOLS)" \
		go install -ldflags "-s -w" helm.sh/helm/v4/cmd/helm@v$(HELM)

VERSITYGW := 1.8.0
s3-server:       ## build Versity's S3 gateway for test-s3 (needs Go; some minutes)
	@GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$(dir $(KUBE_TOOLS))s3-server" \
		go install -ldflags "-s -w" github.com/versity/versitygw/cmd/versitygw@v$(VERSITYGW)

kube-tools:      ## build etcd, Kubernetes and Envoy Gateway for test-kubernetes (needs Go; about ten minutes)
	@tests/adapters/kube/build_tools.sh "$(KUBE_TOOLS)"
	@$(MAKE) --no-print-directory helm

chart: for-test ## write the Helm chart from manifests/ and charts/
	$(BIN)/python -m charts

fix: for-test ## format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: for-test ## measure against plain Envoy and write docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

bench-metadata: for-test ## measure files, uploads and batches and write docs/metadata-benchmarks.md
	$(BIN)/python -m benchmarks.metadata $(ARGS)

bench-gauges: for-test ## measure what reading engines' metrics costs, and decisions by them
	$(BIN)/python -m benchmarks.gauges $(ARGS)

bench-admission: for-test ## simulate callers beside a heavy one, and write docs/admission-figures.md
	$(BIN)/python -m benchmarks.admission $(ARGS)

bench-admission-processes: for-test ## the same with Envoy, the gateway and simulated engines, for eleven minutes
	$(BIN)/python -m benchmarks.admission_processes $(ARGS)

bench-predictions: for-test ## measure what the strategy `predicted` costs
	$(BIN)/python -m benchmarks.predictions

bench-sharing: for-test ## count what three gateways find in caches, with `routing.share` and without
	$(BIN)/python -m benchmarks.shared_hits $(ARGS)

bench-batches: for-test ## simulate batches beside interactive requests and write docs/batch-scenarios.md
	$(BIN)/python -m benchmarks.batch_scenarios

bench-batches-processes: for-test ## the same with Envoy, the gateway and simulated engines, for ten minutes
	$(BIN)/python -m benchmarks.batch_processes $(ARGS)

bench-routing: for-test ## simulate strategies on traces, write docs/routing-figures.md (ARGS="--trace FILE=SPEEDUP")
	$(BIN)/python -m benchmarks.routing $(ARGS)

calibrate-routing: for-test ## the same requests through real Envoy and in the simulation, write docs/routing-calibration.md
	$(BIN)/python -m benchmarks.routing_calibration

soak: for-test ## an hour of mixed traffic at 60 % of capacity; write docs/soak.md (ARGS="--minutes 5")
	$(BIN)/python -m benchmarks.soak $(ARGS)

proof-usage: for-test ## compare usage records with the engines' counters through every kind of loss
	$(PYTEST) tests/dataplane/test_usage_records.py $(ARGS)

proof-limits: for-test ## show that three gateways with one Redis, which restarts, keep one limit exactly
	$(BIN)/python -m benchmarks.limits_exact $(ARGS)

churn: for-test ## a thousand pods that come and go under load, then no API server; write docs/churn.md
	$(BIN)/python -m benchmarks.churn $(ARGS)

reference: for-test ## write the generated reference pages and copies
	$(BIN)/aibrix-extproc reference --write
	cp aibrix_extproc/adapters/envoyproxy/stream_filter.lua manifests/components/metering/
	cd aibrix_extproc/adapters/envoyproxy && cat stream_filter.lua whole_answers.lua > answer_filter.lua

schemas: for-test ## derive the schemas of operations from the SDKs; VLLM=PYTHON of an installed vLLM derives its own, too
	$(BIN)/python -m tools.schemas.derive
	test -z "$(VLLM)" || PYTHONPATH=$$PYTHONPATH:. $(VLLM) -W ignore -m tools.schemas.vllm

.PHONY: measure samples
measure: for-test ## send every field of every operation to an engine and record what comes (VLLM=PYTHON NAME=vllm-0.33 ARGS=--operation=..., or ARGS=--stored)
	$(BIN)/python -m tools.measure --name $(or $(NAME),simulator) $(if $(VLLM),--vllm $(VLLM)) $(ARGS)

samples: for-test ## run the samples of the reference and record what they print (ARGS="chat_completion embedding")
	$(BIN)/python -m tools.samples $(ARGS)
	$(BIN)/aibrix-extproc reference --write

explorer:        ## renew the explorer's Swagger UI from its npm package (the version stands in tools/explorer/vendor.py)
	$(PYTHON) -m tools.explorer.vendor

.PHONY: fields
fields: for-test ## write the fields that `conformance --fields` asks about, from the table of fields
	$(BIN)/python -m tools.conformance.fields

site: for-test   ## build the documentation as a static site with search, in build/site
	$(BIN)/python -m tools.site.build

conformance: for-run ## verify a running deployment (ARGS="--base-url http://127.0.0.1:8080/v1 --api-key KEY")
	@$(BIN)/aibrix-extproc conformance $(ARGS)

compare: for-test ## ask this gateway, the bare engine, LiteLLM and SMG the same, write docs/compatibility.md (VLLM=PYTHON VERSION=0.33.0)
	@test -x .venvs/compare/bin/smg || { $(PYTHON) -m venv .venvs/compare && \
		.venvs/compare/bin/python -m pip install --quiet -r tools/compare/peers.txt; }
	PATH="$(CURDIR)/.venvs/compare/bin:$$PATH" $(BIN)/python -m tools.compare --version $(or $(VERSION),0.33.0) \
		$(if $(VLLM),--vllm $(VLLM)) --peers .venvs/compare/bin/python $(ARGS)

# Plain requirements files, which every pip can install, so that the tool that writes them can be changed for another.
# The one for development holds everything; the others take its versions, so that all that is tested is what is run.
UV := .venvs/lock/bin/uv
LOCK := $(UV) pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(ARGS)
FROM_DEV := --constraint requirements-dev.lock
lock:            ## pin with hashes what the image, `run` and `test` are made of (ARGS=--upgrade: the newest versions)
	@test -x $(UV) || $(PYTHON) -m venv .venvs/lock
	@.venvs/lock/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	echo "-e .[conformance,kubernetes,kvevents,local,metadata,terminal]" | $(LOCK) --output-file requirements-dev.lock --group dev \
		--no-emit-package aibrix-extproc -
	$(LOCK) --output-file requirements-run.lock $(FROM_DEV) --extra conformance --extra local \
		--extra metadata --extra terminal pyproject.toml
	$(LOCK) --output-file requirements.lock $(FROM_DEV) --extra kubernetes --extra kvevents --extra metadata pyproject.toml
	$(LOCK) --output-file requirements-build.lock --group build

image: VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' aibrix_extproc/__init__.py)
image: TAG = aibrix-extproc:$(VERSION)
image:           ## build the container image (TAG=NAME ARGS="--target picker --platform linux/arm64")
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(TAG) $(ARGS) .

clean:           ## remove what the other targets made
	rm -rf .venv .venvs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
