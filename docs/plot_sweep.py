#!/usr/bin/env python3
"""Plot what `vadlite sweep` measured: image AUROC against the head's bytes and time.

    pip install matplotlib
    vadlite sweep --json --dataset bottle > bottle.json
    python3 docs/plot_sweep.py bottle.json pill.json --out docs/images/sweep.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PAPER = {"subspaces": 8, "bits": 8, "bank": 10000, "candidates": 1000, "coarse": "symmetric"}
LINES = [("subspaces", "m", "o"), ("bits", "b", "s"), ("bank", "K", "^"), ("candidates", "k", "v"), ("coarse", "coarse search", "D")]


def series(rows, name):
    """The rows in which only this constant may differ from the paper's."""
    rest = {key: value for key, value in PAPER.items() if key != name}
    found = [row for row in rows if all(row[key] == value for key, value in rest.items())]
    return sorted(found, key=lambda row: row[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure, axes = plt.subplots(len(options.files), 2, figsize=(11, 4 * len(options.files)), squeeze=False)
    for (by_bytes, by_time), file in zip(axes, options.files):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for axis, key, scale, label in ((by_bytes, "head_bytes", 1e-3, "head, kB"), (by_time, "head_ms", 1, "head, ms per image, one thread")):
            for colour, (name, title, marker) in enumerate(LINES):
                line = series(rows, name)
                x, y = [row[key] * scale for row in line], [row["image_auroc"] for row in line]
                axis.plot(x, y, marker=marker, color=f"C{colour}", label=title, linewidth=1)
                if name in ("subspaces", "bits", "bank"):
                    for row, px, py in zip(line, x, y):
                        if row[name] != PAPER[name]:
                            text = f"{title}={row[name]}"
                            axis.annotate(text, (px, py), textcoords="offset points", xytext=(4, 4), fontsize=7, color=f"C{colour}")
            paper = series(rows, "subspaces")
            paper = next(row for row in paper if row["subspaces"] == PAPER["subspaces"])
            axis.plot(paper[key] * scale, paper["image_auroc"], "k*", markersize=13, label="the paper's constants", zorder=5)
            axis.set(xlabel=label, ylabel="image AUROC", title=file.stem, xscale="log")
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
