# keyledger: only Go and make are presupposed.

GO     ?= go
FLAGS  ?=     # of the program: make run FLAGS='--listen 127.0.0.1:4223'
BENCH  ?=     # of a benchmark: make bench BENCH='-in-flight 256 -workloads debit,hot'
ROUNDS ?= 100 # how often each fault happens in make faults
FUZZ   ?= 30s # how long each fuzz target runs in make fuzz

.PHONY: help run demo build test check format vet staticcheck vulnerabilities tidy race report-browser bench bench-peers bench-scale bench-rebuild bench-live bench-past bench-hooks faults fuzz mutants clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | \
	while read -r make target text; do printf '  %s %-16s %s\n' "$$make" "$$target" "$$text"; done

run: build ## build and serve on ./data
	./bin/keyledger serve $(FLAGS)

demo: build ## build and show what keyledger does, in a directory of its own
	./bin/keyledger demo $(FLAGS)

build: ## build bin/keyledger
	$(GO) build -trimpath -o bin/ ./cmd/keyledger

test: ## run all tests
	$(GO) test ./...

check: format vet staticcheck vulnerabilities tidy race ## everything that must hold before a change goes in

format: ## gofmt has nothing to change
	@files=$$(gofmt -l cmd events ledger projections webhooks testing) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted (gofmt -w):"; echo "$$files"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

staticcheck: ## staticcheck, in the version of go.mod
	$(GO) tool staticcheck ./...

# govulncheck exits with 3 for findings. Where it cannot fetch its database there is
# nothing to find: that is said and is no failure. Anything else is.
vulnerabilities: ## govulncheck, where its database can be reached
	@out=$$($(GO) tool govulncheck ./... 2>&1); status=$$?; \
	case "$$status:$$out" in \
	0:*) echo "govulncheck: nothing found" ;; \
	3:*) echo "$$out"; exit 1 ;; \
	*"fetching vulnerabilities"*) echo "govulncheck: skipped, its database cannot be reached" ;; \
	*) echo "$$out"; exit 1 ;; \
	esac

tidy: ## the rules of the house
	$(GO) test ./testing/tidy

race: ## all tests under the race detector
	$(GO) test -race ./...

report-browser: ## open keyledger's report in headless Chromium; as root it installs what is missing
	KEYLEDGER_BROWSER=install $(GO) test ./cmd/keyledger -run InABrowser -count 1 -v

bench: ## what keyledger does a second beside a bare echo, see BENCHMARKS.md
	$(GO) run ./testing/bench $(BENCH)

bench-peers: ## the same debit in PostgreSQL 15, Redis 7 and keyledger; as root it installs what is missing
	$(GO) run ./testing/bench peers $(BENCH)

bench-scale: ## a million accounts with a key each: memory, replay, start
	$(GO) run ./testing/bench scale $(BENCH)

bench-rebuild: ## state, views and feed made again from a log
	$(GO) run ./testing/bench rebuild $(BENCH)

bench-live: ## debits with everything on, and how soon they are visible
	$(GO) run ./testing/bench live $(BENCH)

bench-past: ## queries about now and about the past of a long log
	$(GO) run ./testing/bench past $(BENCH)

bench-hooks: ## webhooks: speed, latency, isolation, backlog, many endpoints, catch-up
	$(GO) run ./testing/bench hooks $(BENCH)

faults: ## fault tests, ROUNDS times each, then make fuzz
	KEYLEDGER_FAULTS_ROUNDS=$(strip $(ROUNDS)) $(GO) test ./testing/faults -run . -count 1 -timeout 2h -v
	$(MAKE) fuzz

fuzz: ## every fuzz target, FUZZ long each
	@grep -rn '^func Fuzz' --include='*_test.go' . | sed 's|^\./\(.*\)/[^/]*:[0-9]*:func \([A-Za-z]*\)(.*|\1 \2|' | \
	while read -r folder target; do \
		echo "$$folder $$target"; \
		$(GO) test ./$$folder -run '^$$' -fuzz "^$$target\$$" -fuzztime $(strip $(FUZZ)) </dev/null || exit 1; \
	done

mutants: ## take each mechanism out and see its test fail
	KEYLEDGER_MUTANTS=1 $(GO) test ./testing/faults/mutants -run TestEachMutantIsCaught -count 1 -timeout 2h -v

clean: ## remove what was built; ./data stays
	rm -rf bin
	find . -name '*.prof' -type f -delete
