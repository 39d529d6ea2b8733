"""Recordings whose channels are speakers, such as calls: each channel is transcribed by itself.

What the channels tell comes in any order, as they are worked on side by side. It is put in order of
time here, by nothing but what they tell, so that it is the same whoever is ahead.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.audio import AudioSource, as_channels
from max_whisper.errors import AudioError, AudioWarning
from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript

_PER_SECOND = 100  # frames of progress

Samples = NDArray[np.float32]
#: The speakers of a recording, and their channels (channels, n).
Opened = tuple[tuple[str, ...], Samples]
#: (number, event) of several transcriptions; the last of each is its result, or what ended it.
Told = Generator[tuple[int, Event | Transcript | Exception], None, None]


def opened(audio: AudioSource | ArrayLike, names: Sequence[str] = ()) -> Opened:
    """Reads a recording: what its speakers are called, and their channels.

    Args:
        audio: As in :func:`max_whisper.audio.as_channels`.
        names: Of the speakers, in the channels' order; "Speaker 1" and so on if there are none.

    Raises:
        AudioError: It can't be read, has one channel, or another number of them than of names.

    Warns:
        AudioWarning: All channels have the same sound.
    """
    channels = as_channels(audio)
    count = len(channels)
    if names and len(names) != count:
        raise AudioError(f"the recording has {count} channels, and {len(names)} speakers are named")
    if (channels == channels[0]).all():
        warnings.warn(
            f"all {count} channels have the same sound: each will have the same text",
            AudioWarning,
            stacklevel=2,
        )
    return tuple(names) or tuple(f"Speaker {number}" for number in range(1, count + 1)), channels


class Channels:
    """Puts together what the channels of one recording tell.

    Args:
        names: The speakers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        #: Of each channel: segments that wait, each with the moment that it takes its turn by.
        self._waiting: list[deque[tuple[float, Segment]]] = [deque() for _ in names]
        #: Of each channel: no later segment takes its turn before this moment, in seconds.
        self._reached = [0.0] * len(names)
        self._progress = [Progress(0, 0)] * len(names)
        self._transcripts: dict[int, Transcript] = {}
        self._segments: list[Segment] = []

    @property
    def transcript(self) -> Transcript | None:
        """The transcript of the recording, once the last channel has told its own."""
        if len(self._transcripts) < len(self._names):
            return None
        own = []
        for channel, name in enumerate(self._names):
            segments = tuple(segment for segment in self._segments if segment.speaker == name)
            own.append((name, replace(self._transcripts[channel], segments=segments)))
        text = "".join(segment.text for segment in self._segments)
        _, talker = max(own, key=lambda each: len(each[1].text))
        return Transcript(text, tuple(self._segments), talker.language, tuple(own))

    def tell(self, channel: int, event: Event | Transcript) -> Iterable[Event]:
        """Takes what a channel tells, the last of it being its transcript.

        Yields:
            What can be told of the recording by now: segments in order of time, numbered anew.
        """
        if isinstance(event, Language):
            yield replace(event, speaker=self._names[channel])
        elif isinstance(event, Segment):
            # A segment may start a little before one that was told before it; its turn does not.
            turn = max(self._reached[channel], event.start)
            self._reached[channel] = turn
            self._waiting[channel].append((turn, replace(event, speaker=self._names[channel])))
        elif isinstance(event, Progress):
            self._progress[channel] = event
            self._reached[channel] = max(self._reached[channel], event.done / _PER_SECOND)
            yield from self._due()
            done = sum(progress.done for progress in self._progress) // len(self._names)
            yield Progress(done, event.total)
        else:
            self._transcripts[channel] = event
            self._reached[channel] = float("inf")
            yield from self._due()

    def _due(self) -> Iterable[Segment]:
        """Takes out the segments that nothing can come before any more."""
        while True:
            turns = [
                (waiting[0][0] if waiting else reached, number)
                for number, (waiting, reached) in enumerate(zip(self._waiting, self._reached))
            ]
            _, first = min(turns)
            if not self._waiting[first]:
                return
            _, segment = self._waiting[first].popleft()
            segment = replace(segment, id=len(self._segments))
            self._segments.append(segment)
            yield segment


def merged(told: Told, names: Sequence[str]) -> Generator[Event, None, Transcript]:
    """Yields the events of one recording from those of its channels, and returns its transcript.

    An exception that ends a channel is raised.

    Args:
        told: What the channels tell; closed in the end.
        names: The speakers.
    """
    channels = Channels(names)
    with closing(told):
        for number, event in told:
            if isinstance(event, Exception):
                raise event
            yield from channels.tell(number, event)
    assert channels.transcript is not None, "a channel ended without a transcript"
    return channels.transcript


def merged_many(opens: Iterable[Callable[[], Opened]], run: Callable[[Iterable[Samples]], Told]) -> Told:
    """The same for many recordings: yields (number of the recording, event).

    The last of each number is its transcript, or the exception that ended one of its channels.

    Args:
        opens: For each recording, reads it when its turn comes: the speakers, and their channels.
        run: Transcribes channels, numbered as they are taken; closed in the end.
    """
    places: list[tuple[int, int]] = []  # of each transcription: its recording, and its channel
    speaking: dict[int, Channels] = {}
    failed: deque[tuple[int, Exception]] = deque()

    def flat() -> Iterator[Samples]:
        for recording, open_channels in enumerate(opens):
            try:
                names, channels = open_channels()
            except Exception as error:
                failed.append((recording, error))
                continue
            speaking[recording] = Channels(names)
            for number, channel in enumerate(channels):
                places.append((recording, number))
                yield channel

    with closing(run(flat())) as told:
        for number, event in told:
            while failed:
                yield failed.popleft()
            recording, channel = places[number]
            if recording not in speaking:
                continue  # another channel of it has failed
            if isinstance(event, Exception):
                del speaking[recording]
                yield recording, event
                continue
            own = speaking[recording]
            for merged_event in own.tell(channel, event):
                yield recording, merged_event
            if own.transcript is not None:
                del speaking[recording]
                yield recording, own.transcript
    yield from failed
