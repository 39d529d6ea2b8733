"""Audio as faster-whisper's callers know it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.audio import (
    CHUNK_LENGTH,
    HOP_LENGTH,
    N_FFT,
    N_FRAMES,
    N_SAMPLES,
    SAMPLE_RATE,
    AudioSource,
    load_audio,
    load_channels,
    log_mel_spectrogram,
    pad_or_trim,
)
from max_whisper.errors import AudioError

__all__ = ["FeatureExtractor", "decode_audio", "pad_or_trim"]


def decode_audio(
    input_file: AudioSource, sampling_rate: int = SAMPLE_RATE, split_stereo: bool = False
) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reads a recording: see :func:`max_whisper.load_audio`.

    Returns:
        (n,) float32; with ``split_stereo``, that of the left channel and that of the right one.

    Raises:
        AudioError: It can't be read, or is to be split and has other channels than two.
    """
    if not split_stereo:
        return load_audio(input_file, sampling_rate)
    channels = load_channels(input_file, sampling_rate)
    if len(channels) != 2:
        raise AudioError(f"split_stereo is for two channels; the recording has {len(channels)}")
    return channels[0], channels[1]


class FeatureExtractor:
    """Log-mel spectrograms, and the numbers that go with them.

    Attributes:
        sampling_rate: In Hz.
        hop_length: Samples from one frame to the next.
        n_fft: Samples in a frame's window.
        chunk_length: Seconds in a window of the model.
        n_samples: Samples in it.
        nb_max_frames: Frames in it.
        time_per_frame: Seconds from one frame to the next.
    """

    def __init__(self, feature_size: int = 80) -> None:
        """Takes the number of mel bands."""
        self.feature_size = feature_size
        self.sampling_rate = SAMPLE_RATE
        self.hop_length = HOP_LENGTH
        self.n_fft = N_FFT
        self.chunk_length = CHUNK_LENGTH
        self.n_samples = N_SAMPLES
        self.nb_max_frames = N_FRAMES
        self.time_per_frame = HOP_LENGTH / SAMPLE_RATE

    def __call__(self, waveform: ArrayLike, padding: int = HOP_LENGTH) -> NDArray[np.float32]:
        """The log-mel (feature_size, frames) of (n,) samples and ``padding`` zeros."""
        samples: Any = np.asarray(waveform)
        return log_mel_spectrogram(samples, self.feature_size, padding=padding)
