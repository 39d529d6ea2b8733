"""Samples to Whisper's log-mel spectrogram, and audio in whatever form a caller has it."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.blas import one_blas_thread
from max_whisper.errors import AudioError
from max_whisper.media import (
    SAMPLE_RATE,
    AudioSource,
    load_audio,
    load_channels,
    scaled,
    source_name,
    stream_audio,
)

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
    "stream_audio",
]

# The front end that Whisper was trained with (Radford et al. 2022, section 2.2; names and values
# of openai-whisper's audio module).
N_FFT = 400
HOP_LENGTH = 160
CHUNK_LENGTH = 30
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE
N_FRAMES = N_SAMPLES // HOP_LENGTH
N_SAMPLES_PER_TOKEN = HOP_LENGTH * 2
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
TOKENS_PER_SECOND = SAMPLE_RATE // N_SAMPLES_PER_TOKEN

_FRAMES_PER_BLOCK = 1024  # frames of one FFT call: the block stays in the second-level cache


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
    if isinstance(audio, str | bytes | os.PathLike) or hasattr(audio, "read"):
        return load_audio(cast("AudioSource", audio))
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
    if isinstance(audio, str | bytes | os.PathLike) or hasattr(audio, "read"):
        source = cast("AudioSource", audio)
        samples, name = load_channels(source), f"{source_name(source)}: the recording"
    else:
        array, name = np.asarray(audio), "the array"
        if array.ndim == 2 and array.shape[0] > array.shape[1]:
            raise AudioError(f"channels come first, (channels, samples); the shape is {array.shape}")
        if array.ndim > 2:
            raise AudioError(f"audio has two dimensions, (channels, samples), not the shape {array.shape}")
        samples = np.atleast_2d(_checked(array))
    if len(samples) < 2:
        raise AudioError(f"{name} has one channel; leave multichannel out to transcribe it")
    return samples


def _checked(array: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32, if they are samples."""
    if array.dtype == np.int16:
        return scaled(array)
    if array.dtype.kind != "f":
        raise AudioError(f"audio samples must be floats in [-1, 1] or int16, not {array.dtype}")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise AudioError(f"{bad} of {array.size} audio samples are NaN or infinite")
    return array.astype(np.float32, copy=False)


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
    samples = as_samples(audio)
    total = samples.size + padding
    margin = N_FFT // 2
    if total <= margin:
        raise AudioError(f"a spectrogram needs more than {margin} samples, not {total}; use padding")
    spectrogram = np.empty((n_mels, total // HOP_LENGTH), np.float32)

    # Only what lies within reach of the samples is transformed: the rest of the padding is silent.
    silence = min(padding, N_FFT)
    near = _mirrored(samples, silence, margin, margin if silence == padding else 0)
    frames = np.lib.stride_tricks.sliding_window_view(near, N_FFT)[::HOP_LENGTH]
    sounding = min(len(frames), spectrogram.shape[1])

    filters, window = mel_filters(n_mels), _window()
    with one_blas_thread():
        for start in range(0, sounding, _FRAMES_PER_BLOCK):
            stop = min(start + _FRAMES_PER_BLOCK, sounding)
            spectrum = np.fft.rfft(frames[start:stop] * window).astype(np.complex64, copy=False)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            np.matmul(filters, power.T, out=spectrogram[:, start:stop])
    spectrogram[:, sounding:] = 0
    return _compress(spectrogram)


def _mirrored(samples: NDArray[np.float32], silence: int, before: int, after: int) -> NDArray[np.float32]:
    """Samples and some zeros, with what lies within reach of both ends mirrored behind them; one copy."""
    end = before + samples.size + silence
    out = np.empty(end + after, np.float32)
    out[before : before + samples.size] = samples
    out[before + samples.size : end] = 0
    out[:before] = out[2 * before : before : -1]
    out[end:] = out[end - 2 : end - 2 - after : -1]
    return out


def _compress(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of mel powers, cut off at 8 decades below the maximum and scaled; in place."""
    np.maximum(power, 1e-10, out=power)
    np.log10(power, out=power)
    np.maximum(power, power.max() - 8, out=power)
    power += 4
    power /= 4
    return power


@lru_cache
def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """Triangular filters on Slaney's mel scale, each of unit area.

    Linear below 1 kHz, logarithmic above, 0 Hz to 8 kHz: the filters that openai-whisper ships
    as a file (made with ``librosa.filters.mel``), from the formula (Slaney, Auditory Toolbox).

    Returns:
        (n_mels, 201) float32, read-only: weights of the FFT's bins.

    Raises:
        ValueError: ``n_mels`` is not positive.
    """
    if n_mels < 1:
        raise ValueError(f"a spectrogram needs at least one mel band, not {n_mels}")
    hz_per_mel, knee = 200 / 3, 15.0  # 15 mel are 1 kHz
    log_step = np.log(6.4) / 27
    top = knee + np.log(SAMPLE_RATE / 2 / 1000) / log_step
    mels = np.linspace(0, top, n_mels + 2)
    edges = np.where(mels < knee, hz_per_mel * mels, 1000 * np.exp(log_step * (mels - knee)))

    bins = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * (2 / (right - left))).astype(np.float32)
    filters.flags.writeable = False
    return filters


@lru_cache
def _window() -> NDArray[np.float32]:
    # The angles are rounded to float32 before the cosine because PyTorch rounds them there, and
    # what that leaks from strong bins into weak ones shows in the reference's spectrograms.
    angles = np.arange(N_FFT, dtype=np.float32) * np.float32(2 * np.pi / N_FFT)
    window: NDArray[np.float32] = np.float32(0.5) - np.float32(0.5) * np.cos(angles)
    return window
