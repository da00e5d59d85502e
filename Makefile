# All commands. The environment is created when a command first needs it.
PYTHON ?= python3
TRIALS ?= 20
NIGHTS ?= 20
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# With TRY=1, commands use a small first run in a separate home.
ifdef TRY
export PIPELINE_HOME := var/try
export MOVIELENS_DIR := synthetic-small
export RECIPES_YAML := docs/try/recipes.yaml
export MLFLOW_YAML := docs/try/mlflow.yaml
endif

.DEFAULT_GOAL := help
.PHONY: help try run months run-temporal paper tune metrics rollback withdraw export ui test app serve test-real test-slow test-cluster test-browser test-docs docs soak bench bench-top10 bench-training bench-serve bench-serve-visitors bench-app bench-visitors bench-diversity bench-warm-start bench-sequence bench-nights bench-recipes bench-quantized bench-scale bench-cluster lint format clean test-images images test-servers

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2} END {print "\nPIPELINE_HOME=<directory> sets where everything is stored (default: var); docs/configuration.md lists all variables."}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

##@ Use it

try: ## a small first run on generated data, in var/try; then make ui TRY=1, make app TRY=1
	@$(MAKE) --no-print-directory run TRY=1

run: $(READY) ## build top-10 tables from raw ratings; rebuilds what is stale: [DATASET=<name> | MOVIELENS_DIR=<directory>] [RETRAIN=1]
	@$(BIN)/python -m orchestration run random $(if $(RETRAIN),--retrain)

ui: $(READY) ## Dagster and MLflow in the browser; Ctrl-C stops both: [DAGSTER_PORT=3000] [MLFLOW_PORT=5000]
	@$(BIN)/python -m orchestration ui

app: $(READY) ## the web app: [APP_PORT=8501]
	@$(BIN)/python -m app.web

serve: $(READY) ## the REST service: [SERVE_HOST=127.0.0.1] [SERVE_PORT=8000]
	@$(BIN)/python -m app.service

##@ Operate it

months: $(READY) ## top-10 tables for a range of months, with the champions: FIRST=2000-04 LAST=2000-06
	@$(BIN)/python -m orchestration months '$(FIRST)' '$(LAST)'

metrics: $(READY) ## the pipeline's metrics for Prometheus; Ctrl-C stops: [METRICS_HOST=127.0.0.1] [METRICS_PORT=9464]
	@$(BIN)/python -m orchestration metrics

rollback: $(READY) ## roll back to an earlier champion and its tables: MODEL=<name> VERSION=<number> [DATASET=<name>]
	@$(BIN)/python -m orchestration rollback '$(MODEL)' '$(VERSION)' '$(DATASET)'

withdraw: $(READY) ## undo an ingestion batch: BATCH=<number> [DATASET=<name>]; without a number, list them
	@$(BIN)/python -m orchestration withdraw '$(BATCH)' '$(DATASET)'

export: $(READY) ## a champion as a SavedModel for TensorFlow Serving: MODEL=<name> [DATASET=<name>] [TO=<directory>]
	@$(BIN)/python -m orchestration export '$(MODEL)' '$(DATASET)' '$(TO)'

run-temporal: $(READY) ## train on the earliest ratings, test on the latest; publishes nothing
	@$(BIN)/python -m orchestration run temporal

paper: $(READY) ## AutoInt by its paper's protocol, three seeds
	@$(BIN)/python -m orchestration paper

tune: $(READY) ## tune a recipe's settings; resumable: RECIPE=<name> [TRIALS=20]
	@$(BIN)/python -m orchestration tune '$(RECIPE)' '$(TRIALS)'

images: ## build the container images; their bills of materials go to var/images: [ARGS='service --base <image>']
	@$(PYTHON) deploy/images.py $(ARGS)

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

docs: $(READY) ## regenerate docs/configuration.md from the code
	@$(BIN)/python -W ignore -m tests.docs.configuration

test-slow: $(READY) ## tests that take minutes
	$(BIN)/python -m pytest -m slow

test-real: $(READY) ## tests on MovieLens-1M: MOVIELENS_DIR=<directory>
	$(BIN)/python -m pytest -m real_data

test-cluster: $(READY) ## start Ray clusters on this machine, and kill their nodes
	$(BIN)/python -m pytest -m cluster

test-images: $(READY) ## build the container images and run what is in them; needs root, Buildah and debootstrap
	$(BIN)/python -m pytest -m images -n 0

test-servers: $(READY) ## the small job against PostgreSQL, MLflow with users and a store of objects, on this machine
	$(BIN)/python -m pytest -m servers

test-browser: $(READY) ## click through the app, Dagster and MLflow in Chromium
	$(BIN)/python -m pytest -m browser

test-docs: $(READY) ## run every command of the docs, on small data
	$(BIN)/python -m pytest -m docs

soak: $(READY) ## simulate nights with faults; needs root, resumable: [NIGHTS=20] [SEED=1] [NIGHT=<a kept one>] [FROM=<likewise>]
	@$(BIN)/python -m tests.soak 'NIGHTS=$(NIGHTS)' 'SEED=$(SEED)' 'NIGHT=$(NIGHT)' 'FROM=$(FROM)'

clean: ## remove the environment; keep data/ and var/
	rm -rf $(VENV)


##@ Measure it

bench: bench-top10 bench-training bench-serve bench-serve-visitors bench-app bench-visitors bench-warm-start ## the shorter benchmarks, on the results of make run

bench-top10: $(READY) ## cost of top lists: exact scorer, shortlist, latency, growth
	@$(BIN)/python -m benchmarks.top10

bench-training: $(READY) ## cost of training: rows per second, loss curves
	@$(BIN)/python -m benchmarks.training

bench-nights: $(READY) ## cost of a night as the data grows; in separate homes
	@$(BIN)/python -m benchmarks.nights

bench-serve: $(READY) ## requests per second and latencies of make serve, with wrk
	@$(BIN)/python -m benchmarks.serve

bench-serve-visitors: $(READY) ## latency of make serve's lists for visitors
	@$(BIN)/python -m benchmarks.serve_visitors

bench-app: $(READY) ## time from click to answer in the web app, in Chromium
	@$(BIN)/python -m benchmarks.web_app

bench-sequence: $(READY) ## quality of SASRec by the protocol of its papers; about ten minutes on two cores
	@$(BIN)/python -m benchmarks.sequence

bench-visitors: $(READY) ## quality of the lists for visitors without a history
	@$(BIN)/python -m benchmarks.visitors

bench-diversity: $(READY) ## what lists of different genres cost in accuracy
	@$(BIN)/python -m benchmarks.diversity

bench-warm-start: $(READY) ## cost and quality of a warm start from the champion
	@$(BIN)/python -m benchmarks.warm_start

bench-recipes: $(READY) ## what each recipe is worth, on or off, mean of three seeds: [DATASET=<name>, such as ml-1m+temporal]
	@$(BIN)/python -m benchmarks.recipes $(DATASET)

bench-scale: $(READY) ## seconds and memory of each step, as data grows to the size of MovieLens-32M; resumable: [SHAPE=1m | 4m | 16m | 32m]
	@$(BIN)/python -m benchmarks.scale $(SHAPE)

bench-cluster: $(READY) ## seconds of the heavy steps on a Ray cluster of this machine, by one and two workers
	@$(BIN)/python -m benchmarks.cluster

bench-quantized: $(READY) ## the scorer beside ONNX Runtime and OpenVINO, float32 to int8; needs pip install -e '.[bench]'
	@$(BIN)/python -m benchmarks.quantized
