"""Every stage of the MAX graphs against openai-whisper's, on real weights and real speech."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint

from . import reference
from .conftest import MODELS

#: Before the GELU, which is fused into the convolution; the features have a test of their own.
ABSENT = ("conv1.linear", "conv2.linear", "mel")
STAGES = [
    pytest.param(name, stage, id=f"{name}-{stage}")
    for name in MODELS
    for stage in reference.load(name).stages
    if stage not in ABSENT
]
Stages = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def stages(checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray) -> Callable[[str], Stages]:
    from max_whisper.graph.probes import probe

    computed: dict[str, Stages] = {}

    def of(name: str) -> Stages:
        if name not in computed:
            found = probe(checkpoint(name), first_window, reference.load(name).tokens, device="cpu")
            # The graph's stage of that name is the sum; what it adds is the table.
            found["encoder.input"] = found["positions"]
            found["positions"] = found["encoder.input"] - found["conv2"]
            computed[name] = found
        return computed[name]

    return of


@pytest.mark.parametrize("name", MODELS)
def test_features_equal_the_references(first_window: np.ndarray, name: str) -> None:
    expected = reference.load(name)
    rows, columns = expected.get("mel", "rows"), expected.get("mel", "columns")
    np.testing.assert_allclose(
        first_window.T[np.ix_(rows, columns)], expected.get("mel", "values"), atol=1e-5
    )
    projected = first_window.T.astype(np.float64) @ reference.signs(first_window.shape[0])
    np.testing.assert_allclose(projected, expected.get("mel", "projection"), atol=1e-5)


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_stage_equals_the_references(stages: Callable[[str], Stages], name: str, stage: str) -> None:
    assert not reference.load(name).wrong(stage, stages(name)[stage])


@pytest.mark.parametrize("name", MODELS)
def test_same_most_probable_token_everywhere(stages: Callable[[str], Stages], name: str) -> None:
    expected, logits = reference.load(name), stages(name)["logits"].astype(np.float64)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.get("logits", "argmax"))
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    np.testing.assert_allclose(total, expected.get("logits", "logsumexp"), atol=1e-3)
