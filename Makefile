# The two commands of the README are `make demo` and `make test`; the rest is for whoever works on the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chaos requirements translations

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "The broker needs Python 3.11 or newer; $(PYTHON) is older. Try: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python cannot make a virtual environment here. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "Installing the broker into $(VENV) ..."
	@$(PIP) install --require-hashes --only-binary=:all: -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.demo
	@$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

demo: $(VENV)/.demo ## the whole product on this machine, with an embedded directory and AWS stand-in
	@exec $(BIN)/broker demo

test: $(VENV)/.test ## install what the tests need, servers included, and run every check
	@tests/install-servers
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest tests/core -n auto --dist loadfile --cov
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not alone" --ignore tests/core
	@$(BIN)/python -m pytest -m alone

lint: $(VENV)/.test ## formatting, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.test ## measure; prints ratios, asserts nothing; EVENTS=200000 builds smaller audits
	@tests/install-servers
	@for one in sign_assertion ldap_sign_in audit_insert sealed_insert \
	  "audit_pages $(EVENTS:%=--large %)" "audit_pages --engine sqlite $(EVENTS:%=--large %)" issuance; \
	  do echo "== $$one"; $(BIN)/python -m tests.bench.$$one || exit 1; done

chaos: $(VENV)/.test ## kill workers and databases while credentials are issued, and compare; needs root for a disk to fill
	@tests/install-servers
	@$(BIN)/python -m tests.chaos

requirements: $(VENV)/.test ## resolve the pinned requirements anew from pyproject.toml
	@$(PIP) install uv
	@$(COMPILE) --group build --extra demo --extra postgresql -o requirements/demo.txt
	@$(COMPILE) --group build --group test --extra demo --extra postgresql -c requirements/demo.txt -o requirements/test.txt
	@$(COMPILE) --extra postgresql -c requirements/demo.txt -o deploy/requirements.txt

translations: $(VENV)/.test ## read the portal's texts anew from code and templates, keep what is translated, compile
	@pot=$$(mktemp) && trap 'rm -f "$$pot"' EXIT \
	  && $(BIN)/pybabel --quiet extract -F broker/web/babel.cfg -k lazy_gettext -k lazy_ngettext:1,2 --no-location \
	    --omit-header --sort-output -w 120 -o "$$pot" broker/web templates \
	  && $(BIN)/pybabel --quiet update -i "$$pot" -d broker/web/translations -w 120 --no-fuzzy-matching \
	    --ignore-obsolete --ignore-pot-creation-date \
	  && $(BIN)/pybabel --quiet compile -d broker/web/translations
