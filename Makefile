# Each target makes what it needs: on a machine with Python >= 3.11, `make demo` or `make test` is enough.
PYTHON ?= python3
BIN := .venv/bin
# Folders of data that are not ours to pass on, for `make bench`: left out where they are not given.
TCPD ?=
FORECASTS ?=

# One thread of BLAS and of XLA: the compiled loops bring their own, and small matrices lose by more.
export OPENBLAS_NUM_THREADS ?= 1
export NPROC ?= 1

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    latent trajectories of a hippocampal recording, written to results/"
	@echo "make test    the test suite"
	@echo "make check   ruff and pyright"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   all benchmarks, shortened, against public peers (long)"

demo: .venv/installed
	$(BIN)/python examples/hippocampus.py

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Shortened; benchmarks/README.md says how long each takes, and how the figures kept there were made.
bench: .venv/installed-bench
	mkdir -p results
	$(BIN)/python benchmarks/recovery.py --quick
	$(BIN)/python benchmarks/cosmoothing.py --quick
	$(BIN)/python benchmarks/calibration.py --trials 5 20
	$(BIN)/python benchmarks/cost.py --rows 5000 --longest 100000
	$(BIN)/python benchmarks/extremes.py
	$(BIN)/python benchmarks/gradient.py --lengths 10000 --rounds 2 --json results/gradient.json
	$(BIN)/python benchmarks/nuts.py --methods hidamari tinygp --warmup 100 --samples 200
	$(BIN)/python benchmarks/sbc.py --replicates 20
	$(BIN)/python benchmarks/change_points.py --quick
	$(BIN)/python benchmarks/change_points_speed.py --quick --rounds 2 --limit 1
	$(BIN)/python benchmarks/dcdp_paper.py --n-sets 10 --only mean covariance
	$(BIN)/python benchmarks/kalman_changes.py --runs 20
	$(BIN)/python benchmarks/online.py --quick
	$(BIN)/python benchmarks/autoregression.py --series 3 --rounds 2
	$(BIN)/python benchmarks/vae_scaling.py --lengths 400 1600 --dense 400 --rounds 1
	test ! -d "$(TCPD)" || $(BIN)/python benchmarks/tcpd.py "$(TCPD)"
	test ! -d "$(FORECASTS)" || $(BIN)/python benchmarks/forecasting.py "$(FORECASTS)"

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
