# Every command of the README. The environment is made when a command first needs it.
PYTHON ?= python3
TRIALS ?= 20
NIGHTS ?= 20
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# With TRY=1, commands are about a small first run in a home of its own.
ifdef TRY
export PIPELINE_HOME := var/try
export MOVIELENS_DIR := synthetic-small
export RECIPES_YAML := docs/try/recipes.yaml
export MLFLOW_YAML := docs/try/mlflow.yaml
endif

.DEFAULT_GOAL := help
.PHONY: help try run months run-temporal paper tune rollback withdraw ui test app serve test-real test-slow test-browser test-docs docs soak bench bench-top10 bench-training bench-serve bench-app bench-visitors bench-warm-start bench-nights lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2} END {print "\nPIPELINE_HOME=<directory> says where everything is kept (default: var); docs/configuration.md has all variables."}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

##@ Use it

try: ## a small first run on generated data, under var/try; then make ui TRY=1, make app TRY=1
	@$(MAKE) --no-print-directory run TRY=1

run: $(READY) ## raw ratings to top-10 tables, what has changed: [MOVIELENS_DIR=<directory>] [RETRAIN=1]
	@$(BIN)/python -m orchestration run random $(if $(RETRAIN),--retrain)

ui: $(READY) ## Dagster and MLflow in the browser; Ctrl-C stops both: [DAGSTER_PORT=3000] [MLFLOW_PORT=5000]
	@$(BIN)/python -m orchestration ui

app: $(READY) ## the web app, to look one user up: [APP_PORT=8501]
	@$(BIN)/python -m app.web

serve: $(READY) ## the REST service: [SERVE_HOST=127.0.0.1] [SERVE_PORT=8000]
	@$(BIN)/python -m app.service

##@ Operate it

months: $(READY) ## top-10 tables for a range of months, by the champions: FIRST=2000-04 LAST=2000-06
	@$(BIN)/python -m orchestration months '$(FIRST)' '$(LAST)'

rollback: $(READY) ## go back to an earlier champion and its tables: MODEL=<name> VERSION=<number> [DATASET=<name>]
	@$(BIN)/python -m orchestration rollback '$(MODEL)' '$(VERSION)' '$(DATASET)'

withdraw: $(READY) ## undo a batch: BATCH=<number> [DATASET=<name>]; without a number, list them
	@$(BIN)/python -m orchestration withdraw '$(BATCH)' '$(DATASET)'

run-temporal: $(READY) ## train on the earliest ratings, measure on the latest; publishes nothing
	@$(BIN)/python -m orchestration run temporal

paper: $(READY) ## AutoInt as its paper trains and measures it, three seeds
	@$(BIN)/python -m orchestration paper

tune: $(READY) ## search for better settings of a recipe; resumes: RECIPE=<name> [TRIALS=20]
	@$(BIN)/python -m orchestration tune '$(RECIPE)' '$(TRIALS)'

##@ Change it

test: $(READY) lint ## quick tests, linters and type checker
	$(BIN)/python -m pytest -n logical --maxprocesses 4

lint: $(READY) ## linters and type checker only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## rewrite docs/configuration.md from the code
	@$(BIN)/python -W ignore -m tests.docs.configuration

test-slow: $(READY) ## tests that take minutes
	$(BIN)/python -m pytest -m slow

test-real: $(READY) ## tests on MovieLens-1M: MOVIELENS_DIR=<directory>
	$(BIN)/python -m pytest -m real_data

test-browser: $(READY) ## click through the app, Dagster and MLflow in Chromium
	$(BIN)/python -m pytest -m browser

test-docs: $(READY) ## run every command of the pages, on small data
	$(BIN)/python -m pytest -m docs

soak: $(READY) ## nights with faults in accelerated time: [NIGHTS=20]
	@$(BIN)/python -m tests.soak '$(NIGHTS)'

clean: ## remove the environment; data/ and var/ stay
	rm -rf $(VENV)


##@ Measure it

bench: bench-top10 bench-training bench-serve bench-app bench-visitors bench-warm-start ## all benchmarks, on the results of make run

bench-top10: $(READY) ## what top lists cost: exact scorer, shortlist, latency, growth
	@$(BIN)/python -m benchmarks.top10

bench-training: $(READY) ## what training costs: rows a second, loss curves
	@$(BIN)/python -m benchmarks.training

bench-nights: $(READY) ## what a night costs as the data grows; in homes of its own
	@$(BIN)/python -m benchmarks.nights

bench-serve: $(READY) ## requests a second and latencies of make serve, by wrk
	@$(BIN)/python -m benchmarks.serve

bench-app: $(READY) ## from the click to the answer in the web app, in Chromium
	@$(BIN)/python -m benchmarks.web_app

bench-visitors: $(READY) ## what the rule for visitors without a history is worth
	@$(BIN)/python -m benchmarks.visitors

bench-warm-start: $(READY) ## what a night costs that goes on from the champion, and what it is worth
	@$(BIN)/python -m benchmarks.warm_start
