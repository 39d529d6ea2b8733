"""The check itself: it passes an independent implementation, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint
from max_whisper.parity.numpy_model import NumpyWhisper, Variation

from . import reference
from .conftest import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_numpy_model_equals_the_reference_everywhere(
    checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray, name: str
) -> None:
    expected = reference.load(name)
    stages = NumpyWhisper(checkpoint(name)).stages(first_window, expected.tokens)
    for stage in expected.stages:
        assert not expected.wrong(stage, stages[stage]), stage


def test_one_wrong_position_is_seen(
    checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray
) -> None:
    expected = reference.load("tiny.en")
    features = NumpyWhisper(checkpoint("tiny.en")).encode(first_window)
    unsampled = next(row for row in range(1500) if row not in expected.get("ln_post", "rows"))
    features[unsampled] *= 1.05
    assert set(expected.wrong("ln_post", features)) == {"projection"}


def test_tanh_gelu_is_seen_where_it_first_acts(
    checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray
) -> None:
    expected = reference.load("tiny.en")
    model = NumpyWhisper(checkpoint("tiny.en"), Variation(tanh_gelu=True))
    stages = model.stages(first_window, expected.tokens)
    wrong = [s for s in expected.stages if expected.wrong(s, stages[s])]
    assert wrong[0] == "conv1"
    assert "conv1.linear" not in wrong


def test_a_missing_mask_is_seen_in_the_decoder_alone(
    checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray
) -> None:
    expected = reference.load("tiny.en")
    stages = NumpyWhisper(checkpoint("tiny.en"), Variation(causal=False)).stages(
        first_window, expected.tokens
    )
    wrong = [s for s in expected.stages if expected.wrong(s, stages[s])]
    assert wrong[0] == "decoder.blocks.0.attention"
