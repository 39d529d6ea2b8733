"""Where a recording is cut: in silence, and into few pieces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from max_whisper.transcribe.pauses import cut_at_pauses, loudness, speechiness
from max_whisper.transcribe.speech import SpeechMap

SECOND = 100


def activity(*seconds):
    """Speech and silence in turn, so many seconds of each."""
    kinds = (np.arange(len(seconds)) + 1) % 2
    return np.repeat(kinds, np.round(np.array(seconds) * SECOND).astype(int)).astype(np.float32)


def test_cuts_lie_in_pauses():
    heard = activity(12, 0.5, 14, 0.4, 12, 0.6, 9, 0.5, 20)
    pieces = cut_at_pauses(heard, [(0, len(heard))], 3000)
    assert len(pieces) == 3
    for start, _ in pieces[1:]:
        assert not heard[start - 5 : start + 5].any()


def test_a_longer_pause_is_better():
    heard = activity(20, 0.2, 4, 0.6, 4, 0.2, 20)
    (_, second) = cut_at_pauses(heard, [(0, len(heard))], 3000)
    assert 2420 <= second[0] <= 2480


def test_without_a_pause_pieces_are_full():
    heard = np.ones(10_000, np.float32)
    pieces = cut_at_pauses(heard, [(0, 10_000)], 3000)
    assert len(pieces) == 4
    assert cut_at_pauses(heard, [(0, 3000)], 3000) == [(0, 3000)]


def test_a_quiet_moment_is_better_than_none():
    heard = np.full(4000, 0.9, np.float32)
    heard[2200:2260] = 0.5
    assert cut_at_pauses(heard, [(0, 4000)], 3000)[0][1] in range(2205, 2255)


def test_clips_are_cut_each_alone():
    heard = activity(10, 1, 10, 1, 10, 1, 10, 1, 10)
    pieces = cut_at_pauses(heard, [(500, 1500), (2000, 5400), (5400, 5400)], 3000)
    assert pieces[0] == (500, 1500)
    assert pieces[1][0] == 2000 and pieces[-1][1] == 5400
    assert pieces[1][1] == pieces[2][0]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_together_are_the_clip_and_none_is_too_long(seed):
    rng = np.random.default_rng(seed)
    heard = np.repeat(rng.random(300), rng.integers(1, 300, 300)).astype(np.float32)
    longest = int(rng.integers(100, 4000))
    start, end = 17, len(heard) - 5
    pieces = cut_at_pauses(heard, [(start, end)], longest)
    assert pieces[0][0] == start and pieces[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    assert all(0 < last - first <= longest for first, last in pieces)


def test_loudness_tells_speech_from_the_recordings_own_quiet():
    rng = np.random.default_rng(0)
    levels = activity(5, 1, 5, 1, 5) * 0.8 + rng.random(1700) * 0.1
    mel = np.tile(levels.astype(np.float32), (80, 1)) - 0.5
    found = loudness(mel, 1700)
    assert found[510:590].max() < 0.3 < 0.7 < found[:490].min()
    assert not loudness(np.zeros((80, 100), np.float32), 100).any()
    assert loudness(np.zeros((80, 0), np.float32), 0).size == 0


def test_speechiness_follows_the_collected_speech():
    probabilities = (np.arange(100) / 100).tolist()  # one for each 32 ms
    speech = SpeechMap([(5120, 10240), (20480, 25600)], 51200)
    found = speechiness(probabilities, speech)
    assert len(found) == 64  # frames of 10 ms
    assert found[0] == np.float32(0.1) and found[31] == np.float32(0.19)
    assert found[32] == np.float32(0.4) and found[-1] == np.float32(0.49)
    assert speechiness(probabilities, SpeechMap([], 51200)).size == 0
