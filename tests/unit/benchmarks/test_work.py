from __future__ import annotations

import pytest
from benchmarks.work import Work, condense, fractions, model_work

from max_whisper.checkpoints import ModelDimensions

TINY = ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=384,
    n_audio_head=6,
    n_audio_layer=4,
    n_vocab=51864,
    n_text_ctx=448,
    n_text_state=384,
    n_text_head=6,
    n_text_layer=4,
)
STAGES = {
    "encodes": [0.1, 0.3],
    "passes": [[4, 1, 1, 0.05], [1, 1, 1, 0.01], [1, 1, 1, 0.03], [1, 1, 1, 0.02]],
}


def test_the_work_of_tiny_is_counted_by_hand() -> None:
    work = model_work(TINY)
    convolutions = 2 * (3000 * 384 * 3 * 80 + 1500 * 384 * 3 * 384)
    blocks = 4 * 2 * 1500 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert work.linear == convolutions + blocks + 4 * 2 * 1500 * 384 * 768
    assert work.attention == 4 * 2 * (2 * 1500 * 1500 * 384)
    # Self-attention 4 d², cross-attention's query and output 2 d², the MLP 8 d², and the logits.
    assert work.step_weights == 4 * (4 + 2 + 8) * 384**2
    assert work.head_weights == 51864 * 384
    assert work.cross_values == 4 * 2 * 1500 * 384


def test_a_prompt_is_no_step() -> None:
    found = condense(STAGES, 1.0)
    assert found["step"] == pytest.approx(0.02)
    assert (found["windows"], found["passes"]) == (2, 4)
    assert found["encode"] == pytest.approx(0.2)
    assert [found[f"{part}_share"] for part in ("encode", "forward", "rest")] == pytest.approx(
        [0.4, 0.11, 0.49]
    )


def test_a_run_without_calls_has_no_medians() -> None:
    found = condense({"encodes": [], "passes": []}, 2.0)
    assert (found["encode"], found["step"], found["rest_share"]) == (None, None, 1)
    assert fractions(found, model_work(TINY), "float32", {"float32": 1.0, "memory": 1.0}) == {
        "encode": None,
        "step": None,
    }


def test_fractions_are_the_least_time_over_the_time() -> None:
    work = Work(linear=80, attention=20, step_weights=300, head_weights=100, cross_values=100)
    found = {"encode": 4.0, "step": 10.0, "step_windows": 3}
    limits = {"float32": 50.0, "bfloat16": 150.0, "int8": 200.0, "memory": 100.0}
    assert fractions(found, work, "float32", limits) == pytest.approx(
        {"encode": 2 / 4, "step": (800 + 1200) / 1000}
    )
    # Keys are stored in bytes, most of the vocabulary is read in half of them.
    assert fractions(found, work, "int8", limits) == pytest.approx(
        {"encode": 0.5 / 4, "step": (300 + 50 + 300) / 1000}
    )


def test_what_was_not_measured_has_no_fraction() -> None:
    work = Work(linear=80, attention=20, step_weights=300, head_weights=100, cross_values=100)
    found = {"encode": 4.0, "step": 10.0, "step_windows": 1}
    assert fractions(found, work, "float32", {}) == {"encode": None, "step": None}
