"""The pages in docs/ run from top to bottom, without a warning, and link to files that exist."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)

# What a page shows must also be right: lines that run after those of the page.
CHECKS = {
    "change_points.md": """
assert np.abs(model.change_points_ - [250, 400]).max() <= 15 and len(model.change_points_) == 2
assert path.at(model.penalty_).change_points.tolist() == model.change_points_.tolist()
assert np.abs(spikes.change_points_ - [2000, 4000]).max() <= 100
assert (np.abs(spikes.segments_["rate"].values.ravel() - [5, 15, 5]) < 3).all()
assert (np.abs(stream.change_points_[:1] - 250) <= 15).all() and len(stream.change_points_) >= 1
assert len(own.change_points_) == 1 and abs(own.change_points_[0] - 90) <= 5
found = DCDPDetector().fit(pd.DataFrame(x)).predict(pd.DataFrame(x))
assert found["ilocs"].tolist() == model.change_points_.tolist() and found["ilocs"].dtype.kind == "i"
""",
    "forecasting.md": """
assert ((truth >= ahead.lower) & (truth <= ahead.upper)).mean() > 0.85
assert float(np.sqrt(((truth - ahead["mean"]) ** 2).mean())) < 2.0
assert found.lags_[found.support_[0]].tolist() == [1, 3, 10]
assert np.abs(exact.coef_[0, [0, 2, 9]] - [0.2, 0.3, -0.4]).max() < 0.06
seen = ~np.isnan(holes)
assert np.allclose(filled["mean"].values[seen], holes[seen]) and (filled["var"].values[~seen] > 0).all()
assert np.abs(rich.coefficients().estimate.sel(coefficient=["holiday", "exog 0"]) - [8, 2]).max() < 1.5
assert tree.attrs["converged"] and np.argmax(log_evidence) == 10
assert np.abs(tree["posterior"].coef.median(("chain", "draw")) - posterior.mean[:12]).max() < 0.05
assert matters.coefficient.values[matters > 0.5].tolist() == ["lag 1", "lag 3", "lag 10"]
""",
    "sequences.md": """
assert abs(model.period_ - 13.7) < 0.05 and model.n_epochs_ > 0
assert errors["network"] < 0.98 * errors["linear"] < 0.17 and densities["network"] > densities["linear"]
assert np.allclose(filled["mean"].values[~gone], seen[25:][~gone]) and (filled["var"].values[gone] > 0).all()
assert 0.5 < coast.space_.lengthscale < 8.0 and float(np.abs(there["mean"][:, 0] - field[:, 7]).mean()) < 0.6
""",
}

# Where sktime is not installed: what its BaseDetector (1.2.0) does with _fit and _predict.
STAND_IN = '''
class BaseDetector:
    """fit and predict hand a DataFrame to _fit and _predict, which gives a DataFrame of ilocs."""

    _tags = {}

    def fit(self, X, y=None):
        return self._fit(X, y)

    def predict(self, X):
        return self._predict(X)
'''


@pytest.fixture
def stand_ins(tmp_path):
    """A folder for the path, with those modules that pages import and that are not installed."""
    if importlib.util.find_spec("sktime") is None:
        folder = tmp_path / "stand_ins" / "sktime" / "detection"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        (folder / "base.py").write_text(STAND_IN, encoding="utf-8")
    return tmp_path / "stand_ins"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_run_from_top_to_bottom(page, tmp_path, stand_ins):
    code = [*BLOCK.findall(page.read_text(encoding="utf-8")), CHECKS.get(page.name, "")]
    (tmp_path / "page.py").write_text("\n".join(code), encoding="utf-8")
    path = os.pathsep.join([str(ROOT), str(stand_ins)])
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_link_to_files_that_exist(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_every_page_with_code_is_checked():
    with_code = {page.name for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))}
    assert set(CHECKS) <= with_code
