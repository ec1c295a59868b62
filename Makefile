# Two commands on a fresh machine: `make run` and `make test`. Everything lives in .venv; nothing else is touched,
# except that `make test` installs the Debian packages that its tests use, where it may.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
TESTS  ?= tests
PROCESSES ?= 3
SECONDS ?= 60
MINUTES ?= 30
BENCH  ?= speed redis fleet memory hostile eviction

.DEFAULT_GOAL := help
.PHONY: help run test coverage kube check format bench soak fuzz docs lock clean

help: ## Show this help.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("crowdgate needs Python 3.11 or later, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment: try 'apt-get install python3-venv'" >&2; exit 1; }

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing crowdgate into $(VENV) ..."
	@$(PIP) --editable '.[embedded,demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing crowdgate and its tools into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run ## Start the proxy before a sample event API, and say what to try.
	@exec $(BIN)/crowdgate-proxy demo $(ARGS)

test: $(VENV)/.dev ## Install what the tests need and run them (TESTS=tests/proxy for a part, PROCESSES=0 for one process).
	@tests/install.sh
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder $(TESTS) $(ARGS) || { \
	    [ $$? = 1 ] || exit 2; \
	    echo "=== FAILED BESIDE OTHER TESTS; once more, alone: a test that minds how busy the machine is passes now ==="; \
	    $(BIN)/python -m pytest --numprocesses 0 --last-failed --last-failed-no-failures none $(TESTS) $(ARGS); }

coverage: ## The same, and which lines they run (those of processes that tests start are not seen).
	@$(MAKE) test ARGS='--cov --cov-report term:skip-covered $(ARGS)'

kube: ## Build the Kubernetes control plane that tests/kube uses: once, some 9 minutes; needs Go.
	@tests/kube/binaries/build.sh

check: $(VENV)/.dev ## Formatting, lint, types, import contracts, generated docs.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m proxy.config_docs --check
	$(BIN)/python -m proxy.metrics_docs --check
	$(BIN)/python -m tests.claims --check

format: $(VENV)/.dev ## Format the code and mend what lint can mend.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev ## Write the generated parts of docs/.
	$(BIN)/python -m proxy.config_docs --write
	$(BIN)/python -m proxy.metrics_docs --write
	$(BIN)/python -m tests.claims --write

bench: $(VENV)/.dev ## Measure: speed beside nginx, Varnish and HAProxy, and each part by itself (BENCH="speed redis", ARGS="--seconds 2", TRACES=...).
	$(if $(filter speed,$(BENCH)),@tests/bench/install.sh)
	$(if $(filter speed,$(BENCH)),$(BIN)/python -m tests.bench.speed $(ARGS))
	$(if $(filter redis,$(BENCH)),$(BIN)/python -m tests.bench.redis_faults)
	$(if $(filter redis,$(BENCH)),$(BIN)/python -m tests.bench.redis_lanes)
	$(if $(filter fleet,$(BENCH)),$(BIN)/python -m tests.bench.fleet)
	$(if $(filter memory,$(BENCH)),$(BIN)/python -m tests.bench.memory)
	$(if $(filter hostile,$(BENCH)),$(BIN)/python -m tests.bench.hostile)
	$(if $(filter eviction,$(BENCH)),$(if $(TRACES),$(BIN)/python -m tests.bench.eviction $(TRACES),@echo 'eviction: give traces of one object id a line, TRACES="file ..."'))

soak: $(VENV)/.dev ## Three replicas under load, writes, purges, reloads and faults: no wrong body, memory flat (MINUTES=30).
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

fuzz: $(VENV)/.dev ## Hunt for bytes that break a parser (TARGET="entry chunks" SECONDS=600).
	@$(PIP) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run $(TARGET) --seconds $(SECONDS)

lock: $(VENV)/.dev ## Write constraints.txt from what is installed.
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean: ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
