"""Every stage of the MAX graphs against openai-whisper's, on real weights and real speech."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint

from . import reference
from .conftest import MODELS

#: Before the GELU, and the sum with the position table: stages that a fused graph does not have.
OPTIONAL = ("conv1.linear", "conv2.linear", "encoder.input", "mel")
STAGES = [
    pytest.param(name, stage, id=f"{name}-{stage}")
    for name in MODELS
    for stage in reference.load(name).stages
    if stage not in OPTIONAL
]
Stages = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def stages(checkpoint: Callable[[str], Checkpoint], first_window: np.ndarray) -> Callable[[str], Stages]:
    from max_whisper.graph.probes import probe

    computed: dict[str, Stages] = {}

    def of(name: str) -> Stages:
        if name not in computed:
            tokens = reference.load(name).tokens
            computed[name] = probe(checkpoint(name), first_window, tokens, device="cpu", precision="float32")
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
    deviations = reference.load(name).deviations(stage, stages(name)[stage])
    assert max(deviations.values()) <= reference.TOLERANCE, deviations


@pytest.mark.parametrize("name", MODELS)
def test_same_most_probable_token_everywhere(stages: Callable[[str], Stages], name: str) -> None:
    expected, logits = reference.load(name), stages(name)["logits"].astype(np.float64)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.get("logits", "argmax"))
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    np.testing.assert_allclose(total, expected.get("logits", "logsumexp"), atol=1e-3)
