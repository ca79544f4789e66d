# Everything works from a fresh clone with git, make and Python >= 3.11: each target does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-more test-pythons test-long verify day lint bench tools deploy-lint deploy-check chart images clean

UV_VERSION := 0.13.9
UV := .uv/bin/uv
UV_MADE := .uv/made-$(UV_VERSION)
BIN := .venv/bin
SYNCED := .venv/.synced
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# seconds for one file, or for Python's start: a busy machine is no failure (uv's default is 60)
export UV_COMPILE_BYTECODE_TIMEOUT := 600
# the environments are the ones below, whatever is active in the caller's shell
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME
# the tests start hundreds of processes: each would compile what it imports, half a second and more
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SYNCED) ## make .venv with everything pinned in uv.lock

$(UV_MADE):
	@python=$$(sh scripts/python.sh) || exit 2; \
	echo "uv $(UV_VERSION) into .uv ($$python)"; \
	rm -rf .uv && "$$python" -m venv .uv && \
	.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)" && touch $(UV_MADE)

# uv.lock names no host (docs/decisions/0001), so its pins and hashes are exported and synced from uv's configured index:
# `uv sync --frozen --all-extras` in three steps.
$(SYNCED): uv.lock pyproject.toml $(UV_MADE)
	@echo "packages of uv.lock into .venv"
	@test -x $(BIN)/python || $(UV) venv --quiet --clear --python .uv/bin/python .venv
	@$(UV) export --quiet --frozen --all-extras --all-groups --no-emit-project --no-header --output-file .uv/requirements.txt
	@$(UV) pip sync --quiet --compile-bytecode --python .venv --require-hashes .uv/requirements.txt
	@$(UV) pip install --quiet --python .venv --no-deps --editable .
	@touch $(SYNCED)

lock: $(UV_MADE) ## make uv.lock anew after a change to pyproject.toml (ARGS=--upgrade for newer pins)
	.uv/bin/python scripts/lock.py $(ARGS)

demo: setup ## the main job on real data, with a worker killed half-way, audited (ARGS=--no-kill)
	$(BIN)/kstream demo $(ARGS)

# Broker tests wait more than they compute: four of their processes left a third of two processors idle. Each takes about
# a gigabyte with its broker and what it starts.
TEST_PROCESSES ?= 5
# Tests start some thousand processes. Where Python may write no bytecode each of them would compile all that it imports.
# Where nobody may, in a clone of another user, they do: it takes longer, and is no failure.
COMPILED = $(BIN)/python -m compileall -qq kstream tests services || true
test: setup ## unit, broker and fault tests (ARGS=... for pytest; TEST_PROCESSES=... side by side)
	@$(COMPILED)
	$(BIN)/python -m pytest -m "not slow and not more" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --ignore tests/deploy tests $(ARGS)

test-more: setup ## the further cases of tests that have one in `make test` (ARGS=... for pytest)
	@$(COMPILED)
	$(BIN)/python -m pytest -m more -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --ignore tests/deploy tests $(ARGS)

test-pythons: setup ## unit and typing tests on the machine's other supported Pythons
	.uv/bin/python scripts/test_pythons.py $(ARGS)

test-long: setup ## the long forms of the tests, and 2,000 generated cases of each operator
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m "slow or cases" --ignore tests/deploy tests $(ARGS)

verify: setup ## kills by seed on three brokers, all that was committed audited (SEEDS="1 2 3"; 5 minutes each)
	KSTREAM_TEST_SEEDS="$(or $(SEEDS),1 2 3)" $(BIN)/python -m pytest -s -m slow tests/faults/test_verification.py $(ARGS)

day: setup ## a day in the life of a service, with its alerts and what mends them, into monitoring/DAY.md (8 minutes)
	@sh scripts/tools.sh check prometheus prometheus-alertmanager
	KSTREAM_TEST_DAY=$(CURDIR)/monitoring/DAY.md $(BIN)/python -m pytest -s tests/monitoring/test_day.py $(ARGS)

lint: setup ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict kstream $(wildcard services)
	$(BIN)/lint-imports

bench: setup ## the benchmark table, into benchmarks/RESULTS.md (ARGS=... for the benchmarks)
	$(BIN)/python -m benchmarks $(ARGS)

tools: ## chromium, Prometheus and Alertmanager, which some tests need (Debian packages, as root or with sudo)
	@sh scripts/tools.sh

deploy-lint: setup ## linters and schemas for image, compose file and chart; installs what they need
	$(BIN)/python -m tests.deploy.tools quick
	KSTREAM_DEPLOY=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile tests/deploy $(ARGS)

deploy-check: setup ## all of that, on a real Docker daemon and a real Kubernetes API server too (Linux, as root)
	$(BIN)/python -m tests.deploy.tools all
	KSTREAM_DEPLOY=1 $(BIN)/python -m pytest tests/deploy $(ARGS)

chart: setup ## the chart as a package and as an OCI layout, in dist/ (HELM=... for a helm of your own)
	@$(BIN)/python scripts/chart.py "$(or $(HELM),$$($(BIN)/python -m tests.deploy.tools helm4))"

# Without REGISTRY nothing is sent anywhere. Another machine's platform needs its emulation (binfmt), or a builder there.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PLATFORMS ?= linux/amd64,linux/arm64
IMAGE = --platform $(PLATFORMS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD)
images: ## the image for PLATFORMS, as an OCI archive in dist/, or to REGISTRY=registry.example/team (docker buildx)
	@mkdir -p dist
	docker buildx build $(IMAGE) --target kstream --tag $(or $(REGISTRY),localhost)/kstream:$(VERSION) \
		$(if $(REGISTRY),--push,--output type=oci,dest=dist/kstream-$(VERSION)-image.tar) .

clean: ## remove what the targets above made (not the broker's jars in the user's cache)
	rm -rf .venv .uv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find kstream services tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
