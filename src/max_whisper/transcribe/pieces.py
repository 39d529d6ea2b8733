"""The pieces of a recording that are transcribed side by side, and the transcript they make together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript

#: What is heard of a piece: its events, and in the end its transcript or the error that ended it.
Heard = Event | Transcript | Exception


class InOrder:
    """Puts what is heard of a recording's pieces in order of time.

    A piece's segments are passed on as they come once all pieces before it have ended; until then
    they wait here.

    Attributes:
        failed: Whether a piece ended in an error, which is then the recording's.
    """

    def __init__(self, lengths: list[int], frames: int) -> None:
        """Takes the pieces' numbers of frames, and the recording's."""
        self.failed = False
        self._lengths = lengths
        self._frames = frames
        self._waiting: list[deque[Heard]] = [deque() for _ in lengths]
        self._turn = 0
        self._done = 0
        self._segments: list[Segment] = []
        self._texts: list[str] = []
        self._language: str | None = None  # the one that was told last
        self._spoken: str | None = None  # the transcript's

    def take(self, piece: int, heard: Heard) -> Iterator[Heard]:
        """Yields what can be told of the recording, now that this is heard of a piece."""
        if self.failed or isinstance(heard, Progress):
            return
        if isinstance(heard, Exception):
            self.failed = True
            yield heard
            return
        self._waiting[piece].append(heard)
        while self._turn < len(self._waiting) and self._waiting[self._turn]:
            yield from self._tell(self._waiting[self._turn].popleft())
        if isinstance(heard, Transcript):
            yield from self._ended(piece)

    def _tell(self, heard: Heard) -> Iterator[Heard]:
        if isinstance(heard, Segment):
            self._segments.append(replace(heard, id=len(self._segments)))
            yield self._segments[-1]
        elif isinstance(heard, Language) and heard.code != self._language:
            self._language = heard.code
            yield heard
        elif isinstance(heard, Transcript):
            self._texts.append(heard.text)
            if self._spoken is None:
                self._spoken = heard.language
            self._turn += 1

    def _ended(self, piece: int) -> Iterator[Heard]:
        self._done += self._lengths[piece]
        total = sum(self._lengths)
        yield Progress(self._frames * self._done // total if total else self._frames, self._frames)
        if self._turn == len(self._lengths):
            yield Transcript("".join(self._texts), tuple(self._segments), self._spoken)
