"""Whisper's log-mel spectrogram, made block by block of samples as they come.

Of a long recording the spectrogram is too large for the memory of a process that ought to stay
small: blocks beyond some minutes lie in a temporary file until a window of them is heard.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from max_whisper.blas import one_blas_thread
from max_whisper.errors import AudioError
from max_whisper.media import SAMPLE_RATE

# The front end that Whisper was trained with (Radford et al. 2022, section 2.2; names and values
# of openai-whisper's audio module).
N_FFT = 400
HOP_LENGTH = 160

#: Frames of one block and one FFT call: it stays in the second-level cache.
BLOCK = 1024
#: How many blocks of samples wait to become spectra, while further ones are decoded.
AHEAD = 4
#: How many blocks are kept in memory: 11 minutes, 21 MB of 80 bands.
KEPT = 64

_STRETCH = (BLOCK - 1) * HOP_LENGTH + N_FFT  # samples that a block is made of

Floats = NDArray[np.float32]


class LogMel:
    """A log-mel spectrogram of which parts are asked for: ``mel[:, start:stop]``.

    Values are clipped to 8 decades below the loudest of the whole, as the model was trained, so
    they are known once all samples have come.

    Attributes:
        shape: Mel bands and frames.
    """

    def __init__(self, pieces: Iterable[Floats], n_mels: int, padding: int, kept: int | None = KEPT) -> None:
        """Makes the spectrogram of some samples.

        Args:
            pieces: The samples (n,), in pieces of any length.
            n_mels: How many mel bands.
            padding: How many zeros follow the samples.
            kept: How many blocks stay in memory; None: all of them.

        Raises:
            AudioError: The padded input has no more than 200 samples.
        """
        self._blocks = _Blocks(kept)
        self._top = _decades(np.zeros(1, np.float32))[0]
        self._sounding = 0
        transformed = _Transform(n_mels)
        frames = 0

        def framed() -> Iterator[Floats]:
            nonlocal frames
            frames = yield from _framed(pieces, padding)

        with one_blas_thread():
            for block in _meanwhile(transformed, framed()):
                self._top = max(self._top, block.max())
                self._sounding += block.shape[1]
                self._blocks.append(block)
        self.shape: tuple[int, int] = (n_mels, frames)

    def __getitem__(self, place: tuple[slice, slice]) -> Floats:
        """(n_mels, frames) float32 of all bands and some frames, about -1 to 2."""
        bands, frames = place
        start, stop, step = frames.indices(self.shape[1])
        if bands != slice(None) or step != 1:
            raise IndexError("all bands of neighbouring frames can be had, and nothing else")
        part = np.empty((self.shape[0], max(0, stop - start)), np.float32)
        heard = min(stop, self._sounding)
        for first in range(start // BLOCK * BLOCK, heard, BLOCK) if start < heard else ():
            begin, end = max(start, first), min(heard, first + BLOCK)
            block = self._blocks[first // BLOCK]
            part[:, begin - start : end - start] = block[:, begin - first : end - first]
        part[:, max(0, heard - start) :] = _decades(np.zeros(1, np.float32))
        np.maximum(part, self._top - 8, out=part)
        part += 4
        part /= 4
        return part


#: A recording's log-mel (n_mels, frames) as consumers take it.
Mel = LogMel | Floats


class _Transform:
    """Frames to the logarithms of their mel powers.

    Everything on the way has its place once and for all: new arrays of this size come page by page
    from the system, which takes as long as to fill them.
    """

    def __init__(self, n_mels: int) -> None:
        self._filters = mel_filters(n_mels)
        self._window = _window()
        # numpy transforms in double precision, whatever it is given.
        self._frames = np.empty((BLOCK, N_FFT), np.float64)
        bins = N_FFT // 2 + 1
        self._spectrum = np.empty((BLOCK, bins), np.complex128)
        self._rounded = np.empty((BLOCK, bins), np.complex64)
        self._power = np.empty((2, BLOCK, bins), np.float32)

    def __call__(self, frames: Floats) -> Floats:
        """(n, N_FFT), at most :data:`BLOCK`, to (n_mels, n)."""
        n = len(frames)
        np.multiply(frames, self._window, out=self._frames[:n], dtype=np.float32)
        np.fft.rfft(self._frames[:n], out=self._spectrum[:n])
        rounded = self._rounded[:n]
        rounded[:] = self._spectrum[:n]
        power, imaginary = self._power[:, :n]
        np.square(rounded.real, out=power)
        np.square(rounded.imag, out=imaginary)
        power += imaginary
        return _decades(np.matmul(self._filters, power.T))


def _meanwhile(change: Callable[[Floats], Floats], items: Iterable[Floats]) -> Iterator[Floats]:
    """``map(change, items)``, a thread changing some items while further ones are being made."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Floats]] = deque()
        for item in items:
            waiting.append(thread.submit(change, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Blocks:
    """Arrays in order: the first ones in memory, the others in a file where that is possible."""

    def __init__(self, kept: int | None) -> None:
        self._kept = kept
        self._arrays: list[Floats | tuple[int, tuple[int, ...]]] = []  # or an offset in the file, and a shape
        self._file: int | None = None
        self._end = 0

    def append(self, array: Floats) -> None:
        if self._kept is None or len(self._arrays) < self._kept or not self._written(array):
            self._arrays.append(array)
        else:
            self._arrays.append((self._end - array.nbytes, array.shape))

    def __getitem__(self, index: int) -> Floats:
        found = self._arrays[index]
        if isinstance(found, np.ndarray):
            return found
        offset, shape = found
        assert self._file is not None
        size = 4 * int(np.prod(shape))
        return np.frombuffer(os.pread(self._file, size, offset), np.float32).reshape(shape)

    def _written(self, array: Floats) -> bool:
        """Whether there was room in the file; once there is none, all else stays in memory."""
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = _nameless_file(self)
            if os.pwrite(self._file, array.tobytes(), self._end) == array.nbytes:
                self._end += array.nbytes
                return True
        self._kept = None
        return False


def _nameless_file(owner: object) -> int:
    """A file that is gone with its owner, or with the process."""
    file, name = tempfile.mkstemp(prefix="max-whisper-")
    weakref.finalize(owner, os.close, file)
    Path(name).unlink()
    return file


def _framed(pieces: Iterable[Floats], padding: int) -> Generator[Floats, None, int]:
    """Yields (n, N_FFT) frames of samples and what lies around them, :data:`BLOCK` at a time.

    A frame's middle is its first sample; the ends are mirrored. What follows the samples is
    framed as far as frames reach back to them. Returns how many frames there are in all.
    """
    margin = N_FFT // 2
    near = min(padding, N_FFT)
    waiting: list[Floats] = []
    size = samples = done = 0
    begun = False

    def joined() -> Floats:
        whole = np.concatenate(waiting) if waiting else np.empty(0, np.float32)
        return whole if begun else np.concatenate([whole[margin:0:-1], whole])

    for piece in pieces:
        waiting.append(piece)
        samples += piece.size
        size += piece.size
        if size < _STRETCH:
            continue
        signal, begun, start = joined(), True, 0
        while start + _STRETCH <= signal.size:
            yield _frames(signal[start : start + _STRETCH])
            start += BLOCK * HOP_LENGTH
            done += BLOCK
        waiting, size = [signal[start:]], signal.size - start
    total = samples + padding
    if total <= margin:
        raise AudioError(f"a spectrogram needs more than {margin} samples, not {total}; use padding")
    waiting.append(np.zeros(near, np.float32))
    signal = joined()
    if padding == near:
        signal = np.concatenate([signal, signal[-2 : -margin - 2 : -1]])
    frames = _frames(signal)[: total // HOP_LENGTH - done]
    for start in range(0, len(frames), BLOCK):
        yield frames[start : start + BLOCK]
    return total // HOP_LENGTH


def _frames(signal: Floats) -> Floats:
    """All frames of a signal, as a view."""
    view: Floats = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[::HOP_LENGTH]
    return view


def _decades(power: Floats) -> Floats:
    """The logarithm of mel powers, in place."""
    np.maximum(power, 1e-10, out=power)
    np.log10(power, out=power)
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
