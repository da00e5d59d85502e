# Every command of the README. The environment is made when a command first needs it.
PYTHON ?= python3
TRIALS ?= 20
NIGHTS ?= 20
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run run-temporal paper tune rollback withdraw ui test app serve test-real test-slow test-browser test-docs docs soak bench bench-top10 bench-training bench-serve bench-app bench-visitors bench-warm-start bench-nights lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: $(READY) ## raw ratings to top-10 tables: all that has changed; RETRAIN=1 trains every model anew
	@$(BIN)/python -m orchestration run random $(if $(RETRAIN),--retrain)

run-temporal: $(READY) ## train on the earliest ratings, measure on the latest; publishes nothing
	@$(BIN)/python -m orchestration run temporal

paper: $(READY) ## AutoInt as its paper trains and measures it, three seeds
	@$(BIN)/python -m orchestration paper

rollback: $(READY) ## go back to an earlier champion and its tables, MODEL=<name> VERSION=<number> [DATASET=<name>]
	@$(BIN)/python -m orchestration rollback '$(MODEL)' '$(VERSION)' '$(DATASET)'

withdraw: $(READY) ## undo a delivery, DELIVERY=<number> [DATASET=<name>]; without a number, list them
	@$(BIN)/python -m orchestration withdraw '$(DELIVERY)' '$(DATASET)'

tune: $(READY) ## try settings of a recipe, RECIPE=<name> [TRIALS=20]; the same command goes on
	@$(BIN)/python -m orchestration tune '$(RECIPE)' '$(TRIALS)'

ui: $(READY) ## Dagster and MLflow in the browser; Ctrl-C stops both
	@$(BIN)/python -m orchestration ui

app: $(READY) ## look one user up, in the browser
	@$(BIN)/python -m app.web

serve: $(READY) ## recommendations over HTTP
	@$(BIN)/python -m app.service

test: $(READY) lint ## quick tests, linters and type checker
	$(BIN)/python -m pytest -n logical --maxprocesses 4

test-real: $(READY) ## tests on MovieLens-1M in MOVIELENS_DIR
	$(BIN)/python -m pytest -m real_data

soak: $(READY) ## nights with faults in accelerated time, NIGHTS=20
	@$(BIN)/python -m tests.soak '$(NIGHTS)'

test-browser: $(READY) ## click through the app, Dagster and MLflow in Chromium
	$(BIN)/python -m pytest -m browser

test-slow: $(READY) ## tests that take minutes
	$(BIN)/python -m pytest -m slow

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

docs: $(READY) ## write docs/configuration.md anew
	@$(BIN)/python -W ignore -m tests.docs.configuration

test-docs: $(READY) ## run every command of the pages, on small data
	$(BIN)/python -m pytest -m docs

lint: $(READY) ## linters and type checker only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment; data/ and var/ stay
	rm -rf $(VENV)
