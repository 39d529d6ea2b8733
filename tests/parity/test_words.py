"""Word times from decoding itself against the usual ones, which ``test_golden`` holds to openai-whisper's."""

from __future__ import annotations

import numpy as np
import pytest

from . import golden
from .conftest import MODELS

#: Seconds between the two ways, in the median and for 90 % of times: of a frame of attention or two.
MEDIAN, MOST = 0.02, 0.06
HOW = {
    "greedy": {"temperature": 0.0},
    "beam": {"temperature": 0.0, "beam_size": 5},
    "sampling": {"temperature": 0.4, "best_of": 3},
    "batch": {"temperature": 0.0, "batch_size": 4},
}


def times(words):
    return np.array([(word["start"], word["end"]) for word in words])


def words_of(result):
    return [word for segment in result["segments"] for word in segment["words"]]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", MODELS)
def test_fast_words_are_near_the_usual_ones(model, name, how):
    options = {"language": "en", **HOW[how]}
    usual, fast = (
        words_of(model(name).transcribe(str(golden.audio("jfk")), word_timestamps=way, **options))
        for way in (True, "fast")
    )
    assert [word["word"] for word in fast] == [word["word"] for word in usual]
    gaps = np.abs(times(fast) - times(usual))
    assert np.median(gaps) <= MEDIAN + 1e-9
    assert np.percentile(gaps, 90) <= MOST
    assert all(0 < word["probability"] <= 1 for word in fast)


@pytest.mark.parametrize("how", HOW)
def test_log_probabilities_add_up_to_their_windows(model, how):
    """One window without more text behind its last segment: its own, and that of the end, are all."""
    result = model("tiny.en").transcribe(
        str(golden.audio("jfk")), language="en", token_logprobs=True, **HOW[how]
    )
    segments = result["segments"]
    count = sum(len(segment["tokens"]) for segment in segments)
    logprobs = [value for segment in segments for value in segment["token_logprobs"]]
    assert len({segment["seek"] for segment in segments}) == 1 and len(logprobs) == count
    end = segments[0]["avg_logprob"] * (count + 1) - sum(logprobs)
    assert -1 < end <= 1e-3
