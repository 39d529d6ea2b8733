from __future__ import annotations

import numpy as np
import pytest

from max_whisper.transcribe.alignment import dtw, median_filter, token_begins


@pytest.mark.parametrize("shape", [(10,), (1, 15), (4, 5, 345), (6, 12, 240, 15)])
@pytest.mark.parametrize("width", [1, 3, 5, 7, 13])
def test_the_median_is_that_of_each_window(shape, width):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(width // 2, width // 2)], mode="reflect")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1)
    assert np.array_equal(median_filter(x, width), expected)


def test_an_axis_too_short_to_mirror_stays_as_it_is():
    assert median_filter([3.0, 1.0, 2.0], 7).tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("width", [0, 4, -3])
def test_a_width_without_a_middle_is_refused(width):
    with pytest.raises(ValueError, match="filter_width"):
        median_filter([1.0] * 9, width)


def plain_dtw(x):
    """The definition, cell by cell, with openai-whisper's choice among equals."""
    n, m = x.shape
    cost = np.full((n + 1, m + 1), np.inf, np.float32)
    cost[0, 0] = 0
    trace = np.zeros((n + 1, m + 1), int)
    for j in range(1, m + 1):
        for i in range(1, n + 1):
            both, down, right = cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]
            best, step = right, 2
            if both < down and both < right:
                best, step = both, 0
            elif down < both and down < right:
                best, step = down, 1
            cost[i, j], trace[i, j] = x[i - 1, j - 1] + best, step
    trace[0, :], trace[:, 0] = 2, 1
    i, j, path = n, m, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        step = trace[i, j]
        i, j = i - (step != 2), j - (step != 1)
    return np.array(path[::-1]).T


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 7), (12, 40), (40, 12)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_path_is_the_definitions(shape, ties):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.integers(-1, 2, shape).astype(float) if ties else rng.standard_normal(shape)
        assert np.array_equal(dtw(x), plain_dtw(x))
        narrow = x.astype(np.float32)
        assert np.array_equal(dtw(narrow), plain_dtw(narrow.astype(float)))


def test_tokens_begin_where_their_attention_does():
    begins = [0, 10, 30, 55, 80, 120]
    scores = np.zeros((2, 8, 150), np.float32)
    for token, (start, end) in enumerate(zip(begins, [*begins[1:], 150])):
        scores[:, token + 1, start:end] = 9
    found = token_begins(scores, 150, slice(1, -1))
    assert found == pytest.approx(begins, abs=2)


@pytest.mark.parametrize("positions", [0, 1])
def test_in_a_moment_too_short_to_tell_tokens_apart_all_begin_at_once(positions):
    scores = np.random.default_rng(0).standard_normal((2, 6, 40)).astype(np.float32)
    assert token_begins(scores, positions, slice(2, -1)).tolist() == [0, 0, 0]
