"""Draws how fast each engine is: ``chart.py RESULTS.json PICTURE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, OTHERS, INK = "#2563b0", "#b9bec7", "#1c1f24"


def main(results_file: str, picture: str) -> None:
    results = json.loads(Path(results_file).read_text())
    figures = results["figures"]
    groups = list(dict.fromkeys((each["model"], each["beam"]) for each in figures))
    clip = max(results["clips"], key=results["clips"].get)
    mpl.rcParams |= {"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "text.color": INK}
    most = max(sum((e["model"], e["beam"]) == group for e in figures) for group in groups)
    size = (5.6 * len(groups), 1.1 + 0.3 * most)
    figure, axes = plt.subplots(1, len(groups), figsize=size, squeeze=False, layout="constrained")
    for axis, group in zip(axes[0], groups):
        panel(axis, [each for each in figures if (each["model"], each["beam"]) == group], clip, group)
    seconds = results["clips"][clip]
    figure.suptitle(
        f"Seconds of speech transcribed in a second: {clip}, {seconds:.0f} s, {results['threads']} threads",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.savefig(picture, dpi=160)


def panel(axis: Any, figures: list[dict[str, Any]], clip: str, group: tuple[str, int]) -> None:
    speeds = [(each, next(c["rtfx"] for c in each["clips"] if c["clip"] == clip)) for each in figures]
    speeds.sort(key=lambda pair: pair[1])
    colours = [OURS if each["ours"] else OTHERS for each, _ in speeds]
    bars = axis.barh(
        [each["title"] for each, _ in speeds], [s for _, s in speeds], color=colours, height=0.68
    )
    axis.bar_label(bars, [f"{speed:.1f}" for _, speed in speeds], padding=4, color=INK)
    model, beam = group
    axis.set_title(f"{model}, {'greedy' if beam == 1 else f'beam {beam}'}", loc="left", fontsize=10)
    axis.spines[:].set_visible(False)
    axis.tick_params(axis="both", length=0, labelcolor=INK)
    axis.set_xticks([])
    axis.margins(x=0.1)
    for label, (each, _) in zip(axis.get_yticklabels(), speeds):
        label.set_color(OURS if each["ours"] else INK)


if __name__ == "__main__":
    main(*sys.argv[1:])
