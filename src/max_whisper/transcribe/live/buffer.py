"""The audio of an utterance that is still to be heard again, and its place in the stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from max_whisper.audio import N_SAMPLES, SAMPLE_RATE


class AudioBuffer:
    """At most 30 seconds of samples, whatever the length of the stream.

    Attributes:
        start: The number of its first sample in the stream.
        unheard: How many samples were added since :meth:`mark_heard`.
    """

    def __init__(self) -> None:
        self.start = 0
        self.unheard = 0
        self._size = 0
        self._samples = np.zeros(N_SAMPLES, np.float32)

    @property
    def samples(self) -> NDArray[np.float32]:
        """(n,) float32, valid until the buffer changes."""
        return self._samples[: self._size]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self._size / SAMPLE_RATE

    @property
    def begins(self) -> float:
        """The second of the stream at which it starts."""
        return self.start / SAMPLE_RATE

    @property
    def ends(self) -> float:
        """The second of the stream at which it ends."""
        return (self.start + self._size) / SAMPLE_RATE

    def append(self, samples: NDArray[np.float32]) -> None:
        """Adds samples; there must be room for them."""
        self._samples[self._size : self._size + len(samples)] = samples
        self._size += len(samples)
        self.unheard += len(samples)

    def mark_heard(self) -> None:
        """All that is there has been heard."""
        self.unheard = 0

    def cut(self, second: float) -> None:
        """Forgets what lies before a second of the stream."""
        count = min(max(round(second * SAMPLE_RATE) - self.start, 0), self._size)
        self._samples[: self._size - count] = self._samples[count : self._size].copy()
        self.start += count
        self._size -= count

    def restart(self, start: int) -> None:
        """Empties it, for samples that begin elsewhere in the stream."""
        self.start, self.unheard, self._size = start, 0, 0
