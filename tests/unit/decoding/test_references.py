"""Rules and windows against openai-whisper's, over the same tiny models.

The references were written by ``scripts/make_decoding_references.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from max_whisper.decoding.candidates import constrain
from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.requests import Attend
from max_whisper.decoding.rules import ApplyTimestampRules, SuppressBlank, SuppressTokens
from max_whisper.decoding.runtime import Constraint
from max_whisper.decoding.window import decode_window
from max_whisper.transcribe.scheduler import Scheduler
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer

DATA = Path(__file__).parents[2] / "data/decoding"
RULES = json.loads((DATA / "rules.json").read_text())
WINDOWS = json.loads((DATA / "windows.json").read_text())


@pytest.mark.parametrize("case", RULES, ids=range(len(RULES)))
def test_rules_leave_the_tokens_that_openai_whispers_filters_leave(case):
    tiny = TinyTokenizer()
    rules = [
        SuppressTokens([*case["suppressed"], tiny.no_timestamps]),
        ApplyTimestampRules(tiny.eot, TIMESTAMP_BEGIN, case["initial_index"]),
        SuppressBlank([*tiny.encode(" "), tiny.eot]),
    ]
    constraint = Constraint()
    for rule in rules:
        constraint = rule.narrow(constraint, case["tokens"])
    left = constrain(np.array(case["logits"], np.float32), constraint)
    assert np.flatnonzero(np.isfinite(left)).tolist() == case["allowed"]


def window_job(case):
    tokenizer = TinyTokenizer(case["options"]["language"] or "en", case["options"]["task"])
    if not case["multilingual"]:
        tokenizer = TinyTokenizer(None, None)
    dims = MULTILINGUAL if case["multilingual"] else DIMS
    options = DecodingOptions(**case["options"], seed=case["seed"])
    features = np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), case["key"], np.float32)

    def generator():
        window = yield Attend(features)
        return (yield from decode_window(window, options, tokenizer, dims))

    return generator(), options.group_size


def check_window(case, result):
    expected = case["result"]
    assert result.tokens == expected["tokens"]
    assert result.text == expected["text"]
    assert result.language == expected["language"]
    assert result.temperature == case["options"].get("temperature", 0.0)
    for name in ("avg_logprob", "no_speech_prob", "compression_ratio"):
        assert getattr(result, name) == pytest.approx(expected[name], abs=2e-6), name


@pytest.mark.parametrize("case", WINDOWS, ids=range(len(WINDOWS)))
def test_a_window_decodes_as_in_openai_whisper(case):
    runtime = MockRuntime(DIMS, TinyModel(**case["model"]).logits)
    scheduler = Scheduler(runtime)
    job = scheduler.submit(*window_job(case))
    while scheduler.step():
        pass
    check_window(case, job.result())
