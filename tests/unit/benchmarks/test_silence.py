"""Sounds are what they are called and as loud as they say; costs are timed where they arise."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import costs, silence
from benchmarks.sounds import SOUNDS

from max_whisper.transcribe import prepared
from max_whisper.transcribe.vad import VadOptions


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds_are_the_same_each_time_and_never_too_loud(name) -> None:
    samples = SOUNDS[name](4)
    assert samples.dtype == np.float32 and samples.shape == (64000,)
    assert np.array_equal(samples, SOUNDS[name](4)) and np.abs(samples).max() < 1
    level = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    expected = {"digital silence": 0.0, "room tone": 0.0044}.get(name, 0.1)
    assert level == pytest.approx(expected, rel=0.1)


def test_white_noise_is_flat_and_pink_noise_falls_by_three_decibels_an_octave() -> None:
    for name, fall in (("white noise", 0.0), ("pink noise", 3.0)):
        power = np.square(np.abs(np.fft.rfft(SOUNDS[name](8))))
        octaves = [10 * np.log10(power[8 * f : 16 * f].mean()) for f in (250, 500, 1000, 2000)]
        assert np.diff(octaves) == pytest.approx([-fall] * 3, abs=0.3)


def test_music_keeps_its_beat() -> None:
    samples = SOUNDS["music"](20)
    frames = np.square(samples[: len(samples) // 80 * 80]).reshape(-1, 80).mean(axis=1)
    onsets = np.maximum(np.diff(frames), 0)
    spectrum = np.abs(np.fft.rfft(onsets - onsets.mean()))
    strongest = np.fft.rfftfreq(len(onsets), 80 / 16000)[int(spectrum.argmax())]
    beats = strongest * 60 / 108
    assert beats == pytest.approx(round(beats), abs=0.05) and round(beats) >= 1


def test_marks_are_no_words() -> None:
    assert silence.words(" . you, . - 3 [ ] Thank you.") == 4


def test_a_table_has_each_sound_and_how_long_it_was_heard() -> None:
    counts = {way: dict.fromkeys(SOUNDS, n) for n, way in enumerate((silence.VAD, silence.OPENAI))}
    lines = silence.table(counts, 30, 2).splitlines()
    assert lines[0] == "| words in | with vad_filter, 30 min | openai-whisper, beginning, 2 min |"
    assert lines[2:] == [f"| {sound} | 0 | 1 |" for sound in SOUNDS]


def test_the_clock_counts_what_is_clocked_and_nothing_stays_behind() -> None:
    before = prepared.speech_timestamps
    with costs.clocked() as clock:
        assert prepared.speech_timestamps is not before
        assert prepared.speech_timestamps(np.zeros(16000, np.float32), VadOptions()) == []
    assert prepared.speech_timestamps is before and 0 < clock.seconds < 60
    spent = clock.seconds

    def work():
        return (yield 1) + 1

    timed = clock.requests(work)()
    assert next(timed) == 1
    with pytest.raises(StopIteration) as end:
        timed.send(4)
    assert end.value.value == 5 and clock.seconds > spent
