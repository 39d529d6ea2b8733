"""The voice activity filter on real recordings: silence stays silent, speech stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from max_whisper.audio import load_audio
from max_whisper.transcribe.vad import VadOptions, silero, speech_timestamps

from .conftest import DATA, MODELS

RATE = 16000
GAP = 20  # seconds of silence


def _coloured(seconds: int, amplitude: float, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Noise whose spectrum has a shape, given by the gain at each frequency in Hz."""
    count = seconds * RATE
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(count))
    noise = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(count, 1 / RATE)), count)
    return (amplitude * noise / np.abs(noise).max()).astype(np.float32)


def _room(seconds: int) -> np.ndarray:
    """A quiet room: rumble, mains hum with an overtone, and a little hiss."""
    time = np.arange(seconds * RATE) / RATE
    hum = 0.004 * np.sin(2 * np.pi * 50 * time) + 0.002 * np.sin(2 * np.pi * 150 * time)
    rumble = _coloured(seconds, 0.01, lambda f: np.exp(-f / 150))
    return (rumble + hum + _coloured(seconds, 0.001, np.ones_like)).astype(np.float32)


WITHOUT_SPEECH = {
    "silence": np.zeros(30 * RATE, np.float32),
    "white": _coloured(30, 0.1, np.ones_like),
    "loud white": _coloured(30, 0.9, np.ones_like),
    "pink": _coloured(30, 0.3, lambda f: 1 / np.sqrt(np.maximum(f, 1))),
    "room": _room(30),
}


@pytest.fixture(scope="module")
def jfk() -> np.ndarray:
    return load_audio(str(DATA / "jfk.flac"))


@pytest.fixture(scope="module")
def among_silence(jfk: np.ndarray) -> np.ndarray:
    """Silence, jfk, silence, jfk, silence."""
    gap = np.zeros(GAP * RATE, np.float32)
    return np.concatenate([gap, jfk, gap, jfk, gap])


def _words(result: dict[str, Any]) -> list[tuple[str, float, float]]:
    words = [word for segment in result["segments"] for word in segment["words"]]
    return [(word["word"].strip(" .,").lower(), word["start"], word["end"]) for word in words]


@pytest.mark.parametrize("kind", WITHOUT_SPEECH)
def test_where_nobody_speaks_there_is_no_word(model: Callable[[str], Any], kind: str) -> None:
    result = model("tiny.en").transcribe(WITHOUT_SPEECH[kind], vad_filter=True)
    assert result == {"text": "", "segments": [], "language": "en"}


def test_speech_is_found_where_it_is(jfk: np.ndarray, among_silence: np.ndarray) -> None:
    spans = speech_timestamps(among_silence, VadOptions(speech_pad_ms=0))
    seconds = [(start / RATE, end / RATE) for start, end in spans]
    first, second = GAP, 2 * GAP + len(jfk) / RATE
    assert [start for start, _ in seconds] == pytest.approx([first + 0.35, second + 0.35], abs=0.15)
    assert [end for _, end in seconds] == pytest.approx([first + 10.9, second + 10.9], abs=0.25)


def test_a_models_detector_is_silero(model: Callable[[str], Any], among_silence: np.ndarray) -> None:
    for samples in (among_silence, among_silence[25 * RATE :][: 7 * RATE + 1], among_silence[:0]):
        samples.flags.writeable = False
        np.testing.assert_allclose(model("tiny.en").detect(samples), silero(samples), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_silence_around_speech_changes_no_word_and_moves_each(
    model: Callable[[str], Any], name: str, jfk: np.ndarray, among_silence: np.ndarray
) -> None:
    options = {"word_timestamps": True, "language": "en", "condition_on_previous_text": False}
    plain = _words(model(name).transcribe(jfk, **options))
    found = _words(model(name).transcribe(among_silence, vad_filter=True, **options))
    shifts = [GAP] * len(plain) + [2 * GAP + len(jfk) / RATE] * len(plain)
    assert [word for word, *_ in found] == [word for word, *_ in plain] * 2
    moved = [
        [abs(time - shift - before) for time, before in zip(times, alone, strict=True)]
        for (_, *times), (_, *alone), shift in zip(found, plain * 2, shifts, strict=True)
    ]
    # Between two words that a pause parts, the alignment puts their border anywhere in the pause.
    assert max(min(edges) for edges in moved) <= 0.1, moved
    assert np.mean(np.array(moved) <= 0.1) >= 0.9, moved


def test_times_are_those_of_the_speech_alone_exactly_moved(
    model: Callable[[str], Any], among_silence: np.ndarray
) -> None:
    """The first stretch, cut out by hand, is the whole input; the filter must do the same to it."""
    recording = among_silence[: (GAP + 30) * RATE]
    ((start, end),) = speech_timestamps(recording, VadOptions())
    alone = model("tiny.en").transcribe(recording[start:end], word_timestamps=True)
    found = model("tiny.en").transcribe(recording, word_timestamps=True, vad_filter=True)
    assert found["text"] == alone["text"] and len(found["segments"]) == len(alone["segments"]) > 0
    for ours, theirs in zip(found["segments"], alone["segments"], strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours["seek"] == theirs["seek"] + start // 160
        for one, other in [(ours, theirs), *zip(ours["words"], theirs["words"], strict=True)]:
            assert one["start"] == pytest.approx(other["start"] + start / RATE, abs=1e-3)
            assert one["end"] == pytest.approx(other["end"] + start / RATE, abs=1e-3)


def test_segments_of_one_window_stay_on_their_side_of_a_pause(
    model: Callable[[str], Any], jfk: np.ndarray
) -> None:
    recording = np.concatenate([jfk, np.zeros(4 * RATE, np.float32), jfk])
    (_, end), (start, _) = speech_timestamps(recording, VadOptions())
    segments = model("tiny.en").transcribe(recording, vad_filter=True, temperature=0)["segments"]
    assert {segment["seek"] for segment in segments} == {0}
    assert any(segment["start"] == start / RATE for segment in segments)
    for segment in segments:
        assert segment["end"] <= end / RATE or segment["start"] >= start / RATE


def test_clips_and_the_filter_go_together(
    model: Callable[[str], Any], jfk: np.ndarray, among_silence: np.ndarray
) -> None:
    second = 2 * GAP + len(jfk) / RATE
    result = model("tiny.en").transcribe(among_silence, vad_filter=True, clip_timestamps=f"{second},80")
    assert result["text"].count("fellow Americans") == 1
    assert all(second <= segment["start"] < segment["end"] < 65 for segment in result["segments"])
    silence = model("tiny.en").transcribe(among_silence, vad_filter=True, clip_timestamps="0,15,40,50")
    assert silence["segments"] == []
