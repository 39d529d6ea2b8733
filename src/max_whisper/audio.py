"""Samples to Whisper's log-mel spectrogram, and audio in whatever form a caller has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.errors import AudioError
from max_whisper.media import (
    SAMPLE_RATE,
    AudioSource,
    audio_pieces,
    load_audio,
    load_channels,
    scaled,
    source_name,
    stream_audio,
)
from max_whisper.spectrogram import HOP_LENGTH, N_FFT, LogMel, mel_filters

__all__ = [
    "CHUNK_LENGTH",
    "FRAMES_PER_SECOND",
    "HOP_LENGTH",
    "N_FFT",
    "N_FRAMES",
    "N_SAMPLES",
    "N_SAMPLES_PER_TOKEN",
    "SAMPLE_RATE",
    "TOKENS_PER_SECOND",
    "AudioSource",
    "as_channels",
    "as_samples",
    "load_audio",
    "load_channels",
    "log_mel_spectrogram",
    "mel_filters",
    "pad_or_trim",
    "read_log_mel",
    "stream_audio",
]

# Names and values of openai-whisper's audio module.
CHUNK_LENGTH = 30
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE
N_FRAMES = N_SAMPLES // HOP_LENGTH
N_SAMPLES_PER_TOKEN = HOP_LENGTH * 2
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
TOKENS_PER_SECOND = SAMPLE_RATE // N_SAMPLES_PER_TOKEN

PIECE = 1 << 17  # samples that are looked at together: 8 seconds


def as_samples(audio: AudioSource | ArrayLike) -> NDArray[np.float32]:
    """Takes audio in whatever form a caller has it.

    Args:
        audio: Something that :func:`load_audio` reads, or a (n,) array of 16 kHz mono samples:
            floats in [-1, 1], or int16, which are scaled.

    Returns:
        (n,) float32.

    Raises:
        AudioError: The array has another shape or type, or samples that are no numbers.
    """
    return load_audio(cast("AudioSource", audio)) if is_file(audio) else _floats(_mono(audio))


def is_file(audio: AudioSource | ArrayLike) -> bool:
    """Whether audio has to be decoded."""
    return isinstance(audio, str | bytes | os.PathLike) or hasattr(audio, "read")


def _mono(audio: ArrayLike | AudioSource) -> NDArray[Any]:
    """An array of mono samples of either kind."""
    array = np.asarray(audio)
    if array.ndim != 1:
        raise AudioError(
            f"audio must be a one-dimensional array of mono samples, not of shape {array.shape}; "
            "average the channels first, or transcribe them apart with multichannel"
        )
    return _checked(array)


def as_channels(audio: AudioSource | ArrayLike) -> NDArray[np.float32]:
    """Takes a recording of several channels in whatever form a caller has it.

    Args:
        audio: Something that :func:`load_channels` reads, or a (channels, n) array of 16 kHz
            samples: floats in [-1, 1], or int16, which are scaled.

    Returns:
        (channels, n) float32, at least two channels.

    Raises:
        AudioError: There is one channel, or the array has another shape or type, or samples that
            are no numbers.
    """
    if is_file(audio):
        source = cast("AudioSource", audio)
        samples, name = load_channels(source), f"{source_name(source)}: the recording"
    else:
        array, name = np.asarray(audio), "the array"
        if array.ndim == 2 and array.shape[0] > array.shape[1]:
            raise AudioError(f"channels come first, (channels, samples); the shape is {array.shape}")
        if array.ndim > 2:
            raise AudioError(f"audio has two dimensions, (channels, samples), not the shape {array.shape}")
        samples = np.atleast_2d(_floats(_checked(array)))
    if len(samples) < 2:
        raise AudioError(f"{name} has one channel; leave multichannel out to transcribe it")
    return samples


def _checked(array: NDArray[Any]) -> NDArray[Any]:
    """Samples, if that is what they are."""
    if array.dtype == np.int16:
        return array
    if array.dtype.kind != "f":
        raise AudioError(f"audio samples must be floats in [-1, 1] or int16, not {array.dtype}")
    finite = 0
    for start in range(0, array.shape[-1], PIECE):
        finite += int(np.count_nonzero(np.isfinite(array[..., start : start + PIECE])))
    if finite < array.size:
        raise AudioError(f"{array.size - finite} of {array.size} audio samples are NaN or infinite")
    return array


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """Checked samples as float32."""
    return scaled(array) if array.dtype == np.int16 else array.astype(np.float32, copy=False)


def pad_or_trim(array: ArrayLike, length: int = N_SAMPLES, *, axis: int = -1) -> NDArray[Any]:
    """Cuts an axis to ``length``, or fills it up with zeros at its end.

    Args:
        array: Samples, a spectrogram, or any other array.
        length: The wanted extent of ``axis``.
        axis: Which axis.

    Returns:
        An array of the same type; a view where nothing has to be filled.
    """
    array = np.asarray(array)
    excess = array.shape[axis] - length
    if excess >= 0:
        cut = [slice(None)] * array.ndim
        cut[axis] = slice(length)
        return array[tuple(cut)]
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -excess)
    return np.pad(array, widths)


def log_mel_spectrogram(
    audio: AudioSource | ArrayLike, n_mels: int = 80, padding: int = 0, device: object = None
) -> NDArray[np.float32]:
    """Whisper's input: the log-mel spectrogram of a recording.

    Values are clipped to 8 decades below the loudest of the whole input, so those of a part
    depend on the rest.

    Args:
        audio: As in :func:`as_samples`.
        n_mels: How many mel bands; Whisper's models have 80 or 128.
        padding: How many zeros to append.
        device: Taken for openai-whisper's sake; the spectrogram is always made on the host.

    Returns:
        (n_mels, (n + padding) // 160) float32, about -1 to 2.

    Raises:
        AudioError: As in :func:`as_samples`, or the padded input has no more than 200 samples.
    """
    return LogMel(pieces_of(audio), n_mels, padding, kept=None)[:, :]


def read_log_mel(audio: AudioSource | ArrayLike, n_mels: int, padding: int = 0) -> LogMel:
    """:func:`log_mel_spectrogram` of a recording of any length, in little memory.

    Neither the samples nor the spectrogram of a long file are ever held as a whole.

    Raises:
        AudioError: As in :func:`log_mel_spectrogram`.
    """
    return LogMel(pieces_of(audio), n_mels, padding)


def pieces_of(audio: AudioSource | ArrayLike) -> Iterator[NDArray[np.float32]]:
    """The samples of :func:`as_samples` in pieces, one after the other."""
    if is_file(audio):
        yield from audio_pieces(cast("AudioSource", audio))
        return
    array = _mono(audio)
    for start in range(0, array.size, PIECE):
        yield _floats(array[start : start + PIECE])
