"""Time of change-point searches beside public peers, one run, methods taken in turn, answers compared.

Levels 0 and a shift in turn, unit noise; penalty (d + 1) log T with the noise variance known, given to every
method that takes one. Least of several rounds of wall and of CPU seconds, after one call that compiles. A
method is left out of larger sets once it has taken longer than the limit. The objective column compares with
the least penalised cost that any method found (0: the same).

Peers are optional: ruptures, skchange, changeforest, fastcpd.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import hidamari as hd
from hidamari.inference.costs import Mean
from hidamari.inference.segments import divide_and_conquer, fpop, pelt, seeded_binary

SETS = {  # name: (rows, columns, changes, shift)
    "d=1 1e4": (10**4, 1, 9, 1.0),
    "d=1 1e5": (10**5, 1, 9, 1.0),
    "d=1 1e6": (10**6, 1, 9, 1.0),
    "d=1 1e7": (10**7, 1, 9, 1.0),
    "d=1 1e5 null": (10**5, 1, 0, 0.0),
    "d=1 1e5 dense": (10**5, 1, 999, 2.0),
    "d=1 1e6 dense": (10**6, 1, 9999, 2.0),
    "d=20 1e4": (10**4, 20, 9, 0.5),
    "d=20 1e5": (10**5, 20, 9, 0.5),
    "d=20 1e6": (10**6, 20, 9, 0.5),
    "d=1000 1e5": (10**5, 1000, 9, 0.1),
}
QUICK = ["d=1 1e4", "d=1 1e5", "d=20 1e4"]
Method = Callable[..., Any]


def ours() -> dict[str, Method]:
    """Searches of this package."""
    return {
        "numpy sum": lambda x, penalty: np.array([np.sum(x)])[:0],
        "hidamari divide_and_conquer": lambda x, penalty: (
            divide_and_conquer(x, Mean(), penalty).change_points
        ),
        # Noise, penalty, intervals and the posterior are its own: it asks more than the others.
        "hidamari DCDP fit": lambda x, penalty: hd.DCDP().fit(x).change_points_,
        "hidamari fpop": lambda x, penalty: fpop(x, Mean(), penalty).change_points,
        "hidamari pelt": lambda x, penalty: pelt(x, Mean(), penalty).change_points,
        "hidamari seeded_binary": lambda x, penalty: seeded_binary(x, Mean(), penalty).change_points,
    }


def peers() -> dict[str, Method]:
    """Searches of the peers that are installed."""
    found: dict[str, Method] = {}
    if installed("ruptures"):
        import ruptures as rpt

        def ruptures(detector):
            """Changes of a detector, which gives the end of the series as the last."""
            return lambda x, penalty: (detector.fit(x).predict(pen=penalty) or [0])[:-1]

        found["ruptures KernelCPD linear"] = ruptures(rpt.KernelCPD(kernel="linear", min_size=1, jump=1))
        found["ruptures Pelt l2 jump=5"] = ruptures(rpt.Pelt(model="l2", min_size=1, jump=5))
        found["ruptures Binseg l2 jump=5"] = ruptures(rpt.Binseg(model="l2", min_size=1, jump=5))
    if installed("skchange"):
        from skchange import detectors
        from skchange.interval_scorers import CostChangeScore, L2Cost

        def skchange(detector):
            """Changes of a fitted detector."""
            return lambda x, penalty: detector(penalty).fit(x).predict(x)

        found["skchange FPOP"] = skchange(lambda penalty: detectors.FPOP(penalty))
        found["skchange PELT"] = skchange(lambda penalty: detectors.PELT(penalty=penalty))
        found["skchange SeededBS"] = skchange(
            lambda penalty: detectors.SeededBinarySegmentation(CostChangeScore(L2Cost()), penalty=penalty)
        )
    if installed("changeforest"):
        from changeforest import Control, changeforest

        def change_in_mean(search):
            """Binary segmentation with segments of 50 rows at least."""

            def run(x, penalty):
                share: Any = max(50 / len(x), 1e-6)
                control = Control(minimal_relative_segment_length=share)
                return changeforest(x, "change_in_mean", search, control).split_points()

            return run

        found["changeforest BS"] = change_in_mean("bs")
        found["changeforest SeedBS"] = change_in_mean("sbs")
    if installed("fastcpd"):
        import fastcpd

        found["fastcpd mean default"] = lambda x, penalty: fastcpd.detect_mean(x, cp_only=True).cp_set
        found["fastcpd mean BIC"] = lambda x, penalty: (
            fastcpd.detect_mean(
                x,
                beta=penalty / 2,
                cost_adjustment="BIC",
                variance_estimation=np.eye(x.shape[1]),
                cp_only=True,
            ).cp_set
        )
    return found


def installed(package: str) -> str | None:
    """Version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def data(n_rows: int, d: int, n_changes: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Series and its true changes."""
    segment = np.arange(n_rows) * (n_changes + 1) // n_rows
    x = np.random.default_rng(1).standard_normal((n_rows, d))
    x += shift * (segment % 2)[:, None]
    return x, np.flatnonzero(np.diff(segment)) + 1


def objective(x: np.ndarray, changes: np.ndarray, penalty: float) -> float:
    """Penalised sum of squares, less the sum of squares about zero."""
    edges = np.concatenate([[0], np.asarray(changes, dtype=np.int64), [len(x)]])
    sums = np.add.reduceat(x, edges[:-1])
    return float(-(sums**2 / np.diff(edges)[:, None]).sum() + penalty * (len(edges) - 2))


def hausdorff(found: np.ndarray, true: np.ndarray) -> float | None:
    """Largest distance of a change, found or true, from the nearest of the other kind."""
    if not len(found) or not len(true):
        return 0.0 if len(found) == len(true) else None

    def far(a, b):
        at = np.searchsorted(b, a)
        return np.minimum(np.abs(b[at.clip(0, len(b) - 1)] - a), np.abs(b[(at - 1).clip(0)] - a)).max()

    return float(max(far(found, true), far(true, found)))


def apart(name: str, options: argparse.Namespace, slow: dict[str, int]) -> dict:
    """Rows of one set, measured in a process of its own; a method that ends it, or its time, is left out.

    A crash or the system's end of a process that takes too much memory costs one method, not the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        while True:
            answer.write_text(json.dumps({"slow": slow}))
            command = [sys.executable, __file__, "--sets", name, "--answer", str(answer)]
            command += ["--rounds", str(options.rounds), "--limit", str(options.limit)]
            try:
                ended = subprocess.run(command, timeout=options.seconds).returncode
            except subprocess.TimeoutExpired:
                ended = f"no end within {options.seconds:g} s"
            found = json.loads(answer.read_text())
            slow |= found["slow"]
            if "rows" in found:
                return found["rows"]
            method = found.get("running")
            print(f"{name}: {method} ended the process: {ended}", flush=True)
            if method is None or method == "hidamari divide_and_conquer":
                raise SystemExit(1)
            slow[method] = 0


def measure(
    name: str, methods: dict[str, Method], rounds: int, limit: float, slow: dict[str, int], tell: Method
) -> dict:
    """Rows of one set: every method in every round, in turn."""
    n_rows, d, n_changes, shift = SETS[name]
    x, true = data(n_rows, d, n_changes, shift)
    penalty = (d + 1) * float(np.log(n_rows))
    results: dict[str, dict] = {}
    for turn in range(rounds):
        for method, run in methods.items():
            if slow.get(method, 10**12) <= x.size or ("fpop" in method.lower() and d > 1):
                continue
            if turn and method not in results:
                continue
            if turn and results[method]["cpu_s"] * rounds > limit:
                continue
            tell(method)
            start, cpu = time.perf_counter(), time.process_time()
            try:
                changes = np.sort(np.asarray(run(x, penalty), dtype=np.int64))
            except (RuntimeError, TypeError, ValueError, MemoryError) as failure:
                print(f"{name}: {method} failed: {failure}", flush=True)
                slow[method] = x.size
                continue
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            row = results.setdefault(method, {"wall_s": np.inf, "cpu_s": np.inf})
            row |= {
                "wall_s": min(row["wall_s"], wall),
                "cpu_s": min(row["cpu_s"], cpu),
                "changes": len(changes),
            }
            if method != "numpy sum":
                row |= {"hausdorff": hausdorff(changes, true), "objective": objective(x, changes, penalty)}
            if cpu > limit:
                slow[method] = x.size
    least = min(row["objective"] for row in results.values() if "objective" in row)
    for row in results.values():
        if "objective" in row:
            row["above_least"] = max(round(row.pop("objective") - least, 6), 0.0)
    tracemalloc.start()
    divide_and_conquer(x, Mean(), penalty)
    results["hidamari divide_and_conquer"]["peak_of_input"] = round(
        tracemalloc.get_traced_memory()[1] / x.nbytes, 4
    )
    tracemalloc.stop()
    return results


def table(results: dict) -> str:
    """Markdown: one row a method and set."""
    lines = [
        "| set | method | wall s | CPU s | changes | Hausdorff | objective above least |",
        "|" + "---|" * 7,
    ]
    for name, rows in results.items():
        if name in SETS:
            for method, row in rows.items():
                more = [row.get(k) for k in ("changes", "hausdorff", "above_least")]
                cells = ["" if v is None else f"{v:g}" for v in more]
                lines.append(
                    f"| {name} | {method} | {row['wall_s']:.4g} | {row['cpu_s']:.4g} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--quick", action="store_true", help=", ".join(QUICK))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--limit", type=float, default=5.0, help="CPU seconds a call may take before larger sets are skipped"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], help="methods to leave out, as the table names them"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="that a set may take in all")
    parser.add_argument("--json", type=Path, help="keep the figures here, with those of other sets")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        one_set(options)
        return
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    results: dict = kept | {
        "versions": {p: installed(p) for p in ("hidamari", "ruptures", "skchange", "changeforest", "fastcpd")}
    }
    slow = dict.fromkeys(options.without, 0)
    for name in QUICK if options.quick else options.sets:
        results[name] = apart(name, options, slow)
        if options.json:
            options.json.parent.mkdir(exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n")
        print(table({name: results[name]}), flush=True)


def one_set(options: argparse.Namespace) -> None:
    """Measure one set, telling in the answer's file what runs."""
    slow = json.loads(options.answer.read_text())["slow"]
    methods = ours() | peers()
    small = data(2000, 1, 2, 2.0)[0]

    def tell(method: str) -> None:
        """Keep the name of what runs next."""
        options.answer.write_text(json.dumps({"slow": slow, "running": method}))

    for method, run in methods.items():
        if slow.get(method, 10**12) > 0:
            tell(method)
            run(small, 15.0)
    rows = measure(options.sets[0], methods, options.rounds, options.limit, slow, tell)
    options.answer.write_text(json.dumps({"slow": slow, "rows": rows}))


if __name__ == "__main__":
    main()
