"""Any recording to 16 kHz mono samples, and samples to Whisper's log-mel spectrogram.

Samples pass through 16-bit integers on the way, as they do in openai-whisper: a recording must
give the same numbers, hence the same tokens, in both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.errors import AudioError, AudioWarning

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

# The front end that Whisper was trained with (Radford et al. 2022, section 2.2; names and values
# of openai-whisper's audio module).
SAMPLE_RATE = 16000
N_FFT = 400
HOP_LENGTH = 160
CHUNK_LENGTH = 30
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE
N_FRAMES = N_SAMPLES // HOP_LENGTH
N_SAMPLES_PER_TOKEN = HOP_LENGTH * 2
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
TOKENS_PER_SECOND = SAMPLE_RATE // N_SAMPLES_PER_TOKEN

AudioSource = str | os.PathLike[str] | IO[bytes] | bytes

# Containers whose stated length FFmpeg passes on as it stands; others' are estimates.
_STATES_LENGTH = {"flac", "aiff", "mov,mp4,m4a,3gp,3g2,mj2"}
_LENGTH_TOLERANCE = 0.1  # seconds
_FRAMES_PER_BLOCK = 1024  # frames of one FFT call: the block stays in the second-level cache


def load_audio(file: AudioSource, sr: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Reads a recording in any format that FFmpeg knows.

    Channels are mixed and the rate is changed by FFmpeg's resampler with its default settings,
    which is what the ``ffmpeg`` command does for openai-whisper.

    Args:
        file: A path, an open binary file, or the bytes of a file.
        sr: Sample rate of the result in Hz.

    Returns:
        (n,) float32 in [-1, 1).

    Raises:
        AudioError: The file is missing, is not audio, or nothing of it can be decoded.

    Warns:
        AudioWarning: The file is damaged or cut short; what could be decoded is returned.
    """
    import av

    if isinstance(sr, bool) or not isinstance(sr, int) or sr <= 0:
        raise AudioError(f"a sample rate must be a positive whole number of Hz, not {sr!r}")
    name = _name(file)
    try:
        with _open(file) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{name}: the file has no audio stream")
            reader = _Reader(name, sr)
            samples = reader.read(container, stream)
            damage = reader.damage or _missing_end(container, stream, reader.seconds_in)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{name}: {_reason(error)}") from error
    if not samples.size:
        raise AudioError(f"{name}: no audio could be decoded" + (f" ({damage})" if damage else ""))
    if damage:
        kept = samples.size / sr
        warnings.warn(f"{name}: {damage}; kept the {kept:.2f} s that decode", AudioWarning, stacklevel=2)
    return _scaled(samples)


def stream_audio(
    file: AudioSource, sr: int = SAMPLE_RATE, format: str | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decodes a recording, or a stream that goes on, piece by piece as it comes.

    Args:
        file: As in :func:`load_audio`; of an open file, ``read`` may return less than it is asked for.
        sr: Sample rate of the result in Hz.
        format: The container, by FFmpeg's name; found out if None.

    Yields:
        (n,) float32 in [-1, 1), one after the other.

    Raises:
        AudioError: As in :func:`load_audio`.

    Warns:
        AudioWarning: What was decoded is not all that came.
    """
    import av

    name = _name(file)
    reader = _Reader(name, sr)
    try:
        with _open(file, format, at_once=True) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{name}: the file has no audio stream")
            for samples in reader.pieces(container, stream):
                if samples.size:
                    yield _scaled(samples)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{name}: {_reason(error)}") from error
    if not reader.seconds_in:
        reason = f" ({reader.damage})" if reader.damage else ""
        raise AudioError(f"{name}: no audio could be decoded{reason}")
    if reader.damage:
        warnings.warn(f"{name}: {reader.damage}", AudioWarning, stacklevel=2)


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
            "average the channels first"
        )
    if array.dtype == np.int16:
        return _scaled(array)
    if array.dtype.kind != "f":
        raise AudioError(f"audio samples must be floats in [-1, 1] or int16, not {array.dtype}")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise AudioError(f"{bad} of {array.size} audio samples are NaN or infinite")
    return array.astype(np.float32, copy=False)


def _scaled(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = np.multiply(samples, 1 / 32768, dtype=np.float32)
    return scaled


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
    reach = samples.size + N_FFT
    near = np.pad(samples, (0, min(padding, reach - samples.size)))
    ends = (margin, margin) if total == near.size else (margin, 0)
    near = np.pad(near, ends, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(near, N_FFT)[::HOP_LENGTH]
    sounding = min(len(frames), spectrogram.shape[1])

    filters, window = mel_filters(n_mels), _window()
    for start in range(0, sounding, _FRAMES_PER_BLOCK):
        stop = min(start + _FRAMES_PER_BLOCK, sounding)
        spectrum = np.fft.rfft(frames[start:stop] * window).astype(np.complex64, copy=False)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        np.matmul(filters, power.T, out=spectrogram[:, start:stop])
    spectrogram[:, sounding:] = 0
    return _compress(spectrogram)


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


def _name(file: AudioSource) -> str:
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    return str(getattr(file, "name", "audio stream"))


def _open(file: AudioSource, format: str | None = None, at_once: bool = False) -> InputContainer:
    """Opens a container; ``at_once``: without reading ahead for long to find out what is in it."""
    import io

    import av

    # Tags in whatever encoding are no reason to refuse a recording; from 19 on that is the default.
    lenient: dict[str, Any] = {"metadata_errors": "ignore"} if _av_version() < 19 else {}
    if format is not None:
        lenient["format"] = format
    options = {"probesize": "32768"} if at_once else {}
    if isinstance(file, bytes):
        file = io.BytesIO(file)
    if isinstance(file, io.BytesIO) and not file.getbuffer().nbytes:
        raise AudioError(f"{_name(file)}: there is no data")
    if isinstance(file, str | os.PathLike):
        path = os.fspath(file)
        # The prefix keeps FFmpeg from taking "a:b.wav" for a URL; what is no file may be one.
        if Path(path).exists() or "://" not in path:
            if Path(path).is_file() and not Path(path).stat().st_size:
                raise AudioError(f"{path}: the file is empty")
            path = f"file:{path}"
        return cast("InputContainer", av.open(path, mode="r", options=options, **lenient))
    # A stream may hold a playlist from who knows where: it must not open files or connections.
    options["protocol_whitelist"] = "none"
    return cast("InputContainer", av.open(file, mode="r", options=options, **lenient))


def _av_version() -> int:
    import av

    return int(av.__version__.partition(".")[0])


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a recording"
    if isinstance(error, PermissionError):
        return "permission denied"
    detail = getattr(error, "strerror", None) or str(error)
    return f"not a recording that FFmpeg can read ({detail})"


def _missing_end(container: InputContainer, stream: AudioStream, seconds: float) -> str:
    """Says so where the header promises more audio than the file holds; else empty."""
    if container.format.name not in _STATES_LENGTH or not stream.duration or not stream.time_base:
        return ""
    stated = float(stream.duration * stream.time_base)
    if seconds >= stated - _LENGTH_TOLERANCE:
        return ""
    return f"the file ends early, {seconds:.2f} s of {stated:.2f} s"


class _Reader:
    """Decodes one stream to 16-bit mono.

    Attributes:
        damage: What was wrong with the file, or empty.
        seconds_in: How much audio was decoded.
    """

    def __init__(self, name: str, rate: int) -> None:
        self.damage = ""
        self.seconds_in = 0.0
        self._name = name
        self._rate = rate

    def read(self, container: InputContainer, stream: AudioStream) -> NDArray[np.int16]:
        """Everything that can be decoded, (n,)."""
        parts = list(self.pieces(container, stream))
        return np.concatenate(parts) if parts else np.empty(0, np.int16)

    def pieces(self, container: InputContainer, stream: AudioStream) -> Iterator[NDArray[np.int16]]:
        """The same in pieces, (n,) each, as they are decoded."""
        from av.audio.resampler import AudioResampler

        resampler: AudioResampler | None = None
        setup: tuple[str, str, int] | None = None
        for frame in self._frames(container, stream):
            self._refuse_non_numbers(stream, frame)
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or now != setup:
                yield from _flush(resampler)
                resampler, setup = AudioResampler("s16", "mono", self._rate), now
            self.seconds_in += frame.samples / frame.sample_rate
            # Timestamps of damaged files run backwards; the samples' order is what counts.
            frame.pts = None
            yield from (out.to_ndarray()[0] for out in resampler.resample(frame))
        yield from _flush(resampler)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self.damage = f"the file is damaged ({error.strerror})"
                return
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self.damage = f"the file is damaged ({error.strerror})"
                continue
            yield from frames

    def _refuse_non_numbers(self, stream: AudioStream, frame: AudioFrame) -> None:
        # Only raw float samples can hold them; no decoder makes them.
        if stream.codec_context.name.startswith("pcm_f") and not np.isfinite(frame.to_ndarray()).all():
            raise AudioError(f"{self._name}: the file has samples that are NaN or infinite")


def _flush(resampler: Any) -> list[NDArray[np.int16]]:
    if resampler is None:
        return []
    return [out.to_ndarray()[0] for out in resampler.resample(None)]
