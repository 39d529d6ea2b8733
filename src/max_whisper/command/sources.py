"""What the command listens to: standard input, a microphone, a file or an address; as 16 kHz samples."""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import SAMPLE_RATE, stream_audio
from max_whisper.errors import AudioError, DeviceError, OptionError

Samples = NDArray[np.float32]

#: Samples without a container, by FFmpeg's names: their type, and what is 0 and 1 in it.
RAW = {
    "s16le": ("<i2", 0, 1 << 15),
    "s32le": ("<i4", 0, 1 << 31),
    "f32le": ("<f4", 0, 1),
    "u8": ("u1", 128, 128),
}
AUTO = "auto"

_READ = 1 << 16
# What containers begin with. Formats that begin with no more than a byte or two could be samples as well.
_SIGNATURES: dict[int, tuple[bytes, ...]] = {
    0: (
        *(b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b"caff"),
        *(b".snd", b"wvPK", b"#!AMR", b"FLV"),
    ),
    4: (b"ftyp",),
}
_HEAD = 16
_NO_SOUNDDEVICE = 'listening to a microphone needs sounddevice: pip install "max-whisper[live]"'


@dataclass(frozen=True)
class InputFormat:
    """What comes in.

    Attributes:
        name: ``auto``, a key of :data:`RAW`, or FFmpeg's name of a container.
        rate: Of raw samples, in Hz.
        channels: Of raw samples, which take turns.
    """

    name: str = AUTO
    rate: int = SAMPLE_RATE
    channels: int = 1

    def __post_init__(self) -> None:
        """Raises :class:`OptionError` for what does not exist."""
        if self.rate < 1 or self.channels < 1:
            raise OptionError("sample_rate and channels must be at least 1")
        if self.name != AUTO and self.name not in RAW and not _is_container(self.name):
            raise OptionError(
                f"input_format {self.name!r} is unknown: give auto, {', '.join(RAW)}, or a format of FFmpeg"
            )
        if self.name not in RAW and self.name != AUTO:
            self.refuse_raw()

    def refuse_raw(self) -> None:
        """Raises :class:`OptionError` where something is said of raw samples."""
        if (self.rate, self.channels) != (SAMPLE_RATE, 1):
            raise OptionError("a container says itself what is in it: leave sample_rate and channels out")


def _is_container(name: str) -> bool:
    from av.format import ContainerFormat

    try:
        ContainerFormat(name, "r")
    except ValueError:
        return False
    return True


def from_standard_input(format: InputFormat) -> Iterator[Samples]:
    """Samples from standard input as they come.

    Raises:
        AudioError: It is a terminal, is empty, or cannot be decoded.
    """
    if sys.stdin.isatty():
        raise AudioError("standard input is a terminal; send audio through a pipe")
    return from_file(sys.stdin.buffer, format)


def from_file(file: BinaryIO, format: InputFormat) -> Iterator[Samples]:
    """Samples from an open file that need not be seekable; see :func:`from_standard_input`."""
    stream = _Ahead(file)
    head = stream.peek(_HEAD)
    if not head:
        raise AudioError("standard input is empty")
    name = format.name
    if name == AUTO:
        known = any(head[at:].startswith(signs) for at, signs in _SIGNATURES.items())
        name = "" if known else "s16le"
    if name in RAW:
        yield from _from_raw(stream, name, format)
    else:
        format.refuse_raw()
        yield from stream_audio(stream, format=name or None)  # type: ignore[arg-type]


class _Ahead:
    """A file for reading whose beginning has been looked at."""

    name = "standard input"

    def __init__(self, file: BinaryIO) -> None:
        self._read = getattr(file, "read1", file.read)
        self._head = b""

    def peek(self, count: int) -> bytes:
        """The first bytes, which will be read again; fewer if there are no more."""
        while len(self._head) < count and (more := self._read(_READ)):
            self._head += more
        return self._head[:count]

    def read(self, count: int = _READ) -> bytes:
        """What has come, up to ``count`` bytes; waits for the first one."""
        if self._head:
            out, self._head = self._head[:count], self._head[count:]
            return out
        read: bytes = self._read(count)
        return read


def _from_raw(file: _Ahead, name: str, format: InputFormat) -> Iterator[Samples]:
    kind, zero, one = RAW[name]
    frame = np.dtype(kind).itemsize * format.channels
    resample = _Resampler(format.rate)
    left = b""
    while read := file.read(_READ):
        left += read
        whole = len(left) // frame * frame
        values = np.frombuffer(left[:whole], kind).reshape(-1, format.channels)
        left = left[whole:]
        samples = (values.astype(np.float32).mean(axis=1, dtype=np.float32) - zero) / np.float32(one)
        yield from resample(samples)
    yield from resample.rest()


class _Resampler:
    """Changes the rate of a stream of samples to 16 kHz."""

    def __init__(self, rate: int) -> None:
        from av.audio.resampler import AudioResampler

        self._rate = rate
        self._resampler = None if rate == SAMPLE_RATE else AudioResampler("flt", "mono", SAMPLE_RATE)

    def __call__(self, samples: Samples) -> Iterator[Samples]:
        from av import AudioFrame

        if self._resampler is None or not samples.size:
            yield samples
            return
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = self._rate
        yield from (out.to_ndarray()[0] for out in self._resampler.resample(frame))

    def rest(self) -> Iterator[Samples]:
        """What is left at the end of the stream."""
        if self._resampler is not None:
            yield from (out.to_ndarray()[0] for out in self._resampler.resample(None))


def from_microphone(device: str | None = None) -> Iterator[Samples]:
    """Samples from a microphone, until the generator is closed.

    Args:
        device: A number or a part of the name, as sounddevice knows devices; None takes the default.

    Raises:
        OptionError: sounddevice is not installed.
        DeviceError: There is no such microphone, or it cannot be opened.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise OptionError(_NO_SOUNDDEVICE) from error
    except OSError as error:
        raise DeviceError(
            f"sounddevice does not run here: {error}; install PortAudio (libportaudio2)"
        ) from error
    chosen: Any = int(device) if device is not None and device.isdecimal() else device
    pieces: queue.SimpleQueue[Samples] = queue.SimpleQueue()

    def heard(data: Any, frames: int, time: Any, status: Any) -> None:
        pieces.put(data[:, 0].copy())

    try:
        rate = _microphone_rate(sounddevice, chosen)
        resample = _Resampler(rate)
        with sounddevice.InputStream(
            device=chosen, channels=1, samplerate=rate, dtype="float32", callback=heard
        ):
            while True:
                yield from resample(pieces.get())
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DeviceError(
            f"the microphone cannot be opened: {error}; `python -m sounddevice` lists the devices"
        ) from error


def _microphone_rate(sounddevice: Any, device: Any) -> int:
    """16 kHz if the device has it, else what it has."""
    try:
        sounddevice.check_input_settings(device=device, channels=1, samplerate=SAMPLE_RATE, dtype="float32")
    except sounddevice.PortAudioError:
        return int(sounddevice.query_devices(device, "input")["default_samplerate"])
    return SAMPLE_RATE


class Pump:
    """Reads a source in a thread, so that nothing is missed while the model is at work.

    Args:
        pieces: The source.
        most: How many seconds may wait. Then the source waits, or, of one that cannot wait, the oldest
            samples are lost.
        loses: Whether the source cannot wait.
    """

    def __init__(self, pieces: Iterator[Samples], most: float = 60.0, loses: bool = False) -> None:
        self.lost = 0
        self._most, self._loses = round(most * SAMPLE_RATE), loses
        self._waiting: deque[Samples] = deque()
        self._count = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(pieces,), daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> Samples | None:
        """All that has come; waits up to ``seconds`` for something.

        Returns:
            (n,) float32, maybe empty; None when the source has ended and all was taken.

        Raises:
            MaxWhisperError: What ended the source, once all before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, seconds)
            parts, self._count = list(self._waiting), 0
            self._waiting.clear()
            self._changed.notify_all()
            if not parts and self._ended:
                if self._error is not None:
                    raise self._error
                return None
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def stop(self) -> None:
        """Takes nothing more from the source; what has come may still be taken."""
        with self._changed:
            self._stopped = self._ended = True
            self._changed.notify_all()

    def _run(self, pieces: Iterator[Samples]) -> None:
        error: BaseException | None = None
        try:
            for piece in pieces:
                if not self._put(piece):
                    break
        except BaseException as found:  # told to whoever takes
            error = found
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def _put(self, piece: Samples) -> bool:
        with self._changed:
            if not self._loses:
                self._changed.wait_for(lambda: self._count < self._most or self._stopped)
            if self._stopped:
                return False
            self._waiting.append(piece)
            self._count += len(piece)
            while self._count > self._most and self._loses and len(self._waiting) > 1:
                oldest = self._waiting.popleft()
                self._count -= len(oldest)
                self.lost += len(oldest)
            self._changed.notify_all()
        return True
