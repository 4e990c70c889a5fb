# One virtual environment in .venv, made on first use; everything after that works offline.
PYTHON ?= python3
BIN := .venv/bin
CORE := .venv/core-installed
DEV := .venv/dev-installed

.PHONY: demo test test-slow check lint types format bench docs clean

demo: $(CORE)            ## from nothing to a conversation
	$(BIN)/linnet demo

test: $(DEV)             ## all tests but the slow ones, on two cores
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(DEV)        ## what takes minutes: memory, mutations, the demo's quality
	$(BIN)/pytest -m slow

check: lint types test   ## what CI runs

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/mypy

format: $(DEV)           ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV)            ## measure; results go to benchmarks/results
	$(BIN)/python benchmarks/pipeline.py

docs: $(DEV)             ## write docs/cli.md, docs/how-it-works.md and the notebook anew
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_how_it_works.py
	$(BIN)/python docs/make_notebook.py

$(CORE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(DEV): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(CORE)

clean:                   ## remove the environment and caches, never runs or data
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
