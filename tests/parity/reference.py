"""The committed reference arrays (scripts/make_reference.py), and what it takes to equal them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

DIRECTORY = Path(__file__).resolve().parent.parent / "data" / "reference"
#: The greatest deviation that is allowed, in standard deviations of the reference array.
TOLERANCE = 1e-3
#: Single positions of Whisper's encoder are so sensitive that openai-whisper's float32 result is
#: itself off from its float64 one by up to four times the tolerance. One position in a hundred (of
#: the few that are sampled, one) may be off by this many times what the reference is at its worst.
ROUNDING = 4.0


class Reference:
    """What openai-whisper computes for one model, over one window and one sequence of tokens."""

    def __init__(self, name: str) -> None:
        with np.load(DIRECTORY / f"{name}.npz") as stored:
            self._arrays = {key: stored[key] for key in stored.files}
        self.tokens = self._arrays["tokens"].tolist()
        self.stages = [key.removesuffix(":values") for key in self._arrays if key.endswith(":values")]

    def get(self, stage: str, kind: str) -> np.ndarray:
        return self._arrays[f"{stage}:{kind}"]

    def wrong(self, stage: str, array: np.ndarray) -> dict[str, float]:
        """In which ways an array is not the reference's, each in its standard deviations."""
        shape = tuple(self.get(stage, "shape").tolist())
        if array.shape != shape:
            raise ValueError(f"{stage} has shape {array.shape}, the reference {shape}")
        mean, std, greatest, _ = self.get(stage, "moments")
        exact = array.astype(np.float64)
        sampled = exact[np.ix_(self.get(stage, "rows"), self.get(stage, "columns"))]
        peak = abs(np.abs(exact).max() - greatest) / std
        found = {
            "samples": self._excess(stage, np.abs(sampled - self.get(stage, "values")).max(axis=1) / std),
            "mean": abs(exact.mean() - mean) / std,
            "spread": abs(exact.std() - std) / std,
            "greatest": peak if peak > ROUNDING * self._rounding(stage) else 0.0,
        }
        if f"{stage}:projection" in self._arrays:
            projected = exact @ signs(array.shape[1])
            found["projection"] = self._excess(stage, np.abs(projected - self.get(stage, "projection")) / std)
        return {name: float(value) for name, value in found.items() if not value <= TOLERANCE}

    def _excess(self, stage: str, positions: np.ndarray) -> float:
        """The worst position's deviation that rounding does not excuse."""
        beyond = positions[~(positions <= TOLERANCE)]
        few = len(beyond) <= max(1, len(positions) // 100)
        excused = few and len(beyond) > 0 and beyond.max() <= ROUNDING * self._rounding(stage)
        return 0.0 if excused else float(positions.max())

    def _rounding(self, stage: str) -> float:
        """How far rounding takes the reference in this half of the model, up to this stage."""
        half = [name for name in self.stages if name.startswith(("decoder.", "ln", "logits"))]
        half = half if stage in half and stage != "ln_post" else [n for n in self.stages if n not in half]
        before = self.stages[: self.stages.index(stage) + 1]
        moments = [self.get(name, "moments") for name in before if name in half or name == stage]
        return float(max(rounding / std for _, std, _, rounding in moments))


def signs(channels: int) -> np.ndarray:
    """The vector that scripts/make_reference.py projects every row on."""
    random = np.random.default_rng(channels)
    return (random.integers(0, 2, channels) * 2.0 - 1.0) / np.sqrt(channels)


load = functools.cache(Reference)
