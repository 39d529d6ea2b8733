"""Where each side looks: attention weights, how far apart they are, and how they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.parity.measure import Array
from max_whisper.parity.numpy_model import softmax

Stages = Mapping[str, Array]


def weights(query: Array, key: Array, heads: int) -> Array:
    """Attention weights (heads, n, m) of queries (n, d) over keys (m, d)."""
    q = query.reshape(len(query), heads, -1).transpose(1, 0, 2)
    k = key.reshape(len(key), heads, -1).transpose(1, 2, 0)
    return softmax((q @ k) * np.float32(q.shape[-1] ** -0.5))


def cross_weights(stages: Stages, layer: int, dims: ModelDimensions) -> Array:
    """(heads, tokens, n_audio_ctx) cross-attention weights of one decoder layer."""
    query = stages[f"decoder.blocks.{layer}.cross_query"]
    return weights(query, stages[f"cross.{layer}.key"], dims.n_text_head)


@dataclass(frozen=True)
class Head:
    """One attention head on both sides.

    Attributes:
        side: ``encoder`` or ``cross``.
        layer: Its layer.
        head: Its number.
        distance: Mean over the queries of half the sum of absolute differences: 0 the same, 1
            nothing in common.
        entropy: Mean entropy in bits, ours and the reference's.
        monotonic: The share of steps from one text token to the next at which the most attended
            frame does not move back, ours and the reference's; of alignment heads only.
    """

    side: str
    layer: int
    head: int
    distance: float
    entropy: tuple[float, float]
    monotonic: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare_heads(
    ours: Stages, reference: Stages, dims: ModelDimensions, alignment: Sequence[tuple[int, int]]
) -> list[Head]:
    """Every encoder head and every cross-attention head whose queries and keys both sides give."""
    heads: list[Head] = []
    for layer in range(dims.n_audio_layer):
        names = [f"encoder.blocks.{layer}.{part}" for part in ("query", "key")]
        if all(name in side for name in names for side in (ours, reference)):
            pair = [weights(side[names[0]], side[names[1]], dims.n_audio_head) for side in (ours, reference)]
            heads += _measured("encoder", layer, pair, ())
    for layer in range(dims.n_text_layer):
        names = [f"decoder.blocks.{layer}.cross_query", f"cross.{layer}.key"]
        if all(name in side for name in names for side in (ours, reference)):
            pair = [cross_weights(side, layer, dims) for side in (ours, reference)]
            if pair[0].shape == pair[1].shape:
                heads += _measured("cross", layer, pair, alignment)
    return heads


def _measured(
    side: str, layer: int, pair: Sequence[Array], alignment: Sequence[tuple[int, int]]
) -> list[Head]:
    distances = np.abs(pair[0] - pair[1]).sum(axis=-1).mean(axis=-1) / 2
    entropies = [_entropy(each) for each in pair]
    return [
        Head(
            side,
            layer,
            head,
            float(distances[head]),
            (float(entropies[0][head]), float(entropies[1][head])),
            (_monotonic(pair[0][head]), _monotonic(pair[1][head])) if (layer, head) in alignment else None,
        )
        for head in range(len(pair[0]))
    ]


def _entropy(attention: Array) -> Array:
    """Mean entropy in bits of each head."""
    surprise = -np.log2(np.maximum(attention, np.finfo(np.float32).tiny))
    return np.asarray((attention * surprise).sum(axis=-1).mean(axis=-1))


def _monotonic(attention: Array) -> float:
    peaks = attention.argmax(axis=-1)
    return float((np.diff(peaks) >= 0).mean()) if len(peaks) > 1 else 1.0


def alignment_picture(stages: Stages, dims: ModelDimensions, heads: Sequence[tuple[int, int]]) -> Array:
    """(tokens, n_audio_ctx): the mean weights of the heads that follow the audio."""
    return np.asarray(np.mean([cross_weights(stages, layer, dims)[head] for layer, head in heads], axis=0))
