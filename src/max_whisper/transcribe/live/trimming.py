"""Where the audio of an utterance is cut off that need not be heard again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from max_whisper.transcribe.live.agreement import HeardWord

#: So many seconds of agreed words stay, so that the model hears what it is to go on from.
CONTEXT = 2.0
#: No more silence (seconds) is kept before a word.
SILENCE = 0.2


def cut_before(agreed: Sequence[HeardWord]) -> int:
    """The word before which to cut: the last that begins a sentence, else the one after the longest pause.

    Args:
        agreed: The agreed words whose audio is there.

    Returns:
        Its index, or 0 where none leaves enough before and after itself.
    """
    if not agreed:
        return 0
    places = [i for i in range(1, len(agreed)) if agreed[-1].end - agreed[i].start >= CONTEXT]
    sentences = [i for i in places if agreed[i - 1].ends_sentence]
    if sentences:
        return sentences[-1]
    later = places[len(places) // 2 :]
    pauses = [after.start - before.end for before, after in pairwise(agreed)]
    return max(later, key=lambda i: (pauses[i - 1], i), default=0)


def moment_before(agreed: Sequence[HeardWord], index: int) -> float:
    """The second at which to cut before a word: in the middle of the pause, if that is short."""
    before, after = agreed[index - 1].end, agreed[index].start
    return max((before + after) / 2, after - SILENCE)
