# Stonecrop: `make` lists what there is. Everything lives in .venv, which the first target that needs it creates.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt
CPUS := $(shell nproc 2>/dev/null || echo 1)
# One thread a process: the processes of the tests and of a simulation share the cores already.
export OMP_NUM_THREADS := 1
export FLWR_TELEMETRY_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help quickstart federation test slow lint bench clean

help: ## Show this list
	@echo "Stonecrop: federated learning that ends in a verified int8 edge model."
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

quickstart: $(VENV)/.run ## Simulate real people's smartwatches, with and without privacy, up to a verified int8 model
	@$(BIN)/fl-sim run configs/quickstart.yaml --overwrite
	@echo "Open the report: $(CURDIR)/runs/quickstart/report.html"

federation: $(VENV)/.run ## Run the same as real processes: server, gateway and three devices on this machine, with TLS
	@command -v nginx /usr/sbin/nginx >/dev/null || { echo "expected nginx; install it: apt install nginx-light"; exit 1; }
	@$(BIN)/python -m simulation.local_fleet

test: $(VENV)/.dev ## Run the tests (some minutes)
	@$(BIN)/python -m pytest -n $(CPUS)

slow: $(VENV)/.dev ## Run the slow tests
	@$(BIN)/python -m pytest -n $(CPUS) --dist loadgroup -m slow

lint: $(VENV)/.dev ## Check style, types and what may import what
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev ## List the benchmarks, each one command
	@grep -l '^def main' benchmarks/*.py | xargs grep -H -m 1 -oE '^"""[^.]*\.' | sed 's/:"""/  /'

clean: ## Remove the environment and the caches, not the runs
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp says what is installed, so a second call starts at once; a change of the versions installs anew.
$(VENV)/.run: $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sim,onnx]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sim,onnx,efficientnet,dev]'
	@touch $@
