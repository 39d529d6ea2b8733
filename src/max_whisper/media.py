"""Recordings in any format of FFmpeg's to samples: whole, channel by channel, or as they come.

Samples pass through 16-bit integers on the way, as they do in openai-whisper: a recording must
give the same numbers, hence the same tokens, in both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import AudioError, AudioWarning

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

#: Hz: what Whisper hears.
SAMPLE_RATE = 16000

AudioSource = str | os.PathLike[str] | IO[bytes] | bytes

# Containers whose stated length FFmpeg passes on as it stands; others' are estimates.
_STATES_LENGTH = {"flac", "aiff", "mov,mp4,m4a,3gp,3g2,mj2"}
_LENGTH_TOLERANCE = 0.1  # seconds


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
    samples: NDArray[np.float32] = _load(file, sr, mix=True)[0]
    return samples


def load_channels(file: AudioSource, sr: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Reads a recording with its channels kept apart, each as :func:`load_audio` would read it alone.

    Args:
        file: A path, an open binary file, or the bytes of a file.
        sr: Sample rate of the result in Hz.

    Returns:
        (channels, n) float32 in [-1, 1).

    Raises:
        AudioError: As :func:`load_audio`, or the number of channels changes on the way.

    Warns:
        AudioWarning: As :func:`load_audio`.
    """
    return _load(file, sr, mix=False)


def audio_pieces(file: AudioSource, sr: int = SAMPLE_RATE) -> Iterator[NDArray[np.float32]]:
    """What :func:`load_audio` returns, in pieces as they are decoded; it raises and warns as that does."""
    for piece in _decoded(file, sr, mix=True):
        yield scaled(piece)[0]


def _load(file: AudioSource, sr: int, mix: bool) -> NDArray[np.float32]:
    """The channels of a recording, or one that they are mixed to: (channels, n) float32."""
    gathered, channels = bytearray(), 1  # grows where it is, where pieces would be joined to a copy
    for piece in _decoded(file, sr, mix):
        channels = len(piece)
        gathered += piece.T.tobytes()
    return scaled(np.frombuffer(gathered, np.int16).reshape(-1, channels).T)


def _decoded(file: AudioSource, sr: int, mix: bool) -> Iterator[NDArray[np.int16]]:
    """The same in pieces (channels, n), at least one."""
    import av

    if isinstance(sr, bool) or not isinstance(sr, int) or sr <= 0:
        raise AudioError(f"a sample rate must be a positive whole number of Hz, not {sr!r}")
    name = source_name(file)
    reader = _Reader(name, sr, mix)
    count = 0
    try:
        with _open(file) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{name}: the file has no audio stream")
            for piece in reader.pieces(container, stream):
                count += piece.shape[1]
                yield piece
            damage = reader.damage or _missing_end(container, stream, reader.seconds_in)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{name}: {_reason(error)}") from error
    if not count:
        raise AudioError(f"{name}: no audio could be decoded" + (f" ({damage})" if damage else ""))
    if damage:
        kept = count / sr
        warnings.warn(f"{name}: {damage}; kept the {kept:.2f} s that decode", AudioWarning, stacklevel=4)


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

    name = source_name(file)
    reader = _Reader(name, sr, mix=True)
    try:
        with _open(file, format, at_once=True) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{name}: the file has no audio stream")
            for samples in reader.pieces(container, stream):
                if samples.size:
                    mono: NDArray[np.float32] = scaled(samples)[0]
                    yield mono
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{name}: {_reason(error)}") from error
    if not reader.seconds_in:
        reason = f" ({reader.damage})" if reader.damage else ""
        raise AudioError(f"{name}: no audio could be decoded{reason}")
    if reader.damage:
        warnings.warn(f"{name}: {reader.damage}", AudioWarning, stacklevel=2)


def scaled(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit samples as float32 in [-1, 1)."""
    floats = samples.astype(np.float32, order="C")
    floats *= np.float32(1 / 32768)
    return floats


def source_name(file: AudioSource) -> str:
    """What a source is called in messages."""
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
        raise AudioError(f"{source_name(file)}: there is no data")
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
    """Decodes one stream to 16 bits.

    Attributes:
        damage: What was wrong with the file, or empty.
        seconds_in: How much audio was decoded.
    """

    def __init__(self, name: str, rate: int, mix: bool) -> None:
        self.damage = ""
        self.seconds_in = 0.0
        self._name = name
        self._rate = rate
        self._mix = mix

    def pieces(self, container: InputContainer, stream: AudioStream) -> Iterator[NDArray[np.int16]]:
        """All that can be decoded, (channels, n) in pieces; one channel if they are to be mixed."""
        from av.audio.resampler import AudioResampler

        resampler: AudioResampler | None = None
        setup: tuple[str, str, int] | None = None
        channels = 0
        for frame in self._frames(container, stream):
            self._refuse_non_numbers(stream, frame)
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or now != setup:
                yield from _flush(resampler)
                before, channels = channels, frame.layout.nb_channels
                if not self._mix and before not in (0, channels):
                    raise AudioError(f"{self._name}: the number of channels changes within the recording")
                layout = "mono" if self._mix else frame.layout
                resampler, setup = AudioResampler("s16" if self._mix else "s16p", layout, self._rate), now
            self.seconds_in += frame.samples / frame.sample_rate
            # Timestamps of damaged files run backwards; the samples' order is what counts.
            frame.pts = None
            yield from _resampled(resampler, frame)
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
    return [] if resampler is None else _resampled(resampler, None)


def _resampled(resampler: Any, frame: AudioFrame | None) -> list[NDArray[np.int16]]:
    return [_samples(out) for out in resampler.resample(frame)]


def _samples(frame: AudioFrame) -> NDArray[np.int16]:
    """(channels, n) of one channel or of planes; ``to_ndarray`` gives the same and copies it."""
    planes = [np.frombuffer(plane, np.int16, frame.samples) for plane in frame.planes]  # type: ignore[call-overload]
    return planes[0][None] if len(planes) == 1 else np.stack(planes)
