# make run    the agent on deploy/local, with a receiver that prints what arrives
# make build TAGS=all_sd   every service discovery of Prometheus compiled in
# make test   everything: vet, lint, unit tests with -race, fuzz seeds, end to end with real parts
GO       ?= go
TAGS     ?=
VERSION  ?= $(shell cat VERSION)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
V        := github.com/prometheus/common/version
# One way to compile for everything but -race, so that what one step has compiled the next one finds in the cache.
export CGO_ENABLED := 0
export GOFLAGS     := $(shell $(GO) env GOFLAGS) -trimpath
LDFLAGS  := -s -w -X main.own=$(VERSION) -X $(V).Revision=$(REVISION) -X $(V).Branch=$(BRANCH)

.PHONY: build run test unit race config-all-sd unit-beside e2e e2e-cluster e2e-agent hostile fresh fuzz lint soak rollback release-testdata bench setup clean

build:
	$(GO) build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o prom-agent ./cmd/prom-agent

run: build
	deploy/local/run

# The tests with a Kubernetes cluster mostly wait: what needs the processors runs beside them, at a lower priority.
test: lint build setup
	$(MAKE) --no-print-directory -j2 --output-sync=target e2e-cluster unit-beside
	$(MAKE) --no-print-directory e2e-agent

unit-beside:
	nice -n 10 $(MAKE) --no-print-directory race config-all-sd

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'not formatted'; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags rollback ./cmd/prom-agent
	$(GO) mod tidy -diff
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

unit:
	$(GO) test ./...

race:
	CGO_ENABLED=1 $(GO) test -race -shuffle=on $$($(GO) list ./... | grep -v /test/e2e)

# Every service discovery compiled in: the whole of Prometheus's config testdata, and the requests of the discoveries.
config-all-sd:
	$(GO) test -tags all_sd ./config ./discovery

setup:
	test/setup

# Two runs beside each other, each in a network namespace of its own: the tests
# with a Kubernetes cluster, one after the other, and all others, some at a time.
CLUSTER_TESTS := Kubernetes|APIServer|Pod|Deployment|Cluster|RollingUpgrade
e2e: build setup
	$(MAKE) --no-print-directory -j2 --output-sync=target e2e-cluster e2e-agent

e2e-cluster e2e-agent: export PROM_AGENT = $(CURDIR)/prom-agent
e2e-cluster e2e-agent: export PROMETHEUS = $(shell test/setup --path)
e2e-cluster e2e-agent: export KUBE = $(shell test/setup --kube-path)
E2E = $(GO) test -exec $(CURDIR)/test/netns -count=1 -timeout 20m -parallel 6

e2e-cluster:
	$(E2E) -run '$(CLUSTER_TESTS)' ./test/e2e

e2e-agent:
	$(E2E) -skip '$(CLUSTER_TESTS)' ./test/e2e

# The inputs of test/hostile as large as they were found, one after the other, in
# the memory of a pod: a quarter of an hour, 3 GB at most.
hostile: build
	PROM_AGENT=$(CURDIR)/prom-agent PROMAGENT_HOSTILE=full \
		$(GO) test -exec $(CURDIR)/test/netns -count=1 -timeout 60m -v -run HostileParts ./test/e2e

# Both commands of the README in a bare Debian root: as root, about an hour.
fresh:
	test/fresh

# A minute for each fuzz target.
FUZZTIME ?= 1m
fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo $$p $$f; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

# Hours of what the unit tests do for seconds: random schedules against the
# model of what must arrive, and kills of the real process under load.
RUNS ?= 200000
KILLS ?= 2000
soak:
	PROMAGENT_MODEL_RUNS=$(RUNS) $(GO) test -timeout 0 -count=1 -run EverySampleIsDelivered ./remotewrite
	PROMAGENT_BACKLOG_HOURS=30 $(GO) test -timeout 0 -count=1 -v -run BacklogOfHours ./cmd/prom-agent
	PROMAGENT_CRASH_ROUNDS=$(KILLS) $(GO) test -timeout 0 -count=1 -v -run KillsAtRandom ./cmd/prom-agent

# An earlier release on what this one writes: its binary is built from the
# history, which takes some minutes the first time.
EARLIER ?= 72d730c
rollback:
	earlier=$$(test/earlier $(EARLIER)) && PROM_AGENT_EARLIER=$$earlier $(GO) test -tags rollback -count=1 -v -run Earlier ./cmd/prom-agent

# The directory that a release leaves, for testdata, where it stays.
release-testdata:
	folder=$(CURDIR)/cmd/prom-agent/testdata/releases/$$(git show $(EARLIER):VERSION)-$$(git rev-parse --short=7 $(EARLIER)) && \
		earlier=$$(test/earlier $(EARLIER)) && mkdir $$folder && \
		PROM_AGENT_EARLIER=$$earlier PROM_AGENT_KEEP=$$folder $(GO) test -tags rollback -count=1 -v -run KeepADirectory ./cmd/prom-agent

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./template ./scrape/... ./wal/... ./remotewrite/...

clean:
	rm -f prom-agent
