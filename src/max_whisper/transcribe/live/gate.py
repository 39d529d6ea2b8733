"""Where somebody speaks in a stream: what is let through to the model, and what is not.

The rules are those of :mod:`max_whisper.transcribe.vad`, followed as the samples come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import SAMPLE_RATE
from max_whisper.errors import OptionError
from max_whisper.transcribe.silero import WINDOW
from max_whisper.transcribe.vad import VadOptions, WindowDetector, silero_stream

Samples = NDArray[np.float32]

#: Pauses end an utterance sooner than faster-whisper's 2 s, for somebody waits for its last words.
LIVE_VAD = VadOptions(min_silence_duration_ms=500, speech_pad_ms=300)


@dataclass(frozen=True)
class Stretch:
    """Samples to be heard, which follow those of the stretch before unless that one ended.

    Attributes:
        start: The number of its first sample in the stream.
        samples: (n,) float32; may be empty.
        pauses: Whether a pause has begun whose first part, which is kept, is all here.
        ends: Whether the utterance ends with it.
    """

    start: int
    samples: Samples
    pauses: bool = False
    ends: bool = False


class EverythingGate:
    """Lets everything through, as one utterance."""

    def __init__(self) -> None:
        self._position = 0

    def feed(self, samples: Samples) -> Iterator[Stretch]:
        """The stretches that some samples complete."""
        start = self._position
        self._position += len(samples)
        yield Stretch(start, samples)

    def finish(self) -> Iterator[Stretch]:
        """What is left when the stream ends."""
        yield Stretch(self._position, np.empty(0, np.float32), ends=True)


class SpeechGate:
    """Lets speech through, with what is kept around it; each stretch of speech is an utterance.

    Args:
        options: What counts as speech.
        detect: Gives the probabilities; Silero VAD if None.

    Raises:
        OptionError: For options that need the whole recording, or where Silero VAD is not installed.
    """

    def __init__(self, options: VadOptions = LIVE_VAD, detect: WindowDetector | None = None) -> None:
        if options.max_speech_duration_s != math.inf:
            raise OptionError(
                "VAD max_speech_duration_s has no meaning live: long speech is cut by buffer_trimming_sec"
            )
        self._options = options
        self._detect = detect or silero_stream()
        self._least_pause = options.min_silence_duration_ms * SAMPLE_RATE / 1000
        self._least_speech = options.min_speech_duration_ms * SAMPLE_RATE / 1000
        self._position = 0  # of the first sample that has no probability yet
        self._waiting = np.empty(0, np.float32)
        # What is not let through yet: before speech its padding, in it a part of a pause.
        self._held = np.empty(0, np.float32)
        self._speech: int | None = None  # where the speech began that lasts
        self._pause: int | None = None  # where the pause began that lasts
        self._open = False

    def feed(self, samples: Samples) -> Iterator[Stretch]:
        """The stretches that some samples complete."""
        self._waiting = np.concatenate([self._waiting, samples])
        while len(self._waiting) >= WINDOW:
            window, self._waiting = self._waiting[:WINDOW], self._waiting[WINDOW:]
            yield from self._take(window)

    def finish(self) -> Iterator[Stretch]:
        """What is left when the stream ends."""
        window, self._waiting = self._waiting, self._waiting[:0]
        if len(window):
            yield from self._take(window)
        if self._speech is not None and not self._open and self._long_enough(self._position):
            yield self._let_through()
        if self._open:
            yield self._end()

    def _take(self, window: Samples) -> Iterator[Stretch]:
        probability = self._detect(window)
        here, self._position = self._position, self._position + len(window)
        self._held = np.concatenate([self._held, window])
        options = self._options
        if probability >= options.threshold:
            self._speech = here if self._speech is None else self._speech
            self._pause = None
        elif self._speech is not None and probability < options.pause_threshold:
            self._pause = here if self._pause is None else self._pause
        if self._speech is None:
            self._held = self._held[-options.padding :] if options.padding else self._held[:0]
            return
        if self._pause is None:
            if self._open or self._long_enough(self._position):
                yield self._let_through()
            return
        if self._open:
            yield from self._pass_padding(self._pause)
        if self._position - self._pause >= self._least_pause:
            if self._open:
                yield self._end()
            self._speech = self._pause = None

    def _long_enough(self, end: int) -> bool:
        """Whether the speech is long enough to count, if it ends there."""
        assert self._speech is not None
        last = end if self._pause is None else self._pause
        return last - self._speech > self._least_speech

    def _let_through(self) -> Stretch:
        self._open = True
        return self._pass(len(self._held))

    def _pass_padding(self, pause: int) -> Iterator[Stretch]:
        """Lets as much of a pause through as is kept after speech."""
        passed = self._position - len(self._held)
        room = pause + self._options.padding - passed
        if room > 0:
            yield self._pass(min(room, len(self._held)), pauses=room <= len(self._held))

    def _pass(self, count: int, pauses: bool = False) -> Stretch:
        start = self._position - len(self._held)
        samples, self._held = self._held[:count], self._held[count:]
        return Stretch(start, samples, pauses)

    def _end(self) -> Stretch:
        self._open = False
        self._speech = self._pause = None
        start = self._position - len(self._held)
        padding = self._options.padding
        self._held = self._held[-padding:] if padding else self._held[:0]
        return Stretch(start, np.empty(0, np.float32), ends=True)
