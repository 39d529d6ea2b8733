"""Draws how fast each engine is: ``chart.py RESULTS.json PICTURE``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, OTHERS, INK = "#2563b0", "#b9bec7", "#1c1f24"


def main(results_file: str, picture: str) -> None:
    results = json.loads(Path(results_file).read_text())
    figures = results["figures"]
    models, beams = (sorted({each[key] for each in figures}, key=str) for key in ("model", "beam"))
    recordings = {name: seconds for name, seconds in results["clips"].items() if name != "many"}
    clip = max(recordings, key=recordings.__getitem__)
    mpl.rcParams |= {"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "text.color": INK}
    most = max(Counter((each["model"], each["beam"]) for each in figures).values())
    figure, axes = plt.subplots(
        len(beams),
        len(models),
        figsize=(5.2 * len(models), 0.5 + len(beams) * (0.5 + 0.27 * most)),
        squeeze=False,
        layout="constrained",
    )
    for row, beam in zip(axes, beams):
        for axis, model in zip(row, models):
            chosen = [each for each in figures if (each["model"], each["beam"]) == (model, beam)]
            panel(axis, chosen, clip, f"{model}, {'greedy' if beam == 1 else f'beam {beam}'}")
    speech = f"{clip}, {recordings[clip]:.0f} s; {results['threads']} threads"
    title = f"Seconds of speech transcribed in a second ({speech})"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(picture, dpi=160)


def panel(axis: Any, figures: list[dict[str, Any]], clip: str, title: str) -> None:
    speeds = [(each, next(c["rtfx"] for c in each["clips"] if c["clip"] == clip)) for each in figures]
    speeds.sort(key=lambda pair: pair[1])
    colours = [OURS if each["ours"] else OTHERS for each, _ in speeds]
    bars = axis.barh(
        [each["title"] for each, _ in speeds], [s for _, s in speeds], color=colours, height=0.68
    )
    axis.bar_label(bars, [f"{speed:.1f}" for _, speed in speeds], padding=4, color=INK)
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[:].set_visible(False)
    axis.tick_params(axis="both", length=0, labelcolor=INK)
    axis.set_xticks([])
    axis.margins(x=0.1)
    for label, (each, _) in zip(axis.get_yticklabels(), speeds):
        label.set_color(OURS if each["ours"] else INK)


if __name__ == "__main__":
    main(*sys.argv[1:])
