# Each target makes what it needs: on a machine with Python >= 3.11, `make demo` or `make test` is enough.
PYTHON ?= python3
BIN := .venv/bin

# One thread of BLAS and of XLA: the compiled loops bring their own, and small matrices lose by more.
export OPENBLAS_NUM_THREADS ?= 1
export NPROC ?= 1

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    latent trajectories of a hippocampal recording, written to results/"
	@echo "make test    the test suite"
	@echo "make check   ruff and pyright"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   recovery and co-smoothing against public peers (minutes)"

demo: .venv/installed
	$(BIN)/python examples/hippocampus.py

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/installed-bench
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/cosmoothing.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/cost.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist results

# The stamps are younger than pyproject.toml exactly when what it asks for is installed.
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/installed-bench: pyproject.toml .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@
