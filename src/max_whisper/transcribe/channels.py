"""Recordings whose channels are speakers, such as calls: each channel is transcribed by itself.

What the channels tell comes in any order, as they are worked on side by side. It is put in order of
time here, by nothing but what they tell, so that it is the same whoever is ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import AudioError
from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript

_PER_SECOND = 100  # frames of progress

#: Starts the transcription of one channel.
Start = Callable[[], Generator[Any, Any, Transcript]]
#: (number, event) of several transcriptions; the last of each is its result, or what ended it.
Told = Iterable[tuple[int, Event | Transcript | Exception]]


def channel_names(count: int, names: Sequence[str]) -> tuple[str, ...]:
    """What the speakers of so many channels are called.

    Raises:
        AudioError: There are names, and not as many as channels.
    """
    if names and len(names) != count:
        raise AudioError(f"the recording has {count} channels, and {len(names)} speakers are named")
    return tuple(names) or tuple(f"Speaker {number}" for number in range(1, count + 1))


def all_the_same(channels: NDArray[np.float32]) -> bool:
    """Whether a recording of (channels, n) samples has one sound in all channels."""
    return bool((channels == channels[0]).all())


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
        told: What the channels tell.
        names: The speakers.
    """
    channels = Channels(names)
    for number, event in told:
        if isinstance(event, Exception):
            raise event
        yield from channels.tell(number, event)
    assert channels.transcript is not None, "a channel ended without a transcript"
    return channels.transcript


def merged_many(
    opens: Iterable[Callable[[], tuple[Sequence[str], Sequence[Start]]]],
    run: Callable[[Iterable[Start]], Told],
) -> Iterator[tuple[int, Event | Transcript | Exception]]:
    """The same for many recordings: yields (number of the recording, event).

    The last of each number is its transcript, or the exception that ended one of its channels.

    Args:
        opens: For each recording, reads it when its turn comes: the speakers, and what starts the
            transcription of each one's channel.
        run: Runs transcriptions, numbered as they are taken.
    """
    places: list[tuple[int, int]] = []  # of each transcription: its recording, and its channel
    speaking: dict[int, Channels] = {}

    def starts() -> Iterator[Start]:
        for recording, open_channels in enumerate(opens):
            try:
                names, each = open_channels()
            except Exception as error:
                names, each = ("",), [partial(_fail, error)]
            speaking[recording] = Channels(names)
            for channel, start in enumerate(each):
                places.append((recording, channel))
                yield start

    for number, event in run(starts()):
        recording, channel = places[number]
        if recording not in speaking:
            continue  # another channel of it has failed
        if isinstance(event, Exception):
            del speaking[recording]
            yield recording, event
            continue
        told = speaking[recording]
        for merged_event in told.tell(channel, event):
            yield recording, merged_event
        if told.transcript is not None:
            del speaking[recording]
            yield recording, told.transcript


def _fail(error: Exception) -> NoReturn:
    raise error
