"""In int8 a window's silence is not all encoded, which its words hardly show."""

from __future__ import annotations

from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from max_whisper.audio import load_audio
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.segments import Transcript

DATA = Path(__file__).resolve().parent.parent / "data"
CLIPS = [DATA / "jfk.flac", *sorted((DATA / "librivox").glob("*.flac"))]


@pytest.fixture
def encoded(model, monkeypatch):
    """How many frames of each window the model has encoded."""
    runtime = model("tiny.en", precision="int8")._engine._scheduler.runtime
    frames, encode = [], runtime.encode

    def watched(mel, window):
        frames.append(mel.shape[1])
        encode(mel, window)

    monkeypatch.setattr(runtime, "encode", watched)
    return frames


def test_words_and_their_times_are_about_those_of_whole_windows(model, encoded):
    """Where the beginning of a window is in doubt, the whole of it is encoded as well."""
    loaded = model("tiny.en", precision="int8")
    options = transcribe_options(temperature=0, word_timestamps=True)

    def words(transcriber, samples):
        events = list(transcriber.events_of_many([samples], options, 1))
        (found,) = (event for _, event in events if isinstance(event, Transcript))
        return [word for segment in found.segments for word in segment.words]

    known = wrong = 0
    late = []
    for clip in CLIPS:
        samples = load_audio(str(clip))
        encoded.clear()
        short = words(loaded._transcriber, samples)
        beginning = (len(samples) // 160 + 500 + 1) // 2 * 2
        assert encoded in ([beginning], [beginning, 3000])
        encoded.clear()
        whole = words(replace(loaded._transcriber, silence=None), samples)
        assert encoded == [3000]
        matcher = SequenceMatcher(None, [w.word for w in short], [w.word for w in whole], autojunk=False)
        for i, j, size in matcher.get_matching_blocks():
            late += [
                abs(one.start - other.start) for one, other in zip(short[i : i + size], whole[j : j + size])
            ]
        known += len(whole)
        wrong += len(whole) - sum(block.size for block in matcher.get_matching_blocks())
    assert wrong <= known // 20
    assert np.median(late) == 0 and np.quantile(late, 0.9) < 0.1


def test_float32_encodes_all(model):
    assert model("tiny.en").silence is None
