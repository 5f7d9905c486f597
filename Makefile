# Every target is for a fresh checkout with Go and nothing else; `make deps` adds the two programs that the tests need.

GO      ?= go
ARGS    ?=
COUNT   ?= 10
TIMEOUT ?= 14m
TOOL    := $(GO) tool -modfile=internal/tools/go.mod
VERSION := $(or $(shell git describe --always --dirty --tags 2>/dev/null),unknown)

# The race detector needs cgo and a C compiler.
CC_NAME := $(firstword $(shell $(GO) env CC))
RACE    := $(if $(and $(filter 1,$(shell $(GO) env CGO_ENABLED)),$(shell command -v $(CC_NAME) 2>/dev/null)),-race)

.DEFAULT_GOAL := help
.PHONY: help demo build test lint bench microbench heal replay sabotage deps

## help: print this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "  %-10s %s\n", $$1, $$2 }'

## demo: run everything on this machine with a simulated fleet; flags in ARGS="--devices 1000"
demo: build
	exec bin/complianced demo $(ARGS)

## build: make bin/complianced, one static binary
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/complianced ./cmd/complianced

## test: vet and run all tests, with the race detector where there is a C compiler
# Under the race detector TestAllTriples… tries one triple of 16, so that it runs once more without.
test: deps
	$(GO) vet ./...
	$(GO) test $(RACE) -timeout $(TIMEOUT) ./...
	$(if $(RACE),$(GO) test -timeout $(TIMEOUT) -run TestAllTriples ./compliance)

## lint: check the house rules in .golangci.yml
lint:
	$(TOOL) golangci-lint run --allow-parallel-runners

## bench: measure everything on real servers, in about a quarter of an hour, and fail where a target is missed; flags in ARGS="--count 1 --json bench.json"
bench: deps
	@mkdir -p bin
	@$(GO) build -o bin/bench ./internal/bench
	@bin/bench $(ARGS)

## microbench: run all Go benchmarks COUNT times; compare two saved outputs with go tool -modfile=internal/tools/go.mod benchstat
microbench: deps
	@$(GO) test -run '^$$' -bench . -benchmem -count=$(COUNT) ./...

## heal: kill, empty and set back everything under load, at full length, in about a quarter of an hour; flags in ARGS="-run Stream"
heal: deps
	$(GO) test ./internal/heal -count=1 -full -timeout 60m -v $(ARGS)
	$(GO) test ./store -count=1 -full -run 'TheNumbersEqualARecount|VerifyFindsNothing|DependsOnNoOrder' -timeout 60m
	$(GO) test ./publisher/spool -count=1 -full -run 'AreKilled|AnyDamage' -timeout 20m -v
	$(GO) test ./cmd/complianced -count=1 -full -run 'TheGaugeOfGracePeriods|APolicyIsRemovedWhile' -timeout 60m -v

## replay: replay 200,000 reports in every way, and 1,000,000 beside live ones, in about half an hour
replay: deps
	$(GO) test ./cmd/complianced -count=1 -full -run 'AReplay|ABareReplay|ADryRun|LiveReports' -timeout 60m -v $(ARGS)

## sabotage: put deliberate bugs in, one by one, and show that the tests catch each
sabotage: deps
	@$(GO) run ./internal/sabotage $(ARGS)

## deps: install redis-server and Node.js, which the tests need, unless they are there
deps:
	@scripts/deps.sh
