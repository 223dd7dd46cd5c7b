"""What every test may use."""

import os

# Before anything draws or starts a pool of threads.
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)
