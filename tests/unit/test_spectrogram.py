"""The spectrogram of long recordings, of which parts are asked for."""

from __future__ import annotations

import os
import tempfile
import wave
from pathlib import Path

import numpy as np
import pytest

from max_whisper import audio, spectrogram
from max_whisper.errors import AudioError, AudioWarning
from max_whisper.spectrogram import BLOCK, HOP_LENGTH, LogMel

SECOND = audio.SAMPLE_RATE
SAMPLES = np.random.default_rng(7).normal(0, 0.1, 3 * BLOCK * HOP_LENGTH + 777).astype(np.float32)
SAMPLES *= np.linspace(0.01, 1, len(SAMPLES), dtype=np.float32)  # the loudest comes late
WHOLE = audio.log_mel_spectrogram(SAMPLES, padding=audio.N_SAMPLES)


def pieces(size):
    return (SAMPLES[start : start + size] for start in range(0, len(SAMPLES), size))


def open_files():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("size", [1, 160, 4096, BLOCK * HOP_LENGTH, 10**6])
def test_pieces_of_any_length_make_the_same(size):
    samples = SAMPLES[: 3000 if size == 1 else None]
    given = [samples[start : start + size] for start in range(0, len(samples), size)]
    made = LogMel(given, 80, 480)
    assert np.array_equal(made[:, :], audio.log_mel_spectrogram(samples, padding=480))


@pytest.mark.parametrize("kept", [0, 2, None])
def test_any_part_is_the_part_of_the_whole(kept):
    mel = LogMel(pieces(5000), 80, audio.N_SAMPLES, kept)
    assert mel.shape == WHOLE.shape
    ends = (
        0,
        1,
        BLOCK - 1,
        BLOCK,
        2 * BLOCK + 5,
        3 * BLOCK,
        3 * BLOCK + 4,
        3 * BLOCK + 5,
        5000,
        WHOLE.shape[1],
    )
    for start in ends:
        for stop in ends:
            part = mel[:, start:stop]
            assert np.array_equal(part, WHOLE[:, start:stop])
            assert part.flags.c_contiguous
    assert np.array_equal(mel[:, -3000:], WHOLE[:, -3000:])
    assert mel[:, 10**6 :].shape == (80, 0)


@pytest.mark.parametrize("place", [(slice(1, 2), slice(None)), (slice(None), slice(None, None, 2))])
def test_nothing_but_neighbouring_frames_of_all_bands_is_had(place):
    with pytest.raises(IndexError, match="neighbouring"):
        LogMel(pieces(5000), 80, 0)[place]


def test_the_file_is_gone_with_the_spectrogram(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_files()
    mel = LogMel(pieces(5000), 80, 0, kept=1)
    assert len(open_files() - before) == 1
    assert not list(tmp_path.iterdir())  # nobody else can find it
    del mel
    assert not open_files() - before


@pytest.mark.parametrize("failing", ["open", "write", "part"])
def test_without_room_for_a_file_all_stays_in_memory(failing, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    written = []

    def twice(file, data, offset):
        written.append(offset)
        return len(data) if len(written) < 2 and os_write(file, data, offset) else len(data) // 2

    os_write = os.pwrite
    if failing == "open":
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    else:
        monkeypatch.setattr(os, "pwrite", full if failing == "write" else twice)
    mel = LogMel(pieces(5000), 80, audio.N_SAMPLES, kept=1)
    assert np.array_equal(mel[:, :], WHOLE)


def test_a_file_is_read_in_pieces_to_the_same_spectrogram(tmp_path):
    path = tmp_path / "some.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SECOND)
        file.writeframes((SAMPLES * 8000).astype("<i2").tobytes())
    samples = audio.load_audio(path)
    assert max(map(len, audio.pieces_of(path))) < SECOND
    assert np.array_equal(audio.read_log_mel(path, 80)[:, :], audio.log_mel_spectrogram(samples))


def test_integers_and_floats_in_pieces_are_what_they_are_as_a_whole(monkeypatch):
    monkeypatch.setattr(audio, "PIECE", 1000)
    integers = (SAMPLES * 8000).astype(np.int16)
    for array in (integers, SAMPLES, SAMPLES.astype(np.float64)):
        assert np.array_equal(np.concatenate(list(audio.pieces_of(array))), audio.as_samples(array))
    with pytest.raises(AudioError, match="2 of 2500 audio samples are NaN or infinite"):
        list(audio.pieces_of(np.where(np.arange(2500) % 2000 == 3, np.nan, SAMPLES[:2500])))


def test_what_is_wrong_with_a_file_is_told_when_it_is_read_in_pieces(tmp_path):
    whole = (Path(__file__).parent.parent / "data" / "jfk.flac").read_bytes()
    with pytest.warns(AudioWarning, match="kept the"):
        mel = audio.read_log_mel(whole[: len(whole) // 2], 80)
    assert 0 < mel.shape[1] < 1100
    with pytest.raises(AudioError, match="no such file"):
        audio.read_log_mel(tmp_path / "none.wav", 80)
    with pytest.raises(AudioError, match="more than 200 samples"):
        audio.read_log_mel(np.zeros(200, np.float32), 80)


def test_an_hour_is_not_held(monkeypatch):
    """What stays in memory is bounded, however much comes."""
    blocks = spectrogram._Blocks(kept=2)
    for number in range(50):
        blocks.append(np.full((80, 8), number, np.float32))
    held = [each for each in blocks._arrays if isinstance(each, np.ndarray)]
    assert len(held) == 2
    assert all((blocks[number] == number).all() for number in range(50))
