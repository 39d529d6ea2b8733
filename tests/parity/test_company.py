"""What a recording becomes does not depend on who shares its batch: bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.segments import Transcript

DATA = Path(__file__).resolve().parent.parent / "data"
CLIPS = [DATA / "jfk.flac", *sorted((DATA / "librivox").glob("*.flac"))]

HOW = {
    "greedy": {"temperature": 0.0},
    "beam": {"temperature": 0.0, "beam_size": 5},
    "sampling": {"temperature": 0.7, "best_of": 3},
    "words": {"temperature": 0.0, "word_timestamps": True},
}


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("how", list(HOW))
def test_alone_and_in_company(model, how, precision):
    options = transcribe_options(language="en", **HOW[how])
    loaded = model("tiny.en", precision=precision)
    recordings = [str(path) for path in CLIPS]
    together = transcripts(loaded, recordings, options)
    for i, recording in enumerate(recordings):
        assert transcripts(loaded, [recording], options)[0] == together[i]


def transcripts(loaded, recordings, options):
    found = {
        i: event for i, event in loaded.events_of_many(recordings, options) if isinstance(event, Transcript)
    }
    return [found[i] for i in range(len(recordings))]
