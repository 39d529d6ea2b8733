"""The plain method that live transcription is measured against: whisper_streaming's, over our model.

Machacek, Dabre, Bojar (2023), "Turning Whisper into Real-Time Transcription System", with the
defaults of its program: each time a second of audio has come in, the whole buffer is transcribed with
word times, what two transcriptions in a row have in common at their start is agreed, and a buffer of
more than 15 s is cut at the end of a segment that is agreed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from max_whisper.audio import SAMPLE_RATE
from max_whisper.model import Whisper
from max_whisper.transcribe.live import Agreed
from max_whisper.transcribe.segments import Word

PROMPT_CHARACTERS = 200
LONGEST_OVERLAP = 5  # words


class LocalAgreement:
    """Takes samples and gives agreed words, as :class:`max_whisper.transcribe.live.StreamingTranscriber`.

    Args:
        model: A model.
        min_chunk_size: Seconds of new audio that are waited for.
        buffer_trimming_sec: Seconds of audio above which the buffer is cut.
        options: Of the model's ``transcribe``.
    """

    def __init__(
        self, model: Whisper, min_chunk_size: float = 1.0, buffer_trimming_sec: float = 15.0, **options: Any
    ) -> None:
        self._model, self._options = model, options
        self._chunk, self._trimming = round(min_chunk_size * SAMPLE_RATE), buffer_trimming_sec
        self._samples = np.empty(0, np.float32)
        self._unheard = 0
        self._start = 0.0
        self._agreed: list[Word] = []
        self._last: list[Word] = []

    def feed(self, samples: np.ndarray) -> list[Agreed]:
        self._samples = np.concatenate([self._samples, samples])
        self._unheard += len(samples)
        return self._hear() if self._unheard >= self._chunk else []

    def finish(self) -> list[Agreed]:
        events = self._hear() if self._unheard else []
        return [*events, Agreed(tuple(self._last))] if self._last else events

    def _hear(self) -> list[Agreed]:
        self._unheard = 0
        found = self._model.transcribe(
            self._samples, initial_prompt=self._prompt(), word_timestamps=True, **self._options
        )
        now = self._new_words([word for segment in found["segments"] for word in segment["words"]])
        same = 0
        while same < min(len(now), len(self._last)) and now[same].word == self._last[same].word:
            same += 1
        words, self._last = now[:same], now[same:]
        self._agreed += words
        if len(self._samples) > self._trimming * SAMPLE_RATE:
            self._trim([self._start + segment["end"] for segment in found["segments"]])
        return [Agreed(tuple(words))] if words else []

    def _prompt(self) -> str | None:
        """The end of what was said before the buffer."""
        text = "".join(word.word for word in self._agreed if word.end <= self._start)
        return text[-PROMPT_CHARACTERS:].partition(" ")[2] or None

    def _new_words(self, found: Sequence[dict[str, Any]]) -> list[Word]:
        """What was heard after the agreed words, by time, and by words where they overlap."""
        end = self._agreed[-1].end if self._agreed else 0.0
        words = [
            Word(word["word"], self._start + word["start"], self._start + word["end"], word["probability"])
            for word in found
        ]
        words = [word for word in words if word.start > end - 0.1]
        if words and abs(words[0].start - end) < 1:
            for count in range(1, min(LONGEST_OVERLAP, len(words), len(self._agreed)) + 1):
                if [w.word for w in self._agreed[-count:]] == [w.word for w in words[:count]]:
                    return words[count:]
        return words

    def _trim(self, ends: Sequence[float]) -> None:
        """Cuts at the end of the last segment but one, or an earlier one, if that is agreed."""
        settled = [end for end in ends[:-1] if self._agreed and end <= self._agreed[-1].end]
        if settled:
            self._samples = self._samples[round((settled[-1] - self._start) * SAMPLE_RATE) :]
            self._start = settled[-1]
