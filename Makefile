# Start with `make demo` or `make test` on a fresh clone.  Each works alone, and can be repeated.

PYTHON ?= python3
SEEDS ?= 10000
MINUTES ?= 60
SEED ?= 0
BIN := .venv/bin
# Stamp files: an environment is up to date if its stamp is newer than what it was made from.
STAMP := .venv/installed
PEERS := .venv-peers/installed
IGNITE := .venv-ignite/installed

.DEFAULT_GOAL := help
.PHONY: help demo test slow lint types simulate soak bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## sweep the handwritten digits and print the table of results
	$(BIN)/python -m sweeper run examples.digits --folder out/digits

# Compiled first: where Python may not write bytecode, each of the many processes would compile.
test: lint types  ## lint, types, then the test suite without its slow tests
	@$(BIN)/python -m compileall -q sweeper tests examples
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

slow: $(STAMP)  ## the slow tests: each takes many seconds
	$(BIN)/python -m pytest -n 2 --dist load -m slow

lint: $(STAMP)  ## check style and format (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## check types (mypy --strict)
	$(BIN)/mypy

simulate: $(STAMP)  ## simulate 10,000 sweeps under faults (minutes); SEEDS=N for another number
	$(BIN)/python -m tests.simulate --seeds $(SEEDS)

soak: $(STAMP)  ## an hour of real sweeps of every kind under kills, and a check of memory; MINUTES=N, SEED=N
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED)

bench: $(STAMP) $(PEERS) $(IGNITE)  ## run the benchmarks and rewrite benchmarks/RESULTS.md (hours; ONLY="overhead scale")
	$(BIN)/python benchmarks/run_all.py --peers .venv-peers/bin/python \
		--ignite .venv-ignite/bin/python $(if $(ONLY),--only $(ONLY))

clean:  ## remove the environment and every cache; results in out/ stay
	rm -rf .venv .venv-peers .venv-ignite build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools comes first, so that the package itself is built with the pinned version.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt setuptools
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e '.[analysis,examples,optuna,dev]'
	@touch $@

# A separate environment for the tools that the benchmarks compare with.
$(PEERS): benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -r benchmarks/peers.txt
	@touch $@

# Another environment, since ignite-simple needs an old numpy; its wheel lacks a page that it reads.
$(IGNITE): benchmarks/ignite_simple.txt
	$(PYTHON) -m venv .venv-ignite
	.venv-ignite/bin/python -m pip install -r benchmarks/ignite_simple.txt
	.venv-ignite/bin/python -c 'import sysconfig; from pathlib import Path; \
		page = Path(sysconfig.get_path("purelib"), "html", "index.html"); \
		page.parent.mkdir(exist_ok=True); page.touch()'
	@touch $@
