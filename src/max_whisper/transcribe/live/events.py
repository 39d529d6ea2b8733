"""What a live transcription tells as it listens; all times are seconds of the stream."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.transcribe.segments import Language, Segment, Word


@dataclass(frozen=True)
class Agreed:
    """Words that stand: each is told once, in order, and never changes."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words as they are written, with their leading spaces."""
        return "".join(word.word for word in self.words)


@dataclass(frozen=True)
class Tail:
    """What was heard after the agreed words, for now: each one replaces the one before it.

    It is told after every hearing, and is empty where all that was heard is agreed.
    """

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words as they are written, with their leading spaces."""
        return "".join(word.word for word in self.words)


#: What a live transcription tells. A segment comes when its last word has been told as agreed.
LiveEvent = Agreed | Tail | Segment | Language
