# Each target does its own set-up: it only needs a Python of 3.11 or newer.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?=
CHROMIUM ?=
export PYTHON CHROMIUM
# The tests must not use a database or channel layer that is set in the surrounding shell.
unexport DATABASE_URL CHANNEL_LAYER_URL DJANGO_SETTINGS_MODULE TEST_DATABASE TEST_CHOICE
# Container images often set this one. Then each of the several hundred processes of the suite compiles our modules anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
SET_UP := .venv/.installed-

.PHONY: help demo docs test quick coverage compat guests bench soak fuzz lint types release-check mariadb programs clean

help:
	@echo "make demo    run the example site and print where it is"
	@echo "make docs    build the documentation into build/docs; warnings are errors"
	@echo "make test    lint, types and all tests, on the oldest and newest Python and Django, on each database, with a browser"
	@echo "make quick   lint, types and the tests that need no server, in less than a minute after set-up"
	@echo "make coverage  run the tests on SQLite and list the lines that no test reaches"
	@echo "make compat  run one course over every supported server, database and store, and write docs/compatibility.md"
	@echo "make guests  test capture beside third-party packages, and write the table of docs/capture.md"
	@echo "make bench   compare with peers and with the limits of server and machine"
	@echo "make soak    break running processes under load, for a long time, and check a ledger; then make fuzz"
	@echo "make fuzz    send a million frames of every kind to real servers, and check the results"
	@echo "make release-check  walk through the checklist of a release; it publishes nothing"
	@echo "make lint    only ruff;  make types  only mypy;  make clean  remove what these targets made"

# Newer project files than the stamp mean that the installed packages are out of date.
$(SET_UP)%: pyproject.toml .ci/constraints.txt .ci/venv
	@.ci/venv $* $@

# pip compiles mysqlclient, so its library has to be installed first.
$(SET_UP)test: | mariadb

demo: $(SET_UP)demo
	@$(BIN)/python example_site/manage.py demo

docs: $(SET_UP)docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "==> build/docs/index.html"

test: lint types programs
	@$(BIN)/python -m tests.rounds $(ARGS)

# mypy caches its results, so after the first run it checks changed files only. It runs beside the tests.
quick: lint
	@$(BIN)/mypy & status=0; \
	TEST_CHOICE=quick $(BIN)/python -m pytest -q $(ARGS) || status=$$?; \
	wait $$! || status=$$?; \
	exit $$status

coverage: programs
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(ARGS)
	@$(BIN)/coverage report

compat: programs
	@.ci/programs compat
	@$(BIN)/python -m tests.compat $(ARGS)

guests: $(SET_UP)test
	@$(BIN)/python -m tests.guests $(ARGS)

bench: programs
	@$(BIN)/python -m tests.benchmarks $(ARGS)

soak: programs
	@$(BIN)/python -m tests.faults $(ARGS)
	@$(BIN)/python -m tests.attack.fuzzing

fuzz: programs
	@$(BIN)/python -m tests.attack.fuzzing $(ARGS)

release-check: programs
	@$(BIN)/python -m tests.release

lint: $(SET_UP)test
	@echo "==> Lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(SET_UP)test
	@echo "==> Types"
	@$(BIN)/mypy

mariadb:
	@.ci/programs mariadb

programs: $(SET_UP)test
	@.ci/programs

clean:
	rm -rf .venv .venv-* build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
