"""Whose language a recording is in."""

from __future__ import annotations

import numpy as np
import pytest

from max_whisper.errors import OptionError
from max_whisper.transcribe.language import Detection, detection_options, spoken_language
from max_whisper.transcribe.scheduler import Scheduler
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, IDS, MULTILINGUAL, TinyTokenizer

#: Probabilities of English, French and German, by what a window holds.
WINDOWS = {1: (0.6, 0.3, 0.1), 2: (0.11, 0.45, 0.44), 3: (0.2, 0.38, 0.42), 4: (0.3, 0.39, 0.31)}


def heard(*kinds, detection=None, clips=((0, 9000),), tail=0):
    """The language of windows of these kinds, and how many of them were heard."""

    def logits(history, features):
        out = np.full(DIMS.n_vocab, -20, np.float32)
        probabilities = WINDOWS[int(features[0, 0])]
        out[[IDS["en"], IDS["fr"], IDS["de"]]] = np.log(probabilities)
        return out

    def features(mel):
        return np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), mel[0, 0], np.float32)

    mel = np.repeat(np.array(kinds, np.float32), 3000)[: 3000 * len(kinds) - tail]
    mel = np.tile(np.concatenate([mel, np.zeros(3000, np.float32)]), (DIMS.n_mels, 1))
    runtime = MockRuntime(MULTILINGUAL, logits, features)
    scheduler = Scheduler(runtime)
    job = scheduler.submit(spoken_language(mel, TinyTokenizer(), clips, detection or Detection()))
    while scheduler.step():
        pass
    language, kept = job.result()
    return language.code, pytest.approx(language.probability, abs=1e-6), runtime.encodings, kept is not None


def test_the_first_window_decides():
    assert heard(1, 2, 3) == ("en", 0.6, 1, True)
    assert heard(2, 1, 1) == ("fr", 0.45, 1, True)


def test_windows_are_heard_until_one_is_sure():
    assert heard(2, 3, 1, detection=Detection(segments=5)) == ("en", 0.6, 3, False)
    assert heard(2, 1, 1, detection=Detection(segments=2, threshold=0.4)) == ("fr", 0.45, 1, False)


def test_the_most_windows_decide_where_none_is_sure():
    assert heard(2, 3, 4, detection=Detection(segments=3)) == ("fr", 0.45, 3, False)
    assert heard(3, 3, 2, detection=Detection(segments=9)) == ("de", 0.42, 3, False)
    assert heard(3, 2, detection=Detection(segments=9)) == ("de", 0.42, 2, False)
    assert heard(1, 3, 3, detection=Detection(segments=3, threshold=None)) == ("de", 0.42, 3, False)


def test_only_expected_languages_are_found():
    some = Detection(("fr", "de"))
    assert heard(1, detection=some) == ("fr", 0.75, 1, True)
    assert heard(3, detection=Detection(("de",))) == ("de", 1.0, 1, True)
    with pytest.raises(OptionError, match="does not know the language 'sv'"):
        heard(1, detection=Detection(("sv", "en")))


def test_the_first_clip_may_be_what_decides():
    clips = ((3000, 6000),)
    assert heard(1, 2, 3, clips=clips) == ("en", 0.6, 1, False)
    assert heard(1, 2, 3, clips=clips, detection=Detection(in_clips=True)) == ("fr", 0.45, 1, True)


def test_a_window_that_is_not_heard_whole_is_encoded_again():
    assert heard(1, clips=((0, 2000),), tail=1000) == ("en", 0.6, 1, False)


def test_names_and_codes_are_languages():
    assert detection_options("German, fr", 1, None).languages == ("de", "fr")
    assert detection_options(["en", "English"], 1, 0.5).languages == ("en",)
    assert detection_options(None, 3, 0.5) == Detection((), 3, 0.5)
