# Each target does its own set-up. Tools are cached in ~/.cache/backstay (BACKSTAY_CACHE), outside the clone.
.DEFAULT_GOAL := help
.PHONY: help setup build test e2e-swarm e2e-kubernetes crash soak replay check generate demo bench bench-swarm clean-cache
GENERATED := docs/reference/resources.md crds/backstay.yaml charts/backstay/files/crds.yaml
PYTHON ?= python3
CARGO ?= cargo
BACKSTAY_CACHE ?= $(HOME)/.cache/backstay
export BACKSTAY_CACHE

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## fetch the pinned tools (mongod, mongodump, mongorestore, rclone, Docker Engine), each checked by its sum
	@$(PYTHON) tools/setup.py

build: ## the program as it is released: target/release/backstay
	$(CARGO) build --locked --release

# Most of a test is waiting for servers and programs, so more of them run at once than there are processors.
test: setup ## every test, those on real servers and remotes included
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} $(CARGO) test --locked

e2e-swarm: setup ## all that must hold on a real Swarm, on Docker Engine 20.10 and 29 (root only)
	@$(PYTHON) tools/setup.py engine29
	@$(PYTHON) tools/e2e.py swarm $(CARGO) test --locked --test e2e -- --include-ignored swarm:: --skip swarm::measure

e2e-kubernetes: setup ## all that must hold on a real Kubernetes of two nodes, the Helm chart included (root only)
	@$(PYTHON) tools/setup.py helm
	@$(PYTHON) tools/e2e.py kubernetes $(CARGO) test --locked --test e2e -- --include-ignored kube::

crash: setup ## the crash matrix, all of it (hours): CRASH_POINTS=10 for fewer points a case, CRASH_CASE=kill-task for one case
	$(CARGO) test --locked --test e2e -- --ignored --nocapture --exact crash::all_of_the_crash_matrix
	$(CARGO) test --locked --test contract -- --ignored --exact prune::a_pass_may_be_killed_after_any_deletion
	$(CARGO) test --locked --test e2e -- --ignored --exact nights::a_token_that_can_be_renewed_once_lasts_sixty_nights

soak: ## a million simulated policy-years of bad luck on all cores (hours): SOAK_YEARS=1000 for fewer
	$(CARGO) test --locked --release --test sim -- --ignored --nocapture --exact soak::soak hunt::every_planted_bug_is_found_by_any_faults

replay: ## one seed of the simulation, step by step: make replay SEED=7
	$(CARGO) test --locked --test sim -- --ignored --nocapture --exact soak::replay

# Advisories are not part of it: they need a database from the network. `cargo deny check advisories` looks them up.
check: ## format, lints, dependencies and their licences, generated files
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@$(PYTHON) tools/setup.py cargo-deny
	$(BACKSTAY_CACHE)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	@$(MAKE) --no-print-directory generate
	git diff --exit-code -- $(GENERATED) || { echo "commit what make generate has written"; exit 1; }

generate: ## write the files that follow from the types: the reference and the CRDs
	$(CARGO) run --quiet --locked -- schema --markdown > target/resources.md && mv target/resources.md docs/reference/resources.md
	$(CARGO) run --quiet --locked -- crds > target/crds.yaml && mv target/crds.yaml crds/backstay.yaml
	cp crds/backstay.yaml charts/backstay/files/crds.yaml

demo: setup build ## a backup and a full restore of a real replica set and a home directory, in two minutes
	@$(PYTHON) tools/demo.py

bench: setup build ## compare with the seed's script, restic and a pipe by hand: target/bench/results.md
	@$(PYTHON) tools/setup.py restic
	@$(PYTHON) tools/bench.py

bench-swarm: setup ## the controller with 500 policies on a real Swarm (root only, forty minutes): target/bench/swarm.json; BACKSTAY_BENCH_POLICIES=50 for fewer
	BACKSTAY_REQUIRE_SWARM=1 $(CARGO) test --locked --release --test e2e -- --ignored --nocapture --exact swarm::measure::many_policies

clean-cache: ## remove the tools and the benchmark's corpus; the next run fetches them again
	@$(PYTHON) tools/setup.py clean
