"""The vocabulary's arrays, which embed tokens and give them logits (``kernels/vocabulary.mojo``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.precision import PANEL, PRECISIONS, Precision, quantise
from max_whisper.graph.side_by_side import side_by_side

NAME = "decoder.token_embedding"
FEW = 16  # channels that stand out, as in the kernel
LINE = 64  # bytes
MIDDLE = 8  # what a weight of 0 is in int4, as in the kernel
INT8 = PRECISIONS["int8"]  # of tokens, whichever int8 the layers have

# The best step of sixteen levels for normally distributed weights, in standard deviations (J. Max, 1960).
STEP = 0.335

Floats = NDArray[np.float32]
Array = NDArray[np.int32] | NDArray[np.float32]


def vocabulary_arrays(precision: Precision) -> list[str]:
    """The names of the arrays."""
    if not precision.quantised:
        return [f"{NAME}.weight", f"{NAME}.epilogue"]
    parts = ("few", "text", "others")
    layers = [f"{NAME}.{part}.{array}" for part in parts for array in ("weight", "epilogue")]
    return [*layers, f"{NAME}.table", f"{NAME}.channels", f"{NAME}.factors"]


def vocabulary_places(
    arrays: Mapping[str, NDArray[Any]], tokens: int, text: int, precision: Precision
) -> list[int]:
    """What tells the kernel of a vocabulary: how many tokens, how many of text, and where its arrays lie.

    The arrays must stay there for as long as that is used.
    """
    return [tokens, text, *(arrays[name].ctypes.data for name in vocabulary_arrays(precision))]


def text_tokens(dims: ModelDimensions) -> int:
    """How many tokens, in whole panels from the first on, are text and nothing else."""
    end_of_text = 50257 if dims.is_multilingual else 50256
    return min(end_of_text, dims.n_vocab) // PANEL * PANEL


def pack_vocabulary(
    embedding: NDArray[Any],
    norm: tuple[NDArray[Any], NDArray[Any]],
    text: int,
    precision: Precision,
    rows: int,
) -> dict[str, Array]:
    """The arrays of an embedding (n_vocab, state) that is the output head, too, packed some rows at a time.

    Args:
        embedding: The vectors.
        norm: Weight and bias (state,) of the layer norm whose outcome the head takes.
        text: See :func:`text_tokens`.
        precision: How tokens are kept.
        rows: How many are packed at a time, in whole panels.
    """
    if precision.quantised:
        channels, factors = _channels(embedding, norm)
        parts = side_by_side(
            lambda i: _pack_quick(embedding[i : i + rows], channels, factors, text - i),
            range(0, len(embedding), rows),
        )
        fixed: list[Array] = [channels, factors]
    else:
        none = np.zeros(rows, np.float32)
        parts = side_by_side(
            lambda i: list(precision.pack(some := embedding[i : i + rows], none[: len(some)])),
            range(0, len(embedding), rows),
        )
        fixed = []
    joined = [np.concatenate(arrays, axis=int(i % 2 and i < 6)) for i, arrays in enumerate(zip(*parts))]
    return dict(zip(vocabulary_arrays(precision), [*joined, *fixed], strict=True))


def _channels(embedding: NDArray[Any], norm: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Array, Floats]:
    """The order of the channels, those first that add most to a logit, and what each is multiplied by."""
    parts = side_by_side(
        lambda i: np.square(embedding[i : i + 4096], dtype=np.float32).sum(axis=0, dtype=np.float64),
        range(0, len(embedding), 4096),
    )
    squares = np.sum(parts, axis=0)
    weights = np.sqrt(squares / len(embedding))
    # A normed channel has a mean of about its bias, and a deviation of about its weight.
    hidden = np.sqrt(np.square(norm[0], dtype=np.float64) + np.square(norm[1], dtype=np.float64))
    order = np.argsort(-weights * hidden, kind="stable")
    channels = np.concatenate([order[:FEW], np.sort(order[FEW:])]).astype(np.int32)
    factors = np.sqrt(np.where(weights > 0, weights, 1)).astype(np.float32)
    return channels, factors[channels]


def _pack_quick(embedding: NDArray[Any], channels: Array, factors: Floats, text: int) -> list[Array]:
    """Some tokens, of which ``text`` are text, or none if it is negative, or all if it is beyond them."""
    weight = np.asarray(embedding, np.float32)[:, channels] / factors
    text = min(max(text, 0), len(weight))
    few, rest = weight[:, :FEW], weight[:, FEW:]
    none = np.zeros(len(weight), np.float32)
    return [
        *INT8.pack(few, none),
        *pack_int4(rest[:text]),
        *INT8.pack(rest[text:], none[text:]),
        _table(few, rest),
    ]


def pack_int4(weight: Floats) -> tuple[NDArray[np.int32], Floats]:
    """A linear layer (out, in), out in whole panels, in four bits; without bias, but with its place.

    Returns:
        Panels (out / 32, ceil(in / 8), 32) int32, each weight MIDDLE more than it is, and (3, out) float32:
        zeros, scales, and the integers' sums.
    """
    out, depth = weight.shape
    scale = np.sqrt(np.square(weight).mean(axis=1)) * np.float32(STEP)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    words = -(-depth // 8)
    integers = np.zeros((out, 8 * words), np.int8)
    integers[:, :depth] = np.clip(np.rint(weight * inverse[:, None]), -8, 7)
    halves = integers.reshape(out, words, 2, 4)
    packed = np.ascontiguousarray(halves[:, :, 0] + MIDDLE | halves[:, :, 1] + MIDDLE << 4).view(np.int32)
    panels = packed.reshape(-1, PANEL, words).transpose(0, 2, 1)
    epilogue = np.zeros((3, out), np.float32)
    epilogue[1] = scale
    epilogue[2] = integers.sum(axis=1, dtype=np.int32).view(np.float32)
    return np.ascontiguousarray(panels), epilogue


def _table(few: Floats, rest: Floats) -> NDArray[np.int32]:
    """Tokens as lines of int8: the few channels, their scale and sum and the rest's; and the rest."""
    lines = 1 + -(-rest.shape[1] // LINE)
    table = np.zeros((len(few), lines * LINE), np.int8)
    scales = table[:, FEW : FEW + 16].view(np.int32)
    for part, column, place in ((few, 0, 0), (rest, LINE, 2)):
        integers, scale = quantise(part)
        table[:, column : column + part.shape[1]] = integers
        scales[:, place] = scale.view(np.int32)
        scales[:, place + 1] = integers.sum(axis=1, dtype=np.int32)
    return table.view(np.int32)
