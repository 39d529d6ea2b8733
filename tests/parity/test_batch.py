"""A recording in pieces is as good as one after the other, with a real model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from max_whisper.audio import load_audio
from max_whisper.normalizers import EnglishTextNormalizer

DATA = Path(__file__).resolve().parent.parent / "data"
CLIP = DATA / "prompts_en.flac"


def wrong_words(text):
    normalize = EnglishTextNormalizer()
    found = jiwer.process_words(normalize((DATA / "prompts_en.txt").read_text("utf-8")), normalize(text))
    return found.substitutions + found.deletions + found.insertions


def test_a_batch_is_as_good_as_windows_that_know_nothing_of_each_other(model):
    loaded, samples = model("tiny.en"), load_audio(str(CLIP))
    options = {"language": "en", "temperature": 0.0}
    batch = loaded.transcribe(samples, batch_size=4, word_timestamps=True, **options)
    golden = json.loads((DATA / "golden/tiny.en/prompts_en.json").read_text("utf-8"))["runs"]["greedy"]
    assert wrong_words(batch["text"]) <= wrong_words(golden["text"]) + 1  # of 188
    assert batch == loaded.transcribe(samples, batch_size=1, word_timestamps=True, **options)
    words = [word for segment in batch["segments"] for word in segment["words"]]
    assert all(before["end"] <= after["start"] + 1e-6 for before, after in pairwise(words))
    assert words[0]["start"] >= 0 and words[-1]["end"] <= len(samples) / 16000
    assert [segment["id"] for segment in batch["segments"]] == list(range(len(batch["segments"])))


def test_pieces_begin_in_silence(model):
    from max_whisper.transcribe.options import transcribe_options

    loaded, samples = model("tiny.en"), load_audio(str(CLIP))
    options = transcribe_options(language="en", batch_size=4)
    _, lengths = loaded._transcriber.pieces(loaded.prepare(samples, options), options)
    assert len(lengths) >= 3 and max(lengths) <= 3000
    usual = np.sqrt(np.square(samples).mean())
    for cut in np.cumsum(lengths)[:-1] * 160:
        assert np.sqrt(np.square(samples[cut - 800 : cut + 800]).mean()) < 0.1 * usual
