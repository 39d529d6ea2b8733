"""The committed reference arrays (scripts/make_reference.py), and what it takes to equal them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

DIRECTORY = Path(__file__).resolve().parent.parent / "data" / "reference"
#: The greatest deviation that is allowed, in standard deviations of the reference array.
TOLERANCE = 1e-3


class Reference:
    """What openai-whisper computes for one model, over one window and one sequence of tokens."""

    def __init__(self, name: str) -> None:
        with np.load(DIRECTORY / f"{name}.npz") as stored:
            self._arrays = {key: stored[key] for key in stored.files}
        self.tokens = self._arrays["tokens"].tolist()
        self.stages = [key.removesuffix(":values") for key in self._arrays if key.endswith(":values")]

    def get(self, stage: str, kind: str) -> np.ndarray:
        return self._arrays[f"{stage}:{kind}"]

    def deviations(self, stage: str, array: np.ndarray, *, by_position: bool = False) -> dict[str, float]:
        """How far an array is from the reference, each measure in its standard deviations.

        With ``by_position``, an element is measured by its own position's standard deviation
        where that is greater: inside the blocks, a few positions have values a hundred times
        the rest, whose rounding alone is beyond the tolerance for all others. The greatest
        magnitude then counts by a hundredth of itself, if that is more.
        """
        shape = tuple(self.get(stage, "shape").tolist())
        if array.shape != shape:
            raise ValueError(f"{stage} has shape {array.shape}, the reference {shape}")
        mean, std, greatest = self.get(stage, "moments")
        exact = array.astype(np.float64)
        expected = self.get(stage, "values").astype(np.float64)
        spread = expected.std(axis=1, keepdims=True) if by_position else std
        scale = np.maximum(std, spread)
        peak = max(std, greatest / 100) if by_position else std
        sampled = exact[np.ix_(self.get(stage, "rows"), self.get(stage, "columns"))]
        found = {
            "samples": (np.abs(sampled - expected) / scale).max() * std,
            "mean": abs(exact.mean() - mean),
            "spread": abs(exact.std() - std),
            "greatest": abs(np.abs(exact).max() - greatest) / peak * std,
        }
        if f"{stage}:projection" in self._arrays:
            projected = exact @ signs(array.shape[1])
            found["projection"] = np.abs(projected - self.get(stage, "projection")).max()
        return {name: float(value / std) for name, value in found.items()}


def signs(channels: int) -> np.ndarray:
    """The vector that scripts/make_reference.py projects every row on."""
    random = np.random.default_rng(channels)
    return (random.integers(0, 2, channels) * 2.0 - 1.0) / np.sqrt(channels)


load = functools.cache(Reference)
