"""Known texts in real recordings: where openai-whisper's word times are, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper import cli
from max_whisper.audio import N_FRAMES, N_SAMPLES, load_audio, log_mel_spectrogram
from max_whisper.errors import AlignmentError

from . import golden
from .conftest import MODELS

PROMPTS = golden.audio("prompts_en")
Model = Callable[[str], Any]


def words_of(result: Any) -> list[tuple[str, float, float]]:
    """The words of a result, or of a golden run."""
    words = [word for segment in result["segments"] for word in segment["words"]]
    return [tuple(w.values())[:3] if isinstance(w, dict) else tuple(w[:3]) for w in words]


@pytest.mark.parametrize("name", MODELS)
def test_a_long_text_is_where_openai_whisper_hears_it(model: Model, name: str) -> None:
    run = golden.load(name, "prompts_en")["runs"]["greedy_words"]
    expected = words_of(run)
    result = model(name).align(str(PROMPTS), run["text"], language="en")
    found = words_of(result)
    assert [word for word, _, _ in found] == [word for word, _, _ in expected]
    assert result["text"] == run["text"]
    starts = np.abs([found[i][1] - expected[i][1] for i in range(len(found))])
    assert np.median(starts) <= 0.02
    assert np.percentile(starts, 90) <= 0.3
    assert starts.max() < 2
    times = [time for _, start, end in found for time in (start, end)]
    assert times == sorted(times)
    assert np.median([w["probability"] for s in result["segments"] for w in s["words"]]) > 0.9


def test_one_window_has_the_word_times_of_openai_whispers_method(model: Model) -> None:
    whisper, samples = model("tiny.en"), load_audio(str(golden.audio("jfk")))
    text = golden.load("tiny.en", "jfk")["runs"]["greedy"]["text"].strip()
    mel = log_mel_spectrogram(samples, 80, padding=N_SAMPLES)[:, :N_FRAMES].copy()
    mel[:, len(samples) // 160 :] = 0
    tokenizer = whisper.tokenizer()
    expected = whisper.align_window(mel, tokenizer.encode(" " + text), tokenizer, len(samples) // 160)
    (segment,) = whisper.align(samples, text, original_split=True, token_logprobs=True)["segments"]
    ours = [word for word in segment["words"] if word["word"].strip()]
    expected = [timing for timing in expected if timing.word.strip(" ,.")]
    assert [word["word"].strip(" ,.") for word in ours] == [timing.word.strip() for timing in expected]
    for word, timing in zip(ours, expected, strict=True):
        assert timing.start - 0.011 <= word["start"] and word["end"] <= timing.end + 0.011, "only pauses go"
    assert np.mean([w["start"] == pytest.approx(t.start, abs=0.011) for w, t in zip(ours, expected)]) > 0.8
    assert len(segment["token_logprobs"]) == len(segment["tokens"]) and max(segment["token_logprobs"]) <= 0


def test_a_text_of_another_recording_is_refused(model: Model) -> None:
    austen = golden.load("tiny.en", "librivox-0870")["runs"]["greedy"]["text"]
    with pytest.raises(
        AlignmentError, match=r"nothing of the text is heard|does not fit the recording: its last [12]"
    ):
        model("tiny.en").align(str(golden.audio("jfk")), austen)


def test_a_text_that_goes_on_is_refused_where_it_leaves_the_recording(model: Model) -> None:
    run = golden.load("tiny.en", "prompts_en")["runs"]["greedy_words"]
    austen = golden.load("tiny.en", "librivox-0870")["runs"]["greedy"]["text"]
    first = " ".join(austen.split()[:3])
    with pytest.raises(AlignmentError, match=rf"from '{first}.*, are not heard after 8\d"):
        model("tiny.en").align(str(PROMPTS), run["text"] + austen)


def test_the_command_writes_what_the_library_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    monkeypatch.chdir(tmp_path)
    text = golden.DATA / "prompts_en.txt"
    assert cli.main(["align", str(PROMPTS), str(text), "--model", "tiny.en", "--verbose", "False"]) == 0
    written = json.loads((tmp_path / "prompts_en.json").read_text("utf-8"))
    assert written == model("tiny.en").align(str(PROMPTS), text.read_text("utf-8"))
    cues = (tmp_path / "prompts_en.srt").read_text("utf-8").count("-->")
    assert cues == len(written["segments"]) > 10
