# Every target works from a fresh clone: .venv is made on first use.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
KUBE_TOOLS ?= $(HOME)/.cache/aibrix-extproc/kube-tools

.PHONY: help run test fuzz test-kubernetes kube-tools fix lint types unit bench soak churn reference conformance \
	test-sdks test-twins test-envoys test-chart chart helm lock image clean
help:            ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.done: pyproject.toml protos/build.py $(wildcard protos/envoy/service/*/v3/*.proto)
	@echo "Installing into .venv (first run takes about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

run: .venv/.done ## start Envoy, the gateway and simulated engines (options: ARGS="--help")
	@$(BIN)/aibrix-extproc local $(ARGS)

lint: .venv/.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

types: .venv/.done
	$(BIN)/mypy

unit: .venv/.done
	$(BIN)/pytest -n 2 -m "not slow and not envoy and not sdk and not kubernetes and not fuzz and not helm" $(ARGS)

test: lint types ## format, lint, import directions, types, all tests
	$(BIN)/pytest -n 2 -m "not sdk and not kubernetes and not fuzz and not helm" $(ARGS)

fuzz: .venv/.done ## a hundred thousand mutated requests, and as many answers of engines (`test` takes some thousands)
	$(BIN)/pytest -n 2 -m fuzz tests/fuzz $(ARGS)

test-twins: .venv/.done ## the data-plane suite on the other transport, grpcio (`test` runs it on lean)
	AIBRIX_EXTPROC_SERVER__TRANSPORT=grpcio $(BIN)/pytest -n 2 -m envoy tests/dataplane $(ARGS)

test-envoys: .venv/.done ## the data-plane suite on every Envoy from 1.37 on that is to be had (ARGS="1.38.3 1.39.0")
	$(BIN)/python -m tests.envoys.run $(ARGS)

test-sdks: .venv/.done ## test older and newer OpenAI SDKs, Python and Node, each in an environment of its own
	$(BIN)/python -m tests.sdks.install
	$(BIN)/pytest -m sdk tests/sdks $(ARGS)

test-kubernetes: .venv/.done ## discovery, manifests and a whole cluster (KUBEBUILDER_ASSETS, PATH or what kube-tools built)
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$(KUBE_TOOLS)}" $(BIN)/pytest -m kubernetes $(ARGS)

test-chart: .venv/.done ## the Helm chart against the manifests, with the real Helm (PATH or what `make helm` built)
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$(KUBE_TOOLS)}" $(BIN)/pytest -m helm tests/charts $(ARGS)

HELM := 4.3.1
helm:            ## build Helm for test-chart and test-kubernetes (needs Go; some minutes)
	@GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN="$(KUBE_TOOLS)" \
		go install -ldflags "-s -w" helm.sh/helm/v4/cmd/helm@v$(HELM)

kube-tools:      ## build etcd, Kubernetes and Envoy Gateway for test-kubernetes (needs Go; about ten minutes)
	@tests/adapters/kube/build_tools.sh "$(KUBE_TOOLS)"
	@$(MAKE) --no-print-directory helm

chart: .venv/.done ## write the Helm chart from manifests/ and charts/
	$(BIN)/python -m charts

fix: .venv/.done ## format and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.done ## measure against plain Envoy and write docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/.done ## an hour of mixed traffic at 60 % of capacity; write docs/soak.md (ARGS="--minutes 5")
	$(BIN)/python -m benchmarks.soak $(ARGS)

churn: .venv/.done ## a thousand pods that come and go under load, then no API server; write docs/churn.md
	$(BIN)/python -m benchmarks.churn $(ARGS)

reference: .venv/.done ## write the generated reference pages and copies
	$(BIN)/aibrix-extproc reference --write
	cp aibrix_extproc/adapters/envoyproxy/stream_filter.lua manifests/components/metering/

conformance: .venv/.done ## verify a running deployment (ARGS="--base-url http://127.0.0.1:8080/v1 --api-key KEY")
	@$(BIN)/aibrix-extproc conformance $(ARGS)

# Plain requirements files, which every pip can install, so that the tool that writes them can be changed for another.
LOCK := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"
lock: .venv/.done ## pin with hashes what the image is made of (ARGS=--upgrade takes the newest versions)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group lock
	$(LOCK) $(ARGS) --output-file requirements.lock --extra kubernetes pyproject.toml
	$(LOCK) $(ARGS) --output-file requirements-build.lock --group build

image: VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' aibrix_extproc/__init__.py)
image: TAG = aibrix-extproc:$(VERSION)
image:           ## build the container image (TAG=NAME ARGS="--target picker --platform linux/arm64")
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(TAG) $(ARGS) .

clean:           ## remove what the other targets made
	rm -rf .venv .venvs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
