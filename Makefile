# make run     every table on the embedded Snowflake, no account needed
# make dev     the Dagster UI on http://127.0.0.1:3000
# make example-partitions  a table that is built by the day: a week of it, what is published, and a rollback; DAYS=FIRST...LAST
# make example-partitions-ui  the same table in the Dagster UI: a backfill
# make test    all tests but the thorough ones
# make thorough  the tests, and those that take minutes each: PART=unit, PART='integration/test_[a-e]*', ...; hours
# make unit    the unit tests: nothing outside the process, about a minute
# make coverage  the unit tests, and which lines they run
# make mutants   small faults in the pure modules, one at a time: which do the unit tests miss? long
# make faults  faults, interleavings and killed processes at random: FOR=10m, SEED=1, ONLY='interleaving/1' for one trial
# make lint    what CI checks besides the tests
# make docs    the references in docs/, and .env.example, from the code
# make site    the documentation as a site, in .venv/site; a link that leads nowhere fails
# make pictures  the pictures of docs/images, taken again in headless Chromium
# make bench   the same tables built by this project, dbt, dagster-dbt, SQLMesh and a bare script: an hour or more; docs/benchmarks.md has
#              the other ones, of loading, of thousands of tables and of a long history

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
COMMA := ,

# Three warnings that nobody here can act on: two say that `dg` supersedes `dagster`, one is about a parameter that Dagster passes
# itself. PYTHONWARNINGS reaches the processes that a command starts, too. Every other warning is shown.
SUPERSEDED := ignore:Function `dev_command` is superseded,ignore:Function `asset_materialize_command` is superseded
QUIET := $(SUPERSEDED),ignore:Parameter `include_sources` of function `AssetSelection.all`
run dev example-partitions example-partitions-ui: export PYTHONWARNINGS := $(if $(PYTHONWARNINGS),$(PYTHONWARNINGS)$(COMMA))$(QUIET)
# The history of this folder's dagster.yaml, instead of a temporary directory for what that leaves out.
run dev example-partitions example-partitions-ui: export DAGSTER_HOME ?= $(CURDIR)

.PHONY: run dev example-partitions example-partitions-ui test thorough unit coverage faults mutants lint docs site pictures bench clean

run: $(VENV)/embedded
	$(BIN)/dagster asset materialize --select '*' -m run_elt_dagster
	@echo
	@$(BIN)/run-elt show
	@echo
	@$(BIN)/run-elt query 'select * from analytics.mau_summary order by month'

# Dagster 1.13.27 on SQLite: webserver and daemon that open a new history at the same moment can break it for good. Here one process
# has opened it before.
dev: $(VENV)/embedded
	@$(BIN)/dagster instance info >/dev/null
	$(BIN)/dagster dev

# In a folder of its own: its data and its history are none of those of `make run`.
example-partitions example-partitions-ui: export RUN_ELT_TABLES_DIR := tables
EXAMPLE := cd examples/partitions && $(abspath $(BIN))
DAYS ?= 2019-05-01...2019-05-07
DAY = $(lastword $(subst ..., ,$(DAYS)))

example-partitions: $(VENV)/embedded
	$(EXAMPLE)/dagster asset materialize --select analytics/sessions_daily --partition-range $(DAYS) -m run_elt_dagster
	$(EXAMPLE)/dagster asset materialize --select analytics/sessions_daily --partition $(DAY) -m run_elt_dagster
	@echo
	$(EXAMPLE)/run-elt rollback analytics.sessions_daily --partition $(DAY) --yes
	@echo
	@$(EXAMPLE)/run-elt show --partitions analytics.sessions_daily

example-partitions-ui: $(VENV)/embedded
	@$(EXAMPLE)/dagster instance info >/dev/null
	$(EXAMPLE)/dagster dev -m run_elt_dagster

# Five on two cores: half of the tests of real processes wait for one.
test: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses 5 --maxschedchunk 2

PART ?=

# One process for each core: what only these tests do, computes.
thorough: $(VENV)/dev
	RUN_ELT_TESTS_THOROUGH=1 $(BIN)/python -m pytest --numprocesses 2 --maxschedchunk 1 $(addprefix run_elt_dagster_tests/,$(PART))

unit: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses 2 run_elt_dagster_tests/unit

# Left out: the embedded Snowflake, whose documented lines run elsewhere, what waits or reads documents, and what stops processes: started
# in the background a process ignores SIGINT, Dagster then ignores SIGTERM too, and so does what a test starts.
NOT_TRACED := not embedded and not interruption and not pages and not site and not deploy and not references

coverage: $(VENV)/dev
	$(BIN)/coverage run -m pytest --quiet run_elt_dagster_tests/unit -k '$(NOT_TRACED)'
	$(BIN)/coverage report

FOR ?= 2m

faults: $(VENV)/dev
	$(BIN)/python -m run_elt_dagster_tests.faults --for $(FOR) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only '$(ONLY)')

# A second call goes on where the first ended. One part: make mutants ONLY='run_elt_dagster.publish.statements.*'
mutants: $(VENV)/mutants
	$(BIN)/mutmut run --max-children 2 $(ONLY)
	$(BIN)/mutmut results

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/run-elt lint
	$(BIN)/sqlfluff lint run_elt_dagster/tables examples deploy/snowflake_setup.sql

docs: $(VENV)/dev
	$(BIN)/python docs/write_settings.py
	$(BIN)/python docs/write_embedded.py
	$(BIN)/python docs/write_commands.py
	$(BIN)/python docs/write_front_matter.py
	$(BIN)/python docs/write_alert_tags.py
	$(BIN)/python docs/write_doctor.py
	$(BIN)/python docs/write_modules.py

site: $(VENV)/dev
	$(BIN)/python docs/build_site.py

pictures: $(VENV)/dev
	$(BIN)/python docs/take_pictures.py

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
		{ echo "run_elt_dagster requires Python 3.11 or newer, got $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# --quiet: hundreds of lines of pip would hide what comes after them; its errors are shown.
# --no-compile: what is used is compiled when it is used first, in a third less time than all of it now.
$(VENV)/embedded: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV). This takes one to three minutes."
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[embedded]'
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV). This takes one to three minutes."
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/embedded $@

$(VENV)/mutants: $(VENV)/dev
	$(BIN)/pip install --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[mutants]'
	@touch $@

clean:
	rm -rf $(VENV) .run_elt .dagster_storage
