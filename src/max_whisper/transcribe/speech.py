"""The speech of a recording, put together, and the way back to the recording's own time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import HOP_LENGTH, PIECE, SAMPLE_RATE
from max_whisper.transcribe.segments import Progress, Segment, Word

#: A segment that has no more than the padding and these samples, 0.2 s, of a chunk does not speak
#: in it: speech that short before a pause is the detector's delay.
SLIVER = 3200
#: Where more samples than this, 5 s, were left out, one window ends and another begins. Speech
#: from either side of a shorter pause may share a window, and even a segment.
LONG_PAUSE = 5 * SAMPLE_RATE


class SpeechMap:
    """Chunks of a recording, one after the other, and where each moment of them comes from.

    Seconds in the collected speech and seconds in the recording correspond exactly; only a joint,
    where silence was left out, is one moment there and two here.

    Attributes:
        chunks: (first sample, sample after the last) of each, in order, without overlaps.
        length: Samples in the recording.
    """

    def __init__(self, chunks: Sequence[tuple[int, int]], length: int, padding: int = 0) -> None:
        """Takes the chunks.

        Args:
            chunks: See above; none is empty, and each begins where a mel frame does.
            length: Samples in the recording.
            padding: How many samples at the ends of chunks may be without speech.
        """
        self.chunks = tuple(chunks)
        self.length = length
        self._slack = padding + SLIVER
        #: Where each chunk begins in the collected speech, and where that ends.
        self._joints = [0, *accumulate(end - start for start, end in self.chunks)]

    @property
    def frames(self) -> int:
        """Mel frames (10 ms) in the recording."""
        return self.length // HOP_LENGTH

    def collect(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """The chunks of a recording's samples, one after the other and each in pieces of it."""
        for start, end in self.chunks:
            for begin in range(start, end, PIECE):
                yield samples[begin : min(end, begin + PIECE)]

    def collected(self, seconds: float) -> float:
        """How many seconds of collected speech there are before a moment of the recording."""
        sample = _sample(seconds)
        before = bisect_right(self.chunks, sample, key=lambda chunk: chunk[0])
        if before == 0:
            return 0.0
        start, end = self.chunks[before - 1]
        return (self._joints[before - 1] + min(sample, end) - start) / SAMPLE_RATE

    def clips(self, clips: Sequence[float]) -> list[float]:
        """Clips of the recording as clips of the speech, cut where a long silence was left out.

        Args:
            clips: Seconds of the recording, starts and ends in turn; the last end may be missing.

        Returns:
            Seconds of the collected speech, starts and ends in turn.
        """
        bounds = [self.collected(second) for second in clips] or [0.0]
        if len(bounds) % 2:
            bounds.append(self._joints[-1] / SAMPLE_RATE)
        pauses = [after[0] - before[1] for before, after in pairwise(self.chunks)]
        breaks = [at / SAMPLE_RATE for at, pause in zip(self._joints[1:], pauses) if pause > LONG_PAUSE]
        out: list[float] = []
        for start, end in zip(bounds[::2], bounds[1::2]):
            points = [start, *(at for at in breaks if start < at < end), end]
            out.extend(point for part in pairwise(points) for point in part)
        return out

    def original(self, seconds: float) -> float:
        """The moment of the recording that lies at a second of the speech; after a joint's silence."""
        sample = _sample(seconds)
        return self._moment(sample, self._after(sample))

    def interval(self, start: float, end: float) -> tuple[float, float]:
        """When something was said in the recording.

        It begins and ends with a chunk that has more of it than the silence that is kept around
        speech, so a start a little before a joint, or an end a little after it, is not far off.

        Args:
            start: In seconds of the collected speech.
            end: Likewise.
        """
        first, last = _sample(start), _sample(end)
        a, b = self._after(first), self._before(last)
        while a < b and self._joints[a + 1] - first <= self._slack_at(a + 1):
            a += 1
        while a < b and last - self._joints[b] <= self._slack_at(b):
            b -= 1
        return self._moment(first, a), self._moment(last, max(a, b))

    def word(self, word: Word) -> Word:
        """A word with its times in the recording: all of it in the chunk that has its middle."""
        start, end = _sample(word.start), _sample(word.end)
        chunk = self._after((start + end) / 2)
        times = [round(self._moment(sample, chunk), 3) for sample in (start, end)]
        return replace(word, start=times[0], end=times[1])

    def segment(self, segment: Segment) -> Segment:
        """A segment with its times, and those of its words, in the recording; to the millisecond."""
        start, end = (round(time, 3) for time in self.interval(segment.start, segment.end))
        words = segment.words
        if words:
            placed = tuple(map(self.word, words))
            start = placed[0].start if words[0].start == segment.start else start
            end = placed[-1].end if words[-1].end == segment.end else end
            words = placed
        seek = round(self.original(segment.seek * HOP_LENGTH / SAMPLE_RATE) * SAMPLE_RATE / HOP_LENGTH)
        return replace(segment, seek=seek, start=start, end=end, words=words)

    def progress(self, done: int) -> Progress:
        """How far the recording is when so many frames of the speech are done."""
        samples = done * HOP_LENGTH
        if samples + HOP_LENGTH > self._joints[-1]:
            return Progress(self.frames, self.frames)
        return Progress(int(self._moment(samples, self._before(samples)) * 100), self.frames)

    def _after(self, sample: float) -> int:
        """The chunk that a sample of the speech is in; the later one at a joint."""
        return min(max(bisect_right(self._joints, sample) - 1, 0), len(self.chunks) - 1)

    def _before(self, sample: float) -> int:
        """The chunk that a sample of the speech is in; the earlier one at a joint."""
        return min(max(bisect_left(self._joints, sample) - 1, 0), len(self.chunks) - 1)

    def _moment(self, sample: float, chunk: int) -> float:
        """The second of the recording of a sample of the speech, as far as a chunk reaches."""
        start, end = self.chunks[chunk]
        return min(max(start + sample - self._joints[chunk], start), end) / SAMPLE_RATE

    def _slack_at(self, joint: int) -> int:
        """How little of a segment before or behind a joint counts for nothing."""
        return min(self._slack, self.chunks[joint][0] - self.chunks[joint - 1][1])


def _sample(seconds: float) -> float:
    """The place of a second, in samples: the very sample where only rounding lies between."""
    sample = seconds * SAMPLE_RATE
    nearest = round(sample)
    return nearest if abs(sample - nearest) < 1e-3 else sample
