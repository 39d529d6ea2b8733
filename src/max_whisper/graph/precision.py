"""Precision is a choice of how a linear layer multiplies: how its weights are packed, and in what
the kernels compute. Everything else (layer norms, softmax, sums, logits) is float32.

Weights are 32-bit words: one float32, two bfloat16 or four int8 that are neighbours along the
inner dimension, in panels of 32 columns (``kernels/tile.mojo``). An int8 column has a scale of
its own; activations are quantised as they come, each row with a scale of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import OptionError

PANEL = 32  # columns in a panel of packed weights
ZERO = 128  # what the kernels add to int8 activations

Words = NDArray[np.int32]
Floats = NDArray[np.float32]
Array = NDArray[Any]


def panels(columns: int) -> int:
    """How many panels hold that many columns."""
    return -(-columns // PANEL)


@dataclass(frozen=True)
class Precision:
    """One tier.

    Attributes:
        name: What the user calls it.
        linear: The kernels' mode for linear layers.
        attention: The kernels' mode for attention over audio, and so how the cross-attention
            keys and values are stored.
    """

    name: str
    linear: str
    attention: str

    @property
    def epilogue_rows(self) -> int:
        """Rows beside a weight: its bias; in int8 also its columns' scales and sums."""
        return 3 if self.linear == "int8" else 1

    def words(self, depth: int) -> int:
        """Words that hold a column of that many weights."""
        return -(-depth // STEPS[self.linear])

    def attention_words(self, values: int) -> int:
        """Words that hold that many keys or values."""
        return values // STEPS[self.attention]

    def pack(self, weight: Array, bias: Array) -> tuple[Words, Floats]:
        """A linear layer (out, in) and (out,) -> panels and epilogue.

        Returns:
            (ceil(out / 32), words, 32) int32 and (epilogue_rows, ceil(out / 32) * 32) float32.
        """
        out, depth = weight.shape
        step = STEPS[self.linear]
        padded = np.zeros((panels(out) * PANEL, self.words(depth) * step), np.float32)
        padded[:out, :depth] = weight
        epilogue = np.zeros((self.epilogue_rows, len(padded)), np.float32)
        epilogue[0, :out] = bias
        if self.linear == "int8":
            quantised, epilogue[1] = quantise(padded)
            epilogue[2] = (ZERO * quantised.sum(axis=1, dtype=np.int32)).view(np.float32)
            words = quantised.view(np.int32)
        elif self.linear == "bfloat16":
            words = to_bfloat16(padded).view(np.int32)
        else:
            words = padded.view(np.int32)
        return np.ascontiguousarray(words.reshape(-1, PANEL, words.shape[1]).transpose(0, 2, 1)), epilogue


STEPS = {"float32": 1, "bfloat16": 2, "int8": 4}

PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", "float32", "float32"),
        Precision("bfloat16", "bfloat16", "bfloat16"),
        Precision("int8", "int8", "bfloat16"),
    )
}


def choose_precision(name: str) -> Precision:
    """The tier of that name; ``auto`` is float32, the reference.

    Raises:
        OptionError: If there is none.
    """
    if name == "auto":
        return PRECISIONS["float32"]
    if name not in PRECISIONS:
        raise OptionError(f"unknown precision {name!r}: there are auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def quantise(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 with a scale for each row: ``weight`` is about ``int8 * scale``."""
    scale = np.abs(weight).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(weight * inverse[:, None]).astype(np.int8), scale


def to_bfloat16(values: Floats) -> NDArray[np.uint16]:
    """The nearest bfloat16, ties to even, as its bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded
