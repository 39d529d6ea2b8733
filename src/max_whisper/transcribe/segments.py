"""What transcription gives: segments as they are decoded, and the transcript in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Word:
    """A word with its leading space and the punctuation that clings to it; times in seconds."""

    word: str
    start: float
    end: float
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """The word under openai-whisper's keys."""
        return dict(vars(self))


@dataclass(frozen=True)
class Segment:
    """A stretch of speech between two timestamps.

    Attributes:
        id: Counts the segments of a recording from 0.
        seek: The frame (10 ms) at which the segment's window starts.
        start: Seconds from the recording's start.
        end: Seconds from the recording's start.
        text: The text, with the space it begins with.
        tokens: All its tokens, timestamps too.
        temperature: What its window was decoded with.
        avg_logprob: Of its whole window.
        compression_ratio: Of its whole window.
        no_speech_prob: Of its whole window.
        words: The words with their times, or None where none were asked for.
        speaker: Who says it, where channels are speakers.
        token_logprobs: The log-probability of each of its tokens, or None where they were not asked for.
        language: The code of its window's language, where each window has its own.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] | None = None
    speaker: str | None = None
    token_logprobs: tuple[float, ...] | None = None
    language: str | None = None

    @property
    def line(self) -> str:
        """The text behind its speaker, if one is known."""
        return self.text if self.speaker is None else f" {self.speaker}: {self.text.strip()}"

    def as_dict(self) -> dict[str, Any]:
        """The segment under openai-whisper's keys, and what only some have where there is any."""
        out = {**vars(self), "tokens": list(self.tokens)}
        del out["words"]
        for name in ("speaker", "token_logprobs", "language"):
            if out[name] is None:
                del out[name]
        if self.words is not None:
            out["words"] = [word.as_dict() for word in self.words]
        if self.token_logprobs is not None:
            out["token_logprobs"] = list(self.token_logprobs)
        return out


@dataclass(frozen=True)
class Transcript:
    """A transcribed recording.

    Attributes:
        text: All that was said.
        segments: The text in pieces.
        language: Its code; None where nobody speaks, and no language was chosen. Where speakers have
            different ones, that of whoever says most.
        speakers: Each speaker's own transcript, where channels are speakers; its segments are
            among those above.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    speakers: tuple[tuple[str, Transcript], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The result as openai-whisper's ``transcribe`` returns it; ``speakers`` if there are any."""
        out = {
            "text": self.text,
            "segments": [segment.as_dict() for segment in self.segments],
            "language": self.language,
        }
        if self.speakers:
            out["speakers"] = [
                {"speaker": name, "language": transcript.language, "text": transcript.text}
                for name, transcript in self.speakers
            ]
        return out


@dataclass(frozen=True)
class Language:
    """Told where the language was detected: its code, and its probability.

    Once; where channels are speakers, once for each of them; where each window has a language of its
    own, at each change.

    Attributes:
        code: The language.
        probability: Of this language.
        speaker: Who speaks it, where channels are speakers.
        probabilities: Of each language that it could have been.
    """

    code: str
    probability: float
    speaker: str | None = None
    probabilities: Mapping[str, float] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Progress:
    """How far a recording is: frames (10 ms) done, and all it has."""

    done: int
    total: int


#: What a transcription tells on its way.
Event = Segment | Language | Progress
