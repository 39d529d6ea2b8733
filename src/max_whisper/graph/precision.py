"""Precision is a choice of how a linear layer multiplies: how its weights are packed, and in what
the kernels compute. Everything else (layer norms, softmax, sums, logits) is float32.

Weights are 32-bit words: one float32, two float16 or bfloat16, or four int8 that are neighbours
along the inner dimension, in panels of 32 columns (``kernels/tile.mojo``). An int8 column has a
scale of its own; activations are quantised as they come, each row with a scale of its own. What
the kernels multiply words in is the processor's matter: where it has no instruction for a type,
they are widened on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import OptionError
from max_whisper.graph.processor import adds_in_int16

PANEL = 32  # columns in a panel of packed weights

Words = NDArray[np.int32]
Floats = NDArray[np.float32]
Array = NDArray[Any]


def panels(columns: int) -> int:
    """How many panels hold that many columns."""
    return -(-columns // PANEL)


@dataclass(frozen=True)
class Precision:
    """One way to keep weights and to multiply by them.

    Attributes:
        name: Its own name.
        tier: What the user calls it.
        linear: The kernels' mode for linear layers.
        attention: The kernels' mode for attention over audio, and so how the cross-attention
            keys and values are stored.
        silence: How many frames (10 ms) of silence are heard after a recording's end; None: up to
            thirty seconds, as the model was trained.
    """

    name: str
    tier: str
    linear: str
    attention: str
    silence: int | None = None

    @property
    def epilogue_rows(self) -> int:
        """Rows beside a weight: its bias; in int8 also its columns' scales and sums."""
        return 3 if self.quantised else 1

    @property
    def quantised(self) -> bool:
        """Whether weights are integers."""
        return self.linear in {"int8", "bounded"}

    def words(self, depth: int) -> int:
        """Words that hold a column of that many weights."""
        return -(-depth // STEPS[self.linear])

    def attention_words(self, positions: int, head_size: int) -> int:
        """Words that hold a head's keys and values, scales and sums if they are integers, and a header."""
        scales = 3 * positions if self.attention == "int8" else 0
        return 2 * positions * head_size // STEPS[self.attention] + scales + HEADER

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
        if self.quantised:
            quantised, epilogue[1] = (quantise if self.linear == "int8" else quantise_bounded)(padded)
            epilogue[2] = quantised.sum(axis=1, dtype=np.int32).view(np.float32)
            words = quantised.view(np.int32)
        elif self.linear == "bfloat16":
            words = to_bfloat16(padded).view(np.int32)
        elif self.linear == "float16":
            # Halves of neighbouring columns side by side: they are widened without being moved.
            rows = padded.astype(np.float16).reshape(-1, PANEL, padded.shape[1]).transpose(0, 2, 1)
            return np.ascontiguousarray(rows).view(np.int32).reshape(len(rows), -1, PANEL), epilogue
        else:
            words = padded.view(np.int32)
        return np.ascontiguousarray(words.reshape(-1, PANEL, words.shape[1]).transpose(0, 2, 1)), epilogue


HEADER = 16  # words of a head in the cache that say how many positions it has

STEPS = {"float32": 1, "float16": 2, "bfloat16": 2, "int8": 4, "bounded": 4}

#: The tiers by name.
PRECISIONS = {
    precision.tier: precision
    for precision in (
        Precision("float32", "float32", "float32", "float32"),
        Precision("bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        Precision("int8", "int8", "int8", "int8", silence=500),
    )
}

#: float32 for weights that float16 holds exactly, as OpenAI's are: half the memory to read.
FLOAT16_WEIGHTS = Precision("float32-float16", "float32", "float16", "float32")

#: int8 for processors that multiply bytes but add the products up in int16: AVX2 without VNNI.
BOUNDED_WEIGHTS = Precision("int8-bounded", "int8", "bounded", "int8", silence=500)


def suited(precision: Precision, family: str | None = None) -> Precision:
    """A precision as the processors of a family, or this one, multiply it best: int8 may be bounded."""
    return BOUNDED_WEIGHTS if precision.linear == "int8" and adds_in_int16(family) else precision


def find_precision(name: str) -> Precision:
    """The precision of that name of its own."""
    return next(
        each for each in (*PRECISIONS.values(), FLOAT16_WEIGHTS, BOUNDED_WEIGHTS) if each.name == name
    )


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


BOUND = 128  # 255 times as much is all that an int16 holds


def quantise_bounded(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """int8 as of :func:`quantise`, of which those that are added up in int16 come to BOUND at most.

    They are four, in any choice of them: of the 8 weights of two words the first two of each word,
    or the last two. The scale is as much larger as the fullest four of a row want it.
    """
    fullest = np.maximum(_fullest_fours(np.maximum(weight, 0)), _fullest_fours(np.maximum(-weight, 0)))
    # Rounding adds a half to each of four at most.
    scale = np.maximum(np.abs(weight).max(axis=1) / 127, fullest / (BOUND - 2))
    scale = scale.astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(weight * inverse[:, None]).astype(np.int8), scale


def _fullest_fours(weight: NDArray[Any]) -> NDArray[Any]:
    """The most that four weights which are added up come to, in each row."""
    missing = -weight.shape[1] % 8
    flat = (np.pad(weight, ((0, 0), (0, missing))) if missing else weight).ravel()
    # One long loop for each sum: numpy takes much longer over a last axis of a few places.
    halves = flat[::2] + flat[1::2]
    fours = np.maximum(halves[::4] + halves[2::4], halves[1::4] + halves[3::4])
    fullest: NDArray[Any] = fours.reshape(len(weight), -1).max(axis=1)
    return fullest


def to_bfloat16(values: Floats) -> NDArray[np.uint16]:
    """The nearest bfloat16, ties to even, as its bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def fits_float16(weight: Array) -> bool:
    """Whether float16 holds every weight exactly."""
    if weight.dtype == np.float16:
        return True
    with np.errstate(over="ignore"):
        return bool(np.array_equal(weight.astype(np.float16).astype(np.float32), weight))
