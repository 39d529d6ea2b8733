"""From cross-attention scores to the moment of each token: openai-whisper's steps, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float32]

#: How many tokens of audio a second has (openai-whisper: ``audio.TOKENS_PER_SECOND``).
TOKENS_PER_SECOND = 50


def token_begins(scores: Float, positions: int, wanted: slice, width: int = 7) -> NDArray[np.int64]:
    """Where each of some consecutive tokens begins.

    This is the specification that a runtime's kernel is held to.

    Args:
        scores: (heads, tokens, n_audio_ctx) cross-attention scores before the softmax.
        positions: How many positions of the audio hold speech.
        wanted: The tokens wanted, from one on; the others only tell what is unusual in attention.
        width: Of the median filter over time.

    Returns:
        (wanted tokens,) positions.
    """
    total = np.zeros((len(range(scores.shape[1])[wanted]), positions), np.float32)
    if positions < 2:
        return np.zeros(len(total), np.int64)  # nothing tells the tokens apart
    for head in scores[:, :, :positions]:
        weights = np.exp(head - head.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        weights -= weights.mean(axis=0)
        weights /= np.sqrt(np.square(weights).mean(axis=0))
        total += median_filter(weights[wanted], width)
    tokens, times = dtw(-total / np.float32(len(scores)))
    begins: NDArray[np.int64] = times[np.diff(tokens, prepend=-1) > 0]
    return begins


def median_filter(x: ArrayLike, filter_width: int) -> NDArray[np.floating]:
    """The median of each value and its neighbours along the last axis, mirrored at the ends.

    Args:
        x: Anything with numbers in it.
        filter_width: How many values a median is taken of; odd. An axis of no more than half as
            many values is returned as it is.
    """
    if filter_width < 1 or filter_width % 2 == 0:
        raise ValueError(f"filter_width is {filter_width}; it must be odd and above 0")
    values = np.asarray(x)
    half, length = filter_width // 2, values.shape[-1]
    if length <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    shifted = [padded[..., i : i + length] for i in range(filter_width)]
    # Whatever is least or greatest of more than half of the values is not the median of all.
    kept, waiting = shifted[: half + 2], shifted[half + 2 :]
    while len(kept) > 1:
        kept = _without_extremes(kept)
        if waiting:
            kept.append(waiting.pop())
    return kept[0]


def _without_extremes(arrays: list[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """All but the least and the greatest, at each place of some arrays."""
    highest, between = arrays[0], []
    for array in arrays[1:]:
        between.append(np.minimum(highest, array))
        highest = np.maximum(highest, array)
    lowest, out = between[0], []
    for array in between[1:]:
        out.append(np.maximum(lowest, array))
        lowest = np.minimum(lowest, array)
    return out


def dtw(x: NDArray[np.floating]) -> NDArray[np.int64]:
    """Dynamic time warping: the cheapest way through a matrix from corner to corner.

    Costs are summed in float32 and ties resolved as in openai-whisper, which is part of what the
    word times are. The sums of one anti-diagonal depend on the two before alone, so each is
    computed at once.

    Args:
        x: (n, m) costs.

    Returns:
        (2, steps) indices of rows and columns, monotonic.
    """
    n, m = x.shape
    # Each row of these is an anti-diagonal, at the index of each cell's row: the costs of the matrix, and
    # their sums in one that has a row and a column more before it. Around both there is infinity.
    skewed = np.pad(x, [(0, 0), (0, n)], constant_values=np.inf).ravel()[: n * (n + m - 1)]
    skewed = np.ascontiguousarray(skewed.reshape(n, n + m - 1).T)
    sums = np.full((n + m + 1, n + 1), np.inf, np.float32)
    sums[0, 0] = 0
    before, here = sums[:, :-1], sums[:, 1:]
    cheapest = np.empty(n, np.float32)
    for costs, both, down, right, into in zip(skewed, before, before[1:], here[1:], here[2:]):
        np.minimum(both, down, out=cheapest)
        np.minimum(cheapest, right, out=cheapest)
        np.copyto(cheapest, right, where=both == down)
        # Of float32 costs, float32 sums are those that openai-whisper rounds from float64.
        np.add(costs, cheapest, out=into, casting="same_kind")
    return _backtrace(sums, n, m)


def _backtrace(sums: Float, n: int, m: int) -> NDArray[np.int64]:
    """Follows the cheapest steps from the end, by anti-diagonal and row."""
    i, j = n, m
    path: list[tuple[int, int]] = []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        if i == 0:
            j -= 1
            continue
        if j == 0:
            i -= 1
            continue
        both, down, right = sums[i + j - 2, i - 1], sums[i + j - 1, i - 1], sums[i + j - 1, i]
        # A step that is as cheap as another one is not taken, but for that to the right.
        if both < down and both < right:
            i, j = i - 1, j - 1
        elif down < both and down < right:
            i -= 1
        else:
            j -= 1
    steps: NDArray[np.int64] = np.array(path[::-1], np.int64).T
    return steps
