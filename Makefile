# make demo | make test | make check: each sets up what it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-all test-cluster check format clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python -m sacro_ray.demo

# Two files at a time, a thread each: half of the tests' time is Ray starting, which waits more than it computes.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: install
	$(BIN)/python -m pytest -q -m 'slow or not slow'

# As root on Debian or Ubuntu: machines for a cluster are made of network namespaces, and a batch queue of slurm-wlm.
test-cluster: install
	apt-get update --quiet
	apt-get install --yes --quiet --no-install-recommends openssh-server openssh-client rsync iproute2 slurm-wlm munge prometheus
	$(BIN)/python -m pytest -q -m 'cluster or slow' tests/cluster

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
