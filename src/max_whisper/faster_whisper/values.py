"""What transcription returns: the fields of faster-whisper's dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from max_whisper.transcribe import segments
from max_whisper.transcribe.vad import VadOptions


@dataclass
class Word:
    """A word with its leading space; times in seconds."""

    start: float
    end: float
    word: str
    probability: float


@dataclass
class Segment:
    """A stretch of speech; ``id`` counts from 1."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None
    temperature: float | None

    @classmethod
    def of(cls, number: int, segment: segments.Segment) -> Segment:
        """A segment of this package's under a number."""
        words = segment.words
        return cls(
            id=number,
            seek=segment.seek,
            start=segment.start,
            end=segment.end,
            text=segment.text,
            tokens=list(segment.tokens),
            avg_logprob=segment.avg_logprob,
            compression_ratio=segment.compression_ratio,
            no_speech_prob=segment.no_speech_prob,
            words=None if words is None else [Word(w.start, w.end, w.word, w.probability) for w in words],
            temperature=segment.temperature,
        )


@dataclass
class TranscriptionOptions:
    """The options of a transcription, as they were given."""

    beam_size: int
    best_of: int
    patience: float
    length_penalty: float
    repetition_penalty: float
    no_repeat_ngram_size: int
    log_prob_threshold: float | None
    no_speech_threshold: float | None
    compression_ratio_threshold: float | None
    condition_on_previous_text: bool
    prompt_reset_on_temperature: float
    temperatures: Sequence[float]
    initial_prompt: str | Sequence[int] | None
    prefix: str | None
    suppress_blank: bool
    suppress_tokens: Sequence[int] | None
    without_timestamps: bool
    max_initial_timestamp: float
    word_timestamps: bool | Literal["fast"]
    prepend_punctuations: str
    append_punctuations: str
    multilingual: bool
    max_new_tokens: int | None
    clip_timestamps: Any
    hallucination_silence_threshold: float | None
    hotwords: str | None


@dataclass
class TranscriptionInfo:
    """What is known of a recording before its first segment.

    Attributes:
        language: Its code; None where the voice activity filter finds nobody who speaks.
        language_probability: 1 where the language was given, 0 where it is not known.
        duration: Of the recording, in seconds.
        duration_after_vad: Of what is heard of it.
        all_language_probs: Codes and probabilities, most probable first, if it was detected.
        transcription_options: As they were given.
        vad_options: Those of the voice activity filter, if it ran.
    """

    language: str | None
    language_probability: float
    duration: float
    duration_after_vad: float
    all_language_probs: list[tuple[str, float]] | None
    transcription_options: TranscriptionOptions
    vad_options: VadOptions | None
