"""Change points that five people marked in each of 21 series, beside published scores.

Reads a folder with the Turing Change Point Dataset as one JSON file a series (see ``--help``). Scores are
those of van den Burg and Williams (2020): F1 with a margin of five rows, and segmentation covering. One
default serves all series; each is standardised, as in that benchmark.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import hidamari as hd


def matched(truth, found, margin):
    """Those of the true change points that have a found one near, each found one used once."""
    left, hits = sorted(found), set()
    for t in sorted(truth):
        near = [(abs(t - x), x) for x in left if abs(t - x) <= margin]
        if near:
            left.remove(min(near)[1])
            hits.add(t)
    return hits


def f1(annotations, found, margin=5):
    """F1: precision against all annotators together, recall averaged over them; row 0 counts as a change."""
    truths, found = [set(marks) | {0} for marks in annotations], set(found) | {0}
    precision = len(matched(set.union(*truths), found, margin)) / len(found)
    recall = np.mean([len(matched(truth, found, margin)) / len(truth) for truth in truths])
    return 2.0 * precision * recall / (precision + recall)


def segments(changes, n):
    """Pairs of first row and end."""
    edges = [0, *sorted(set(changes) - {0, n}), n]
    return list(zip(edges[:-1], edges[1:]))


def covering(annotations, found, n):
    """Share of rows covered: each annotated segment by the found one most like it, averaged over people."""

    def one(marks):
        best = [
            (b - a)
            * max(max(0, min(b, y) - max(a, x)) / (max(b, y) - min(a, x)) for x, y in segments(found, n))
            for a, b in segments(marks, n)
        ]
        return sum(best) / n

    return float(np.mean([one(marks) for marks in annotations]))


def read(folder, name):
    """Standardised series (time, unit)."""
    values = json.loads((folder / "series" / f"{name}.json").read_text(encoding="utf-8"))["y"]
    y = np.array(values, dtype=float).T
    return (y - np.nanmean(y, axis=0)) / np.nanstd(y, axis=0)


METHODS = {
    "no change": lambda y: [],
    "DCDP": lambda y: hd.DCDP().fit(y).change_points_.tolist(),
    "DCDP, independent noise": lambda y: hd.DCDP(noise="independent").fit(y).change_points_.tolist(),
    "DCDP, not robust": lambda y: hd.DCDP(robust=False).fit(y).change_points_.tolist(),
    "DCDP, mean and variance": lambda y: hd.DCDP("mean_variance").fit(y).change_points_.tolist(),
}


def settings(y):
    """Changes by 20 settings: two models, two kinds of noise, five times the default penalty."""
    found = []
    for model in ("mean", "mean_variance"):
        for noise in ("auto", "independent"):
            price = hd.DCDP(model, noise=noise).fit(y).penalty_
            for times in (0.25, 0.5, 1.0, 2.0, 4.0):
                own = hd.DCDP(model, noise=noise, penalty=times * price, interval=None)
                found.append(own.fit(y).change_points_.tolist())
    return found


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="with annotations.json, baselines.json and series/NAME.json"
    )
    parser.add_argument("--json", type=Path, help="keep the scores in this file")
    arguments = parser.parse_args()
    marks = json.loads((arguments.folder / "annotations.json").read_text(encoding="utf-8"))
    published = [
        name for name in marks if not name.startswith("quality") and name not in ("uk_coal_employ", "run_log")
    ]
    scores = {}
    for method, find in METHODS.items():
        scores[method] = {}
        for name, people in marks.items():
            y = read(arguments.folder, name)
            found, people = find(y), list(people.values())
            scores[method][name] = {
                "f1": f1(people, found),
                "cover": covering(people, found, len(y)),
                "K": len(found),
            }
    print(f"means over the {len(published)} univariate series of the published tables\n")
    print("| method | F1 | covering |\n|---|---|---|")
    means = {}
    for method, own in scores.items():
        means[method] = [float(np.mean([own[name][key] for name in published])) for key in ("f1", "cover")]
        print(f"| {method} | {means[method][0]:.3f} | {means[method][1]:.3f} |")
    best = []
    for name in published:
        y, people = read(arguments.folder, name), list(marks[name].values())
        tried = settings(y)
        best.append([max(f1(people, t) for t in tried), max(covering(people, t, len(y)) for t in tried)])
    means["best of 20 settings for each series"] = [float(v) for v in np.mean(best, axis=0)]
    print(
        f"| best of 20 settings for each series | {' | '.join(f'{v:.3f}' for v in np.mean(best, axis=0))} |"
    )
    print("\n| series | rows | DCDP: changes | F1 | covering |\n|---|---|---|---|---|")
    for name, own in scores["DCDP"].items():
        rows = len(read(arguments.folder, name))
        print(f"| {name} | {rows} | {own['K']} | {own['f1']:.3f} | {own['cover']:.3f} |")
    if arguments.json:
        kept = {"published_subset": published, "means": means, "series": scores}
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
