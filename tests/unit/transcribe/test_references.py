"""Whole recordings against openai-whisper's transcribe, over the same tiny models.

The references were written by ``scripts/make_decoding_references.py``.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.recording import transcribe_recording
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.segments import Segment
from max_whisper.transcribe.words import WordTiming
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TinyModel, TinyTokenizer, made_up_alignment

DATA = Path(__file__).parents[2] / "data/decoding"
CASES = json.loads((DATA / "recordings.json").read_text())
WITH_WORDS = json.loads((DATA / "words.json").read_text())
EXACT = ("id", "seek", "text", "tokens", "temperature")
CLOSE = ("start", "end", "avg_logprob", "compression_ratio", "no_speech_prob")


def recording_job(case):
    mel = np.random.default_rng(case["mel_seed"]).integers(-3, 4, (DIMS.n_mels, case["frames"]))
    mel = np.pad(mel.astype(np.float32), [(0, 0), (0, 3000)])
    options = transcribe_options(**case["options"], **case["decode_options"], seed=case["seed"])
    multilingual = case["multilingual"]

    def tokenizer_for(language, task):
        return TinyTokenizer(language or "en", task) if multilingual else TinyTokenizer(None, None)

    dims = MULTILINGUAL if multilingual else DIMS
    return transcribe_recording(mel, dims, tokenizer_for, options), options.rows


def check_recording(case, transcript):
    result, expected = transcript.as_dict(), case["result"]
    assert result["language"] == expected["language"]
    assert [s["tokens"] for s in result["segments"]] == [s["tokens"] for s in expected["segments"]]
    for segment, reference in zip(result["segments"], expected["segments"]):
        assert segment.keys() == reference.keys()
        words = [list(word.values()) for word in segment.get("words", [])]
        assert words == [pytest.approx(word) for word in reference.get("words", [])]
        assert {name: segment[name] for name in EXACT} == {name: reference[name] for name in EXACT}
        for name in CLOSE:
            assert segment[name] == pytest.approx(reference[name], abs=2e-6), name
    assert result["text"] == expected["text"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_recording_is_transcribed_as_by_openai_whisper(case):
    model = TinyModel(**case["model"])
    scheduler = Scheduler(MockRuntime(DIMS, model.logits, model.features))
    job = scheduler.submit(*recording_job(case))
    while scheduler.step():
        pass
    check_recording(case, job.result())
    segments = [event for event in job.events if isinstance(event, Segment)]
    assert segments == list(job.result().segments)


@pytest.mark.parametrize("case", WITH_WORDS, ids=range(len(WITH_WORDS)))
def test_word_times_lead_the_way_as_in_openai_whisper(case, monkeypatch):
    def find_alignment(window, frames, tokens, tokenizer, heads):
        return [WordTiming(*word) for word in made_up_alignment(tokens, frames, case["seed"])]
        yield

    recording = importlib.import_module("max_whisper.transcribe.recording")
    monkeypatch.setattr(recording, "find_alignment", find_alignment)
    test_a_recording_is_transcribed_as_by_openai_whisper(case)
