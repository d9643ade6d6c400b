# Everything below needs Go 1.26 and nothing else; a data plane for the demo is fetched with python3 and pip where they are
# there and built from source where they are not. What is built for the tests is cached outside the tree.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= 0.1.0
# Whole: how much of it is short enough depends on the clone.
REVISION ?= $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X flagger.app/flagger/pkg/version.Version=$(VERSION) -X flagger.app/flagger/pkg/version.Revision=$(REVISION)
# The pages of gRPC on its requests are templates, which call methods by name: for them the linker keeps a fifth of the program.
TAGS     := -tags grpcnotrace
CACHE    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flagger-build
LINTER   := $(CACHE)/golangci-lint-v2.15.0
TESTBED  := bin/testbed
SEEDS    ?= 10000

# A package of tests that takes longer hangs. It is not there to tell slow machines from fast ones.
TIMEOUT  := 90m

# The programs of the testbed are built this way, so what is built the same way shares their packages in Go's cache.
SHARED := CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'

.PHONY: help build demo test test-unit test-sim test-api test-lives test-memory test-testbed test-backends test-gateway test-all e2e-contour e2e-gatewayapi e2e-traefik e2e-istio e2e-skipper e2e-apisix cover verify lint generate clean images release release-check release-packages test-images rootfs FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/flagger bin/loadtester ## Build the operator and the load tester into bin/

bin/flagger bin/loadtester: FORCE
	$(SHARED) go build $(TAGS) -ldflags '$(LDFLAGS)' -o $@ ./cmd/$(@F)

$(TESTBED): FORCE
	$(SHARED) go -C hack/testbed build -o $(CURDIR)/$@ ./cmd/testbed

RELEASE = $(SHARED) go -C hack/release run ./cmd/release $(1) -root $(CURDIR) -version '$(VERSION)' -revision '$(REVISION)' -ldflags '$(LDFLAGS)' -platforms '$(PLATFORMS)'

images: ## Write the images into dist/images as archives in the layout of OCI, for amd64 and arm64, without Docker
	rm -rf dist/images
	$(call RELEASE,images) -out $(CURDIR)/dist/images

test-images: images bin/e2e.test ## Start what is in the images and nothing else, and run the operator of the image under its chart
	IMAGES=$(CURDIR)/dist/images $(SHARED) go -C hack/release test -count=1 -v ./images
	rm -rf bin/image
	$(call RELEASE,unpack) -archive $(CURDIR)/dist/images/flagger-image_$(VERSION).tar -out $(CURDIR)/bin/image
	$(TESTBED) run --with prometheus --images hack/testbed/demo/images.yaml \
	  --image 'flagger/flagger:*=$(CURDIR)/bin/image/flagger' --image 'prom/prometheus:*=@prometheus' -- \
	  env FLAGGER=$(CURDIR)/bin/image/flagger ROOT=$(CURDIR) bin/e2e.test -test.v -test.run 'TestChartRuns|TestChartsPrometheusSees' -test.timeout $(TIMEOUT)

# Another version than that of the tree is what a release is about.
release: ## Write all that is released as VERSION into dist/release: programs, images, charts, manifests, SBOMs and checksums
	@if [ '$(origin VERSION)' = file ]; then echo 'error: say which version, as in make release VERSION=1.2.3' >&2; exit 1; fi
	$(call RELEASE,dist) -out $(CURDIR)/dist/release

release-check: ## Release twice from fresh clones, and fail if a byte differs. COLD=1 compiles everything twice
	$(call RELEASE,check) $(if $(COLD),-cold)

release-packages: ## Note the versions of packages that Debian has now, for the image of the load tester
	$(call RELEASE,packages)

# For the Dockerfiles: all files of the image IMAGE for ARCH, in the folder ROOTFS.
rootfs:
	$(call RELEASE,folder) -image '$(IMAGE)' -arch '$(ARCH)' -out '$(ROOTFS)'

demo: $(TESTBED) ## Promote a good version and take a bad one back on a testbed, with real traffic
	$(TESTBED) demo

test: $(TESTBED) ## Run the tests: units, simulation, conformance, and a suite on a real API server
	@echo '== 1 of 3: the programs that the tests need. Only the first time they are built, which takes some minutes'
	$(TESTBED) build controlplane prometheus podinfo-6.9.2 podinfo-6.9.3
	$(MAKE) test-unit test-api

# The simulation starts no goroutines, and without the race detector it plays five times as much.
test-unit: ## Run the unit tests with the race detector, and many random rollouts without it
	@echo '== 2 of 3: unit tests. The first time the compiler is at work for some minutes before it says anything'
	go test -race -timeout $(TIMEOUT) $$(go list ./... | grep -v -e /pkg/simulate -e /test/memory)
	$(SHARED) go test -timeout $(TIMEOUT) ./pkg/simulate
	$(SHARED) go -C test/promql test -timeout $(TIMEOUT) ./...
	$(SHARED) go -C test/thirdparty test -timeout $(TIMEOUT) ./...
	$(SHARED) go -C test/charts test -timeout $(TIMEOUT) ./...
	$(SHARED) go -C hack/release test -timeout $(TIMEOUT) ./...
	$(SHARED) go -C test/gitops test -timeout $(TIMEOUT) ./...

test-sim: ## Play SEEDS random schedules (default 10000) of faults and changes; SEED=n plays one
	SEEDS=$(SEEDS) go test -count=1 -timeout 0 -run 'TestSchedules' ./pkg/simulate

# The race detector multiplies memory.
test-memory: $(TESTBED) ## Fill the caches from API servers with many large Secrets and ConfigMaps, and see what that takes
	$(SHARED) go test -c -o bin/memory.test ./test/memory
	$(TESTBED) build controlplane
	$(TESTBED) run -- bin/memory.test -test.v -test.timeout $(TIMEOUT)

.PHONY: perf

N ?= 200

# PERF_ARGS are flags of hack/perf and, after two dashes, of the operator.
perf: $(TESTBED) bin/flagger ## Measure calls, time, processor and memory for N Canaries at once (default 200), on simulated pods
	$(SHARED) go build -o bin/perf ./hack/perf
	$(TESTBED) build controlplane
	$(TESTBED) run --name perf --served default -- sh -c ' \
	  kubectl apply --server-side -f artifacts/flagger/crd.yaml -f "$$0/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml" && \
	  kubectl wait --for=condition=Established crd --all && exec bin/perf -n $(N) -counts hack/perf/counts.json -out bin/perf.json $(PERF_ARGS)' \
	  "$$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)"

test-testbed: ## Run the tests of the testbed itself, and the built-in queries in the engine of its Prometheus
	$(SHARED) go -C hack/testbed test -timeout $(TIMEOUT) ./...
	$(SHARED) go -C hack/testbed/tools/prometheus test -timeout $(TIMEOUT) ./queries

# CRDs that tests install come in Go modules that nothing else needs. Inside a testbed there is no network to get them from.
CRDS := github.com/projectcontour/contour@v1.33.8 github.com/kedacore/keda/v2@v2.21.0 knative.dev/serving@v0.51.0 github.com/prometheus-operator/prometheus-operator@v0.85.0

# The suite starts the operator itself, as many times as it kills it.
API_SUITE = $(TESTBED) run --with prometheus --images hack/testbed/demo/images.yaml \
	--image 'flagger/flagger:*=$(CURDIR)/bin/flagger-race' --image 'prom/prometheus:*=@prometheus' -- \
	env FLAGGER=$(CURDIR)/bin/flagger-race ROOT=$(CURDIR) bin/e2e.test -test.v -test.parallel 6 -test.timeout $(TIMEOUT)

# These play many lives, and take some minutes.
LIVES := TestTakeover|TestHistory|TestNothingLost|TestC02_|TestC09_|TestB31_|TestIncidentB14_

# These start a second API server each.
CLUSTERS := TestTwoClusters_

# These are skipped where KEDA does not run.
KEDA := TestKeda

bin/e2e.test: $(TESTBED) bin/loadtester FORCE
	$(SHARED) go -C test/gitops build -o $(CURDIR)/bin/gitops ./apply
	-go mod download $(CRDS)
	go build -race $(TAGS) -o bin/flagger-race ./cmd/flagger
	go test -race -c -o $@ ./test/e2e

test-api: bin/e2e.test ## Run the suite on a real API server and controllers, but for its longest tests
	@echo '== 3 of 3: the suite on a real API server, some minutes'
	$(API_SUITE) -test.skip '$(LIVES)|$(CLUSTERS)'

test-lives: bin/e2e.test ## Run the longest tests of that suite: takeovers, faults, histories, contention, and requests all the while
	$(API_SUITE) -test.run '$(LIVES)'

.PHONY: e2e-clusters e2e-install e2e-keda e2e-knative

e2e-clusters: bin/e2e.test ## Keep the routing objects in a second cluster, and take either of the two away for a while
	$(API_SUITE) -test.run '$(CLUSTERS)'

bin/helm: FORCE
	$(SHARED) go -C test/charts build -o $(CURDIR)/$@ helm.sh/helm/v4/cmd/helm

# As in the image of the load tester.
bin/helm3: FORCE
	$(SHARED) go -C hack/release/tools build -o $(CURDIR)/$@ helm.sh/helm/v3/cmd/helm

# Alone in their testbed, which has none of the operator's CRDs at first. FLAGGER_CRDS is a folder with those of meshes that are no Go modules.
e2e-install: bin/e2e.test bin/helm bin/helm3 ## Install by Helm and Kustomize, upgrade from Flagger and back, and play the conformance kit under each role
	$(TESTBED) run --with prometheus --images hack/testbed/demo/images.yaml \
	  --image 'flagger/flagger:*=$(CURDIR)/bin/flagger-race' --image 'prom/prometheus:*=@prometheus' -- \
	  env FLAGGER=$(CURDIR)/bin/flagger-race ROOT=$(CURDIR) INSTALL=1 HELM=$(CURDIR)/bin/helm HELM3=$(CURDIR)/bin/helm3 bin/e2e.test -test.v -test.timeout $(TIMEOUT) \
	  -test.run 'TestInstall_|TestKitUnderTheRoles'

e2e-keda: bin/e2e.test ## Roll out what the operator of KEDA scales. The first time it is built, which takes 8 minutes
	$(TESTBED) run --with prometheus,contour,keda --images hack/testbed/demo/images.yaml -- \
	  env FLAGGER=$(CURDIR)/bin/flagger-race ROOT=$(CURDIR) DATAPLANE=contour bin/e2e.test -test.v \
	  -test.run '$(KEDA)' -test.timeout $(TIMEOUT)

e2e-knative: bin/e2e.test ## Roll out what the controllers of Knative serve. The first time they are built, which takes some minutes
	$(TESTBED) run --with prometheus,contour,knative --images hack/testbed/demo/images.yaml \
	  --image 'dev.local/podinfo:6.9.2=@podinfo-6.9.2' --image 'dev.local/podinfo:6.9.3=@podinfo-6.9.3' -- \
	  env FLAGGER=$(CURDIR)/bin/flagger-race ROOT=$(CURDIR) DATAPLANE=contour bin/e2e.test -test.v \
	  -test.run 'TestKnativeServing' -test.timeout $(TIMEOUT)

test-gateway: $(TESTBED) ## Lead applications through their whole lives, and kill the operator, while requests go through a real gateway
	$(call through,contour,contour,TestKilled|TestNothingLost|TestDeletionGivesBack)

# What goes through a data plane.
THROUGH := TestDataPlane|TestKilled|TestNothingLost|TestDeletionGivesBack|TestHangingWebhook

# Real data planes: $(1) is that of the tests, $(2) the feature of the testbed, $(3) which tests, $(4) more flags of the testbed.
define through
$(SHARED) go build $(TAGS) -o bin/flagger-killed ./cmd/flagger
$(SHARED) go test -c -o bin/dataplane.test ./test/e2e
$(TESTBED) run --with prometheus,$(2) --images hack/testbed/demo/images.yaml $(4) -- \
  env FLAGGER=$(CURDIR)/bin/flagger-killed ROOT=$(CURDIR) DATAPLANE=$(1) bin/dataplane.test -test.v \
  -test.run '$(3)' -test.parallel 4 -test.timeout $(TIMEOUT)
endef

e2e-istio: $(TESTBED) ## Through istiod and Envoy the same: by the ingress gateway, by the proxy of a client, and by the Gateway API
	$(call through,istio,istio,$(THROUGH))
	$(call through,istio,istio,TestIstioExamples,--images hack/testbed/demo/examples.yaml)
	$(call through,istio,istio,TestTutorial,--image 'flagger/flagger-loadtester:*=@loadtester')
	$(call through,istio-mesh,istio,TestDataPlane)
	$(call through,istio-gatewayapi,istio,TestDataPlane)

test-backends: ## Metric back-ends against their servers: Graphite, from packages of Debian, and InfluxDB
	hack/backends/test.sh

e2e-contour: $(TESTBED) ## Through Contour and Envoy: shares, A/B, metrics, whole lives, an operator that is killed, and the tutorial
	$(call through,contour,contour,$(THROUGH))
	$(call through,contour,contour,TestTutorial,--image 'flagger/flagger-loadtester:*=@loadtester')

e2e-skipper: $(TESTBED) ## Through Skipper: the same
	$(call through,skipper,skipper,$(THROUGH))
	$(call through,skipper,skipper,TestTutorial,--image 'flagger/flagger-loadtester:*=@loadtester')

e2e-apisix: $(TESTBED) ## Follow what the ingress controller of APISIX tells a gateway, through whole rollouts
	-go mod download github.com/apache/apisix-ingress-controller@v1.8.4
	$(SHARED) go build $(TAGS) -o bin/flagger-killed ./cmd/flagger
	$(SHARED) go test -c -o bin/dataplane.test ./test/e2e
	$(TESTBED) run --with prometheus --images hack/testbed/demo/images.yaml \
	  --image 'apache/apisix-ingress-controller:*=@apisix-ingress-controller' -- \
	  env FLAGGER=$(CURDIR)/bin/flagger-killed ROOT=$(CURDIR) APISIX=1 bin/dataplane.test -test.v \
	  -test.run TestApisix -test.parallel 4 -test.timeout $(TIMEOUT)

# All that there is. What is built for it takes most of the time, the first time.
test-all: test test-lives test-memory test-testbed test-backends $(shell awk -F: '/^e2e-[a-z]+:/ {print $$1}' $(MAKEFILE_LIST)) ## Run all tests, through every data plane as well

e2e-gatewayapi: $(TESTBED) ## Through the Gateway API on Contour and Envoy
	$(call through,gatewayapi,gatewayapi,TestDataPlane)

e2e-traefik: $(TESTBED) ## Through Traefik, by its own routes and by the Gateway API
	$(call through,traefik,traefik,TestDataPlane)
	$(call through,traefik,traefik,TestTutorial,--image 'flagger/flagger-loadtester:*=@loadtester')
	$(call through,traefik-gatewayapi,traefik,TestDataPlane)

cover: ## Fail when the pure packages are covered by less than 95 %
	hack/cover.sh

verify: ## Fail when generated code or CRDs are not what their source says
	hack/verify.sh

lint: $(LINTER) ## Run the linter
	$(LINTER) run ./...
	cd hack/testbed && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	@same=$$(go run github.com/mibk/dupl@v1.1.0 -plumbing -t 60 pkg/router); if [ -n "$$same" ]; then echo "$$same"; exit 1; fi
	cd test/thirdparty && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	cd test/promql && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	cd test/charts && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	cd hack/release && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	cd test/gitops && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...

$(LINTER):
	mkdir -p $(CACHE)/tmp
	GOBIN=$(CACHE)/tmp GOFLAGS=-mod=mod go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(CACHE)/tmp/golangci-lint $@

generate: ## Generate deep copies, clients, CRDs and their reference from the API types, and the table of conformance from the tests
	hack/generate.sh
	go test ./test/e2e -run TestConformancePage -update

# Without root and outside of the tree: python3 with venv, and the packages from PyPI. Where there is npm, the site brings the script that
# draws its diagrams; where there is none, browsers get it from where the theme has it.
DOCS    := $(CACHE)/docs
MERMAID := $(DOCS)/mermaid-11.12.0.min.js

.PHONY: docs pictures recordings

docs: $(DOCS)/requirements.txt ## Make a site of the documentation, in dist/docs. DOCS_REPOSITORY is the URL that files of the repository have
	@if [ ! -e $(MERMAID) ] && command -v npm >/dev/null; then $(MAKE) --no-print-directory $(MERMAID); fi
	MERMAID=$$(ls $(MERMAID) 2>/dev/null || true) $(DOCS)/bin/mkdocs build --quiet
	@echo 'Open dist/docs/index.html'

$(DOCS)/requirements.txt: hack/docs/requirements.txt
	python3 -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	cp $< $@

# Plotting takes many packages, which the site does without.
PICTURES := $(CACHE)/pictures

pictures: $(PICTURES)/requirements.txt ## Draw the dashboards from their recordings, into docs/images
	$(PICTURES)/bin/python hack/docs/pictures.py charts/grafana/dashboards hack/docs/recordings docs/images

$(PICTURES)/requirements.txt: hack/docs/pictures.txt
	python3 -m venv $(PICTURES)
	$(PICTURES)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	cp $< $@

recordings: $(TESTBED) ## Record what dashboards show, on a testbed that plays a tutorial and from the series of the tests, in hack/docs/recordings
	go build -o bin/record ./test/dashboards/record
	RECORD=$(CURDIR)/hack/docs/recordings go -C test/promql test -count=1 -run TestRecordings .
	$(TESTBED) run --with prometheus,contour --images hack/docs/images.yaml -- hack/docs/play.sh bin/record

$(MERMAID):
	cd $(DOCS) && npm pack --silent mermaid@11.12.0 && tar -xzf mermaid-11.12.0.tgz --strip-components=2 package/dist/mermaid.min.js
	rm $(DOCS)/mermaid-11.12.0.tgz
	mv $(DOCS)/mermaid.min.js $@

clean: ## Remove what was built into the tree
	rm -rf bin dist
